"""Caltech-101: 101 classes of objects, 31 to 800 photographs each (Fei-Fei, Fergus, Perona, CVPR workshop 2004).

No few-shot split of it is standard. The one used here, 64/16/21 classes, is a draw that anybody can repeat
(`draw_split`) and is shipped as lists, splits/caltech101/*.txt. Names that show one subject twice stay in one split
(`TOGETHER`).
"""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from innerloop.core.episodes import ClassImages
from innerloop.core.random import stream
from innerloop.data.bounded import PICTURE, Contents, tar_files
from innerloop.data.lists import split_lines
from innerloop.data.picture import opened
from innerloop.data.places import DataCorrupt, find
from innerloop.data.progress import Progress, silent
from innerloop.data.recipe import Recipe
from innerloop.data.sources import CALTECH101, missing
from innerloop.data.tree import open_tree
from innerloop.errors import InnerloopError, brief, shown

CLASSES, IMAGES = CALTECH101.classes, CALTECH101.images
INNER = "101_ObjectCategories.tar.gz"
"""the archive of images inside the official caltech-101.zip"""
BACKGROUND = "BACKGROUND_Google"
"""pictures of anything at all: no class"""
TOGETHER = (
    ("Faces", "Faces_easy"),  # the same photographs, whole and cut out
    ("cougar_body", "cougar_face"),
    ("crocodile", "crocodile_head"),
    ("flamingo", "flamingo_head"),
)
"""classes of one subject: a split must not train on one and test on the other"""


def load_caltech101(
    size: int = 84,
    *,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """The 101 classes as size×size RGB, 64/16/21 classes; 84 as mini-ImageNet, 32 as CIFAR-FS.

    Raises ValueError for a size below 1, DataMissing, DataCorrupt.
    """
    data = recipe(size).load(data_dir, cache_dir, progress)
    number = {c: i for i, c in enumerate(data.class_names)}
    splits = {split: tuple(number[c] for c in names) for split, names in split_lines("caltech101").items()}
    return replace(data, splits=splits)


def recipe(size: int = 84) -> Recipe:
    """How the classes are read as size×size RGB; each size has a cache file of its own."""
    if size < 1:
        raise InnerloopError(f"caltech101: size must be at least 1 pixel, got {size}")

    def read_size(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
        return read(paths, size, progress)

    version, file = f"{size}x{size} rgb centre lanczos 1", f"caltech101-{size}.safetensors"
    return Recipe(CALTECH101, version, file, locate, read_size)


def locate(root: Path) -> list[Path]:
    """The official zip, the tar.gz in it, or that unpacked, under the data folder; raises DataMissing."""
    archive = CALTECH101.archives[0]
    path = find(root, CALTECH101.folders, (archive.file, *archive.alternatives))
    if path is None:
        raise missing(CALTECH101, archive.file, root)
    return [path]


def read(paths: Sequence[Path], size: int, progress: Progress = silent) -> ClassImages:
    """All 101 classes with their 8,677 images, or DataCorrupt."""
    (path,) = paths
    data = read_pictures(path, size, progress)
    if (len(data.class_names), len(data.images)) != (CLASSES, IMAGES):
        raise DataCorrupt(
            f"{path} holds {len(data.images)} images in {len(data.class_names)} classes (without {BACKGROUND}); "
            f"Caltech-101 has {IMAGES} in {CLASSES}"
        )
    return data


def read_pictures(path: Path, size: int, progress: Progress = silent) -> ClassImages:
    """Every …/101_ObjectCategories/CLASS/FILE.jpg but the background's; sorted by class, then by file name."""
    found: dict[str, dict[str, NDArray[np.uint8]]] = {}
    done = 0
    for name, content in _files(path):
        parts = name.split("/")
        if not name.endswith(".jpg") or len(parts) < 2 or parts[-2] == BACKGROUND or parts[-1].startswith("."):
            continue
        of_class = found.setdefault(parts[-2], {})
        if parts[-1] in of_class:
            raise DataCorrupt(f"{shown(path)} has two files called {brief(name)}; get it again")
        of_class[parts[-1]] = square(content(PICTURE), size, f"{brief(name)} in {shown(path)}")
        done += 1
        if done % 500 == 0:
            progress("reading caltech101", done, IMAGES)
    if not found:
        raise DataCorrupt(f"{path} has no images laid out as 101_ObjectCategories/CLASS/FILE.jpg")
    progress("reading caltech101", done, done)
    per_class = [torch.from_numpy(np.stack([found[c][f] for f in sorted(found[c])])) for c in sorted(found)]
    return ClassImages.from_tensors("caltech101", per_class, sorted(found))


def square(content: bytes, size: int, name: str) -> NDArray[np.uint8]:
    """Decode an image to uint8 RGB [3, size, size]: its middle square, resized by Lanczos.

    The crop keeps the proportions of the object, at the price of the ends of long pictures. `name` stands for the file
    in the one error, DataCorrupt.
    """
    try:
        whole = opened(BytesIO(content), "RGB")
    except InnerloopError as e:
        raise DataCorrupt(f"cannot read the image {name}: {e}") from e
    middle = ImageOps.fit(whole, (size, size), method=Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.array(middle, dtype=np.uint8).transpose(2, 0, 1))


def draw_split(class_names: Sequence[str], seed: int = 0) -> dict[str, tuple[str, ...]]:
    """How the shipped split was drawn, with seed 0.

    Subjects (a group of `TOGETHER`, or one class) come in an order drawn from `seed`; the first that fit fill train up
    to 64 classes, the next that fit val up to 16, the rest are test. Names come out sorted.
    """
    group = {name: names for names in TOGETHER for name in names}
    subjects = sorted({group.get(name, (name,)) for name in class_names})
    order = torch.randperm(len(subjects), generator=stream(seed, "caltech101", "class split")).tolist()
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for subject in (subjects[i] for i in order):
        for split, most in (("train", 64), ("val", 16), ("test", len(class_names))):
            if len(splits[split]) + len(subject) <= most:
                splits[split] += subject
                break
    return {split: tuple(sorted(names)) for split, names in splits.items()}


def _files(path: Path) -> Contents:
    """The files of a folder, of a tar.gz, or of the tar.gz in a zip, which is never unpacked; raises DataCorrupt."""
    if not path.is_dir() and path.suffix != ".zip":
        yield from tar_files(path, path)
        return
    with open_tree(path) as tree:
        if tree.archive is None:
            yield from ((name, lambda _, name=name: tree.read(name)) for name in tree.paths)
            return
        inner = [name for name in tree.paths if name.rsplit("/", 1)[-1] == INNER]
        if not inner:
            raise DataCorrupt(f"{path} has no {INNER} in it: it is not Caltech-101")
        with tree.open(inner[0]) as archive:
            yield from tar_files(archive, path)
