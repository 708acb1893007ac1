"""CIFAR-FS and FC100: two few-shot splits of CIFAR-100 (100 classes × 600 images, 32×32 RGB).

CIFAR-FS: Bertinetto et al., ICLR 2019, 64/16/20 classes at random. FC100: Oreshkin et al., NeurIPS 2018,
60/20/20 classes by superclass (12/4/4), so that test classes are less like the training classes.
Both merge the train and the test set of CIFAR-100.
"""

import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from innerloop.core.episodes import ClassImages
from innerloop.data.decode import decode
from innerloop.data.lists import split_lines
from innerloop.data.places import DataCorrupt, find
from innerloop.data.progress import Progress, silent
from innerloop.data.recipe import Recipe
from innerloop.data.sources import CIFAR_FS, missing
from innerloop.data.tree import open_tree
from innerloop.data.unpickle import unpickle

CLASSES, PER_CLASS = 100, 600


def load_cifar_fs(
    *,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """CIFAR-100 with the CIFAR-FS split, 64/16/20 classes. Raises DataMissing, DataCorrupt."""
    lists = split_lines("cifar_fs")
    return _with_splits("cifar_fs", RECIPE.load(data_dir, cache_dir, progress), lists)


def load_fc100(
    *,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """CIFAR-100 with the FC100 split, 60/20/20 classes. Raises DataMissing, DataCorrupt."""
    lists = {
        split: [name for line in lines for name in line.split(" ")[1:]]  # SUPERCLASS CLASS CLASS …
        for split, lines in split_lines("fc100").items()
    }
    return _with_splits("fc100", RECIPE.load(data_dir, cache_dir, progress), lists)


def _with_splits(name: str, data: ClassImages, lists: dict[str, list[str]]) -> ClassImages:
    number = {c: i for i, c in enumerate(data.class_names)}
    return replace(data, name=name, splits={s: tuple(number[c] for c in sorted(names)) for s, names in lists.items()})


def locate(root: Path) -> list[Path]:
    """The archive (or folder) with CIFAR-100 in either layout; raises DataMissing."""
    archive = CIFAR_FS.archives[0]
    path = find(root, CIFAR_FS.folders, (archive.file, *archive.alternatives))
    if path is None:
        raise missing(CIFAR_FS, archive.file, root)
    return [path]


def read(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """All 100 classes with 600 images each, or DataCorrupt; the same tensor from either layout."""
    (path,) = paths
    official = path.name.endswith(".tar.gz") or (path / "train").is_file()
    data = read_official(path, progress) if official else read_pictures(path, progress)
    if len(data.class_names) != CLASSES or data.count.tolist() != [PER_CLASS] * CLASSES:
        raise DataCorrupt(
            f"{path} holds {len(data.images)} images in {len(data.class_names)} classes, "
            f"CIFAR-100 has {CLASSES} classes × {PER_CLASS}"
        )
    return data


RECIPE = Recipe(CIFAR_FS, "32x32 rgb by file name 1", "cifar100-32.safetensors", locate, read)


def read_pictures(path: Path, progress: Progress = silent) -> ClassImages:
    """The layout of CIFAR-FS: …/data/CLASS/FILE.png in a zip or a folder; sorted by class, then file."""
    with open_tree(path) as tree:
        files = {}
        for name in tree.paths:
            parts = name.split("/")
            if len(parts) >= 2 and name.endswith(".png"):
                files.setdefault(parts[-2], []).append((tree, name))
        ordered = {name: files[name] for name in sorted(files)}
        return decode("cifar100", ordered, size=32, channels=3, progress=progress)


def read_official(path: Path, progress: Progress = silent) -> ClassImages:
    """The official layout: pickles `train`, `test`, `meta` in cifar-100-python.tar.gz, or in its folder."""
    progress("reading cifar100", 0, 3)
    content = _members(path)
    pixels, labels, names = [], [], []
    meta = unpickle(content["meta"], f"{path}/meta")
    for done, part in enumerate(("train", "test"), start=1):
        batch = unpickle(content[part], f"{path}/{part}")
        try:
            pixels.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels += [int(label) for label in batch["fine_labels"]]
            names += [str(name) for name in batch["filenames"]]
        except (KeyError, TypeError, ValueError) as e:
            raise DataCorrupt(f"{path}/{part} is not a part of CIFAR-100: {e!r}") from e
        progress("reading cifar100", done, 3)
    images = np.concatenate(pixels)
    classes = meta.get("fine_label_names") if isinstance(meta, dict) else None
    if not isinstance(classes, list) or not len(images) == len(labels) == len(names):
        raise DataCorrupt(f"{path} is not CIFAR-100: images, labels and names do not match")
    if labels and not 0 <= min(labels) <= max(labels) < len(classes):
        raise DataCorrupt(f"{path}: a label is outside the {len(classes)} classes")
    order = sorted(range(len(images)), key=lambda i: (classes[labels[i]], names[i]))
    count = torch.bincount(torch.tensor(labels, dtype=torch.int64), minlength=len(classes))
    by_name = sorted(range(len(classes)), key=lambda c: classes[c])
    progress("reading cifar100", 3, 3)
    count = count[by_name]
    return ClassImages(
        "cifar100",
        torch.from_numpy(images[order]),
        count.cumsum(0) - count,
        count,
        torch.zeros_like(count),
        tuple(classes[c] for c in by_name),
    )


def _members(path: Path) -> dict[str, bytes]:
    wanted = ("train", "test", "meta")
    content: dict[str, bytes] = {}
    try:
        if path.is_dir():
            content = {name: (path / name).read_bytes() for name in wanted if (path / name).is_file()}
        else:
            with tarfile.open(path, "r:gz") as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    file = archive.extractfile(member) if name in wanted and member.isfile() else None
                    if file is not None:
                        content[name] = file.read()
    except (OSError, tarfile.TarError, zlib.error, EOFError) as e:
        raise DataCorrupt(f"{path} cannot be unpacked ({e}); delete it and get it again") from e
    if absent := [name for name in wanted if name not in content]:
        raise DataCorrupt(f"{path} has no {' and no '.join(absent)} in it: it is not CIFAR-100 for Python")
    return content
