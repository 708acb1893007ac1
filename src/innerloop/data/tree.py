"""One face for a folder of files and for the same folder packed in a zip archive."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from innerloop.data.places import DataCorrupt

TAIL = 4 << 20


@dataclass(frozen=True)
class Tree:
    """The files under `root` (a folder, or a zip archive), by their path with forward slashes."""

    root: Path
    paths: tuple[str, ...]
    """sorted; hidden files and the resource forks of macOS are left out"""
    archive: zipfile.ZipFile | None = None

    def read(self, path: str) -> bytes:
        """The content of one file; raises DataCorrupt if it cannot be read (a zip entry's CRC is checked)."""
        try:
            return self.archive.read(path) if self.archive else (self.root / path).read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as e:
            raise DataCorrupt(f"cannot read {path} in {self.root}: {e}") from e


@contextmanager
def open_tree(root: Path) -> Iterator[Tree]:
    """Open a folder or a zip archive for reading; raises DataCorrupt for a file that is no whole archive."""
    if root.is_dir():
        yield Tree(root, tuple(name for name, _ in _files(root)))
        return
    try:
        archive = zipfile.ZipFile(root)
    except (zipfile.BadZipFile, OSError) as e:
        raise DataCorrupt(f"{root} is not a whole zip archive ({e}); delete it and get it again") from e
    with archive:
        names = (i.filename for i in archive.infolist() if not i.is_dir() and _visible(i.filename))
        yield Tree(root, tuple(sorted(names)), archive)


def fingerprint(root: Path) -> str:
    """16 hexadecimal digits that change with the content of the file or folder `root`.

    A file: its size and its last 4 MiB (a zip keeps the checksum of every entry there, a gzip that of the
    whole). A folder: the name, size and time of change of every file.
    """
    digest = hashlib.sha256()
    if root.is_dir():
        for name, path in _files(root):
            stat = path.stat()
            digest.update(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}\n".encode())
    else:
        size = root.stat().st_size
        digest.update(f"{size}\n".encode())
        with root.open("rb") as file:
            file.seek(max(0, size - TAIL))
            digest.update(file.read())
    return digest.hexdigest()[:16]


def _files(root: Path) -> list[tuple[str, Path]]:
    named = ((p.relative_to(root).as_posix(), p) for p in root.rglob("*"))
    return sorted((name, p) for name, p in named if _visible(name) and p.is_file())


def _visible(path: str) -> bool:
    parts = path.split("/")
    return "__MACOSX" not in parts and not any(p.startswith(".") for p in parts)
