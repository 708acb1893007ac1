"""Is a data set whole? Its files are hashed, every image is read, and classes and images are counted."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from innerloop.core.episodes import ClassImages
from innerloop.data import caltech101, cifar, mini_imagenet, omniglot
from innerloop.data.fetch import md5
from innerloop.data.places import DataCorrupt, DataMissing, data_root
from innerloop.data.progress import Progress, silent
from innerloop.data.recipe import Recipe
from innerloop.data.sources import Source, source
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class FileCheck:
    """What was found of one file."""

    path: Path
    size: int
    """bytes; 0 for a folder"""
    checksum: str
    """ "upstream": the published one; "known": of a packing known to be good; "unknown"; "folder": none"""


@dataclass(frozen=True)
class Check:
    """What was found of a data set."""

    name: str
    files: tuple[FileCheck, ...]
    classes: int
    images: int
    problems: tuple[str, ...]
    """each a sentence; empty when the data set is whole"""
    notes: tuple[str, ...]
    """what is worth knowing, and no problem"""

    @property
    def ok(self) -> bool:
        """Whether the data set can be used as it stands."""
        return not self.problems


def check(name: str, data_dir: Path | str | None = None, progress: Progress = silent) -> Check:
    """Check the data set `name` under the data folder; raises ValueError for an unknown name only."""
    data, root = source(name), data_root(data_dir)
    recipe = recipe_of(name)
    if recipe is None:
        from innerloop.data.glyphs import load_glyphs  # brings matplotlib, which takes its time

        drawn = load_glyphs()
        return Check(name, (), len(drawn.class_names), len(drawn.images), (), ("needs no files",))
    try:
        paths = recipe.locate(root)
    except DataMissing as e:
        return Check(name, (), 0, 0, (str(e),), ())
    files = tuple(_file(path, data) for path in paths)
    notes = tuple(
        f"{file.path}: its checksum is not one that is known; its images were read and counted instead"
        for file in files
        if file.checksum == "unknown"
    )
    found, problems = _read(recipe.read, paths, progress)
    if found is None:
        return Check(name, files, 0, 0, problems, notes)
    return Check(name, files, len(found.class_names), len(found.images), problems, notes)


def recipe_of(name: str) -> Recipe | None:
    """How the data set `name` is read; None for one that is drawn; raises ValueError."""
    match name:
        case "omniglot":
            return omniglot.RECIPE
        case "cifar_fs" | "fc100":
            return cifar.RECIPE
        case "mini_imagenet":
            return mini_imagenet.RECIPE
        case "caltech101":
            return caltech101.recipe()
        case "glyphs":
            return None
        case _:
            raise InnerloopError(f"{name!r} cannot be checked")


def _read(
    read: Callable[[Sequence[Path], Progress], ClassImages], paths: Sequence[Path], progress: Progress
) -> tuple[ClassImages | None, tuple[str, ...]]:
    try:
        return read(paths, progress), ()
    except DataCorrupt as e:
        return None, (str(e),)


def _file(path: Path, data: Source) -> FileCheck:
    if path.is_dir():
        return FileCheck(path, 0, "folder")
    size = path.stat().st_size
    if md5(path) in {a.md5 for a in data.archives}:
        return FileCheck(path, size, "upstream")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known = any(digest in a.sha256 for a in data.archives)
    return FileCheck(path, size, "known" if known else "unknown")
