"""Caltech-101: 101 classes of objects, 31 to 800 photographs each (Fei-Fei, Fergus, Perona, CVPR workshop 2004).

No few-shot split of it is standard. The one used here, 64/16/21 classes, is a draw that anybody can repeat
(`draw_split`) and is shipped as lists, splits/caltech101/*.txt. Names that show one subject twice stay in one split
(`TOGETHER`).
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from innerloop.core.episodes import ClassImages
from innerloop.core.random import generator_for
from innerloop.data.archive import open_archive
from innerloop.data.bounded import PICTURE, Contents, tar_files
from innerloop.data.dataset import Dataset, Download
from innerloop.data.paths import DataCorrupt
from innerloop.data.picture import opened
from innerloop.data.progress import Progress, silent
from innerloop.data.splits import split_lines
from innerloop.errors import InnerloopError, brief, shown

CLASSES, IMAGES = 101, 8_677
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
    order = torch.randperm(len(subjects), generator=generator_for(seed, "caltech101", "class split")).tolist()
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
    with open_archive(path) as archive:
        if archive.zipped is None:
            yield from ((name, lambda _, name=name: archive.read(name)) for name in archive.paths)
            return
        inner = [name for name in archive.paths if name.rsplit("/", 1)[-1] == INNER]
        if not inner:
            raise DataCorrupt(f"{path} has no {INNER} in it: it is not Caltech-101")
        with archive.open(inner[0]) as packed:
            yield from tar_files(packed, path)


THINGS = {
    "Faces": ("baby", "boy", "girl", "man", "woman"),
    "Faces_easy": ("baby", "boy", "girl", "man", "woman"),
    "Leopards": ("leopard",),
    "Motorbikes": ("motorcycle",),
    "brontosaurus": ("dinosaur",),
    "cellphone": ("telephone",),
    "crocodile_head": ("crocodile",),
    "hawksbill": ("turtle",),
    "stegosaurus": ("dinosaur",),
    "windsor_chair": ("chair",),
}
"""class -> classes of CIFAR-100 that are the same thing, of its kind, or contain it; else the same name.
What is merely alike, such as crayfish and lobster or watch and clock, are other things."""


def concepts(name: str, across: bool) -> frozenset[str]:  # noqa: ARG001
    """The things that a class shows, by the names of CIFAR-100."""
    return frozenset(THINGS.get(name, (name.lower(),)))


def caltech101(size: int = 84) -> Dataset:
    """The data set as size×size RGB: 84 as mini-ImageNet, 32 as CIFAR-FS; each size has a cache file of its own."""
    if size < 1:
        raise InnerloopError(f"caltech101: size must be at least 1 pixel, got {size}")
    return Dataset(
        name="caltech101",
        title="Caltech-101, the middle square of each photograph, 84×84 RGB (other sizes on request)",
        shape=(3, size, size),
        read=lambda paths, progress: read(paths, size, progress),
        splits=lambda _: split_lines("caltech101"),
        domain="objects",
        concepts=concepts,
        version=f"{size}x{size} rgb centre lanczos 1",
        cache=f"caltech101-{size}.safetensors",
        sized=caltech101,
        folders=("caltech101", "caltech-101", "caltech101_short84"),
        files=(
            Download(
                # Size and checksum are the ones that other libraries demand of this file (TensorFlow Datasets: size and
                # SHA-256 3312…1f91; several projects: MD5). The download itself has not been tried from here.
                "caltech-101.zip",
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                137_414_764,
                "3138e1922a9193bfa496528edbbc45d0",
                (
                    # the tar.gz as once offered alone
                    "af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
                    # re-packed, shorter side 84 pixels
                    "ce7049d7368d2add1efcff56fba610d66d688b49ff08d3445576d6b96a0ad3ff",
                ),
                ("101_ObjectCategories.tar.gz", "101_ObjectCategories"),
            ),
        ),
        by_hand="put caltech-101.zip, or the 101_ObjectCategories.tar.gz in it, or that unpacked,",
        classes=CLASSES,
        images=IMAGES,
        licence="CC BY 4.0, as public cards of the data set state it (upstream's record itself was not read)",
        citation="L. Fei-Fei, R. Fergus, P. Perona. Learning generative visual models from few training examples. "
        "CVPR workshop 2004.",
    )


CALTECH101 = caltech101()
