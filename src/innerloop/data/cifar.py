"""CIFAR-FS and FC100: two few-shot splits of CIFAR-100 (100 classes × 600 images, 32×32 RGB).

CIFAR-FS: Bertinetto et al., ICLR 2019, 64/16/20 classes at random. FC100: Oreshkin et al., NeurIPS 2018,
60/20/20 classes by superclass (12/4/4), so that test classes are less like the training classes.
Both merge the train and the test set of CIFAR-100.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core.episodes import ClassImages
from innerloop.data.archive import open_archive
from innerloop.data.bounded import read_file, tar_files
from innerloop.data.dataset import Dataset, Download
from innerloop.data.decode import decode
from innerloop.data.paths import DataCorrupt
from innerloop.data.progress import Progress, silent
from innerloop.data.splits import split_lines
from innerloop.data.unpickle import unpickle

T = TypeVar("T", int, str)
CLASSES, PER_CLASS = 100, 600
PICKLE = 1 << 29
"""bytes of a pickle: 154 MB of pixels, at three times their size in the oldest protocol"""


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


def read_pictures(path: Path, progress: Progress = silent) -> ClassImages:
    """The layout of CIFAR-FS: …/data/CLASS/FILE.png in a zip or a folder; sorted by class, then file."""
    with open_archive(path) as archive:
        files = {}
        for name in archive.paths:
            parts = name.split("/")
            if len(parts) >= 2 and name.endswith(".png"):
                files.setdefault(parts[-2], []).append((archive, name))
        ordered = {name: files[name] for name in sorted(files)}
        return decode("cifar100", ordered, size=32, channels=3, progress=progress)


def read_official(path: Path, progress: Progress = silent) -> ClassImages:
    """The official layout: pickles `train`, `test`, `meta` in cifar-100-python.tar.gz, or in its folder."""
    progress("reading cifar100", 0, 3)
    content = _members(path)
    pixels: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    names: list[str] = []
    for done, part in enumerate(("train", "test"), start=1):
        match unpickle(content[part], f"{path}/{part}"):
            case {"data": np.ndarray() as data, "fine_labels": numbers, "filenames": files} if (
                data.dtype == np.uint8 and data.shape[1:] == (3 * 32 * 32,)
            ):
                pixels.append(data.reshape(-1, 3, 32, 32))
                labels += _each(numbers, int, f"{path}/{part}: fine_labels")
                names += _each(files, str, f"{path}/{part}: filenames")
            case _:
                raise DataCorrupt(f"{path}/{part} is not a part of CIFAR-100: data, fine_labels and filenames")
        progress("reading cifar100", done, 3)
    images = np.concatenate(pixels)
    match unpickle(content["meta"], f"{path}/meta"):
        case {"fine_label_names": found}:
            classes = _each(found, str, f"{path}/meta: fine_label_names")
        case _:
            raise DataCorrupt(f"{path}/meta has no fine_label_names: it is not that of CIFAR-100")
    if not len(images) == len(labels) == len(names):
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


def _each(values: Any, kind: type[T], name: str) -> list[T]:
    """The list (or array) as a list, if each is of that kind."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, list):
        raise DataCorrupt(f"{name} is a {type(values).__name__}, not a list")
    values = [v.item() if isinstance(v, np.generic) else v for v in values]
    if bad := [v for v in values if type(v) is not kind]:
        raise DataCorrupt(f"{name} holds a {type(bad[0]).__name__}, which is no {kind.__name__}")
    return values


def _members(path: Path) -> dict[str, bytes]:
    wanted = ("train", "test", "meta")
    content: dict[str, bytes] = {}
    if path.is_dir():
        try:
            content = {name: read_file(path / name, PICKLE) for name in wanted if (path / name).is_file()}
        except OSError as e:
            raise DataCorrupt(f"{path} cannot be read: {e}") from e
    else:
        for name, read_whole in tar_files(path, path):
            if (last := name.rsplit("/", 1)[-1]) in wanted:
                if last in content:
                    raise DataCorrupt(f"{path} has two files called {last}; get it again")
                content[last] = read_whole(PICKLE)
    if absent := [name for name in wanted if name not in content]:
        raise DataCorrupt(f"{path} has no {' and no '.join(absent)} in it: it is not CIFAR-100 for Python")
    return content


def by_superclass(_: Sequence[str]) -> dict[str, list[str]]:
    """The split of FC100, from lines SUPERCLASS CLASS CLASS …"""
    lists = split_lines("fc100")
    return {split: sorted(name for line in lines for name in line.split(" ")[1:]) for split, lines in lists.items()}


_CITATION = "A. Krizhevsky. Learning multiple layers of features from tiny images. Technical report, 2009. "
CIFAR_FS = Dataset(
    name="cifar_fs",
    title="CIFAR-FS: CIFAR-100, 64/16/20 classes at random",
    shape=(3, 32, 32),
    read=read,
    splits=lambda _: split_lines("cifar_fs"),
    domain="objects",
    version="32x32 rgb by file name 1",
    cache="cifar100-32.safetensors",
    folders=("cifar_fs", "fc100", "cifar100"),
    files=(
        Download(
            "cifar-100-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            169_001_437,
            "eb9058c3a382ffc7106e4002c42a8d85",
            ("9c2e5ed68595c209aac11c6a7a705d325172fc92813f9de0d9ba2aa39f4e52d8",),  # re-packed as cifar100.zip
            ("cifar100.zip", "cifar-100-python", "cifar100"),
        ),
    ),
    by_hand="put cifar-100-python.tar.gz (official), or cifar100.zip as CIFAR-FS lays it out (data/CLASS/FILE.png), "
    "or either unpacked,",
    classes=CLASSES,
    images=CLASSES * PER_CLASS,
    licence="none stated by upstream, which asks for the citation",
    citation=_CITATION + "Split: L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi. "
    "Meta-learning with differentiable closed-form solvers. ICLR 2019.",
)
FC100 = replace(
    CIFAR_FS,
    name="fc100",
    title="FC100: CIFAR-100, 60/20/20 classes by superclass",
    splits=by_superclass,
    citation=_CITATION + "Split: B. N. Oreshkin, P. Rodriguez, A. Lacoste. TADAM: Task dependent adaptive "
    "metric for improved few-shot learning. NeurIPS 2018.",
)
