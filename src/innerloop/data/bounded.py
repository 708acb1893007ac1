"""Files from strangers: how much of one is read, unpacked or decoded at the most, and the reading within that.

A few kilobytes can claim to be, or unpack to, any size. Sizes that a header states are checked before anything is
read, and the reading itself stops there, whatever the header says.
"""

import gzip
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from innerloop.data.paths import DataCorrupt
from innerloop.errors import brief, shown

PIXELS = 100_000_000
"""of a picture: beyond it, it is refused (it would take 300 MB, and a forged one any amount)"""
PICTURE = 4 * PIXELS
"""bytes of a picture's file, which is no larger than its pixels with transparency"""
UNPACKED = 1 << 30
"""bytes of a tar.gz; those of CIFAR-100 and Caltech-101 hold less than 200 MB"""
MEMBERS = 100_000
"""entries of a tar.gz; Caltech-101 has 9,248"""
_HEADERS = 1 << 20
"""bytes of what stands before an entry of a tar.gz: names, links, attributes"""


@runtime_checkable
class Readable(Protocol):
    """A binary file, as much of it as is needed here."""

    def read(self, size: int = -1, /) -> bytes: ...


def read_file(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes; raises DataCorrupt naming it, and OSError."""
    with path.open("rb") as file:
        return read(file, path.stat().st_size, most, shown(path))


def read(file: Readable, size: int, most: int, name: str) -> bytes:
    """The rest of `file`, said to be `size` bytes, if it is that at most; raises DataCorrupt with `name`."""
    if size > most:
        raise DataCorrupt(f"{name} holds {size:,} bytes; such a file has at most {most:,}")
    content = file.read(size + 1)
    if len(content) > size:
        raise DataCorrupt(f"{name} holds more than the {size:,} bytes that its header declares")
    return content


Contents = Iterator[tuple[str, Callable[[int], bytes]]]
"""each file's path with forward slashes, and how its content of at most so many bytes is read, before the next one"""


def tar_files(archive: Path | Readable, path: Path) -> Contents:
    """The regular files of a tar.gz, in turn; raises DataCorrupt naming `path`."""
    with _unpacking(path), gzip.open(archive) as unpacked:  # pyright: ignore[reportArgumentType]
        metered = _Metered(unpacked)
        with tarfile.open(fileobj=metered, mode="r:") as tar:  # pyright: ignore[reportArgumentType, reportCallIssue]
            for number, member in enumerate(tar):
                if number == MEMBERS:
                    raise tarfile.ReadError(f"it has more than {MEMBERS:,} entries")
                if member.isfile():
                    yield member.name, lambda most, member=member: _member(tar, metered, member, most, path)
                metered.left = _HEADERS
        while unpacked.read(1 << 16):  # to the end, where the checksum of the whole is compared
            metered.reach(unpacked.tell())


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        yield
    except DataCorrupt:
        raise
    except Exception as e:  # OSError, TarError, zlib.error, EOFError; of forged headers ValueError, RecursionError …
        raise DataCorrupt(f"{shown(path)} cannot be unpacked ({brief(e)}); delete it and get it again") from e


def _member(tar: tarfile.TarFile, metered: "_Metered", member: tarfile.TarInfo, most: int, path: Path) -> bytes:
    name = f"{brief(member.name)} in {shown(path)}"
    if member.issparse():
        raise DataCorrupt(f"{name} is a sparse file, which is not read; pack it again without holes")
    metered.left = member.size + 1
    with _unpacking(path):
        file = tar.extractfile(member)
        assert file is not None
        return read(file, member.size, most, name)


class _Metered:
    """A file that is read forwards, a limited number of bytes at a time: tarfile reads headers of any size whole."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self.file = file
        self.left = _HEADERS

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"the names and attributes of an entry take more than {_HEADERS:,} bytes")
        self.left -= size
        self.reach(self.tell() + size)
        return self.file.read(size)

    def seek(self, position: int) -> None:
        if position < self.tell():
            raise tarfile.ReadError("an entry has a negative size")
        self.reach(position)
        self.file.seek(position)

    def reach(self, position: int) -> None:
        """Raises ReadError for a position beyond what is unpacked at all."""
        if position > UNPACKED:
            raise tarfile.ReadError(f"it unpacks to more than {UNPACKED:,} bytes")
