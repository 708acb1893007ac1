"""Is a data set whole? Its files are hashed, every image is read, and classes and images are counted."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from innerloop.data.dataset import Dataset
from innerloop.data.fetch import md5
from innerloop.data.paths import DataMissing, data_root
from innerloop.data.progress import Progress, silent
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


def check(data: Dataset, data_dir: Path | str | None = None, progress: Progress = silent) -> Check:
    """Check a data set under the data folder: the result says what is wrong."""
    root = data_root(data_dir)
    try:
        paths = data.locate(data, root)
    except DataMissing as e:
        return Check(data.name, (), 0, 0, (str(e),), ())
    files = tuple(_file(path, data) for path in paths)
    notes = [
        f"{file.path}: its checksum is not one that is known; its images were read and counted instead"
        for file in files
        if file.checksum == "unknown"
    ]
    try:
        found = data.read(paths, progress)
        data.split(found)
    except InnerloopError as e:
        return Check(data.name, files, 0, 0, (str(e),), tuple(notes))
    if not files:
        notes.append("needs no files")
    return Check(data.name, files, len(found.class_names), len(found.images), (), tuple(notes))


def _file(path: Path, data: Dataset) -> FileCheck:
    if path.is_dir():
        return FileCheck(path, 0, "folder")
    size = path.stat().st_size
    if md5(path) in {file.md5 for file in data.files}:
        return FileCheck(path, size, "upstream")
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    known = any(digest in file.sha256 for file in data.files)
    return FileCheck(path, size, "known" if known else "unknown")
