"""One face for a folder of files and for the same folder packed in a zip archive."""

import hashlib
import itertools
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from innerloop.data import bounded
from innerloop.data.paths import DataCorrupt
from innerloop.errors import brief, shown

TAIL = 4 << 20


@dataclass(frozen=True)
class Archive:
    """The files under `root` (a folder, or a zip archive), by their path with forward slashes."""

    root: Path
    paths: tuple[str, ...]
    """sorted; hidden files and the resource forks of macOS are left out"""
    zipped: zipfile.ZipFile | None = None

    def read(self, path: str) -> bytes:
        """The content of a picture's file; raises DataCorrupt if it cannot be read (a zip entry's CRC is checked) or
        is larger than any picture's."""
        name = f"{brief(path)} in {shown(self.root)}"
        try:
            if self.zipped is None:
                return bounded.read_file(self.root / path, bounded.PICTURE)
            with self.open(path) as file:
                return bounded.read(file, self.zipped.getinfo(path).file_size, bounded.PICTURE, name)
        except DataCorrupt:
            raise
        except Exception as e:  # zipfile raises many kinds: OSError, BadZipFile, zlib.error, RuntimeError, struct.error
            raise DataCorrupt(f"cannot read {name}: {brief(e) or type(e).__name__}") from e

    def open(self, path: str) -> zipfile.ZipExtFile:
        """An entry of the archive, to be read; only methods that unpack by and by are taken."""
        assert self.zipped is not None
        if self.zipped.getinfo(path).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataCorrupt(
                f"{brief(path)} in {shown(self.root)} is not packed by deflate; pack it again as plain zip"
            )
        file = self.zipped.open(path)
        assert isinstance(file, zipfile.ZipExtFile)
        return file


@contextmanager
def open_archive(root: Path) -> Iterator[Archive]:
    """Open a folder or a zip archive for reading; raises DataCorrupt for an incomplete archive."""
    if root.is_dir():
        yield Archive(root, tuple(name for name, _ in _files(root)))
        return
    try:
        zipped = zipfile.ZipFile(root)
    except (
        Exception
    ) as e:  # BadZipFile, OSError; of forged entries UnicodeDecodeError, struct.error, NotImplementedError
        raise DataCorrupt(f"{shown(root)} is not a whole zip archive ({brief(e)}); delete it and get it again") from e
    with zipped:
        names = sorted(i.filename for i in zipped.infolist() if not i.is_dir() and _visible(i.filename))
        for one, other in itertools.pairwise(names):
            if one == other:
                raise DataCorrupt(f"{shown(root)} has two entries called {brief(one)}; pack it again")
        yield Archive(root, tuple(names), zipped)


def fingerprint(root: Path) -> str:
    """16 hexadecimal digits that change with the content of the file or folder `root`.

    A file: its size and its last 4 MiB (a zip keeps the checksum of every entry there, a gzip that of the
    whole). A folder: the name, size and time of change of every file.
    """
    digest = hashlib.sha256()
    if root.is_dir():
        for name, path in _files(root):
            stat = path.stat()
            digest.update(os.fsencode(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}\n"))
    elif root.is_file():
        size = root.stat().st_size
        digest.update(f"{size}\n".encode())
        with root.open("rb") as file:
            file.seek(max(0, size - TAIL))
            digest.update(file.read(TAIL))
    else:  # a pipe would be waited for, for ever
        raise DataCorrupt(f"{shown(root)} is neither a folder nor a regular file")
    return digest.hexdigest()[:16]


def _files(root: Path) -> list[tuple[str, Path]]:
    """The regular files under `root`, sorted; raises DataCorrupt for a folder that cannot be opened.

    A link to a folder is followed, but for one inside of what a link leads to, and one to a folder that holds it.
    """
    try:
        return sorted((path.relative_to(root).as_posix(), path) for path in _walk(root, follow=True))
    except OSError as e:
        raise DataCorrupt(f"cannot read the folder {shown(root)}: {shown(e)}") from e


def _walk(root: Path, *, follow: bool) -> Iterator[Path]:
    for place, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if _visible(name)]
        paths = [Path(place, name) for name in files if _visible(name)]
        yield from (path for path in paths if path.is_file())
        for path in (Path(place, name) for name in folders if follow):
            if path.is_symlink() and not any(path.samefile(holder) for holder in path.parents):
                yield from _walk(path, follow=False)


def _refuse(error: OSError) -> None:
    raise error


def _visible(path: str) -> bool:
    parts = path.split("/")
    return "__MACOSX" not in parts and not any(p.startswith(".") for p in parts)
