"""One face for a folder of files and for the same folder packed in a zip archive."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from innerloop.data.places import DataCorrupt


@dataclass(frozen=True)
class Tree:
    """The files under `root` (a folder, or a zip archive), by their path with forward slashes."""

    root: Path
    sizes: dict[str, int]
    """path -> bytes, in sorted order of the paths; hidden files and macOS resource forks are left out"""
    archive: zipfile.ZipFile | None = None

    def read(self, path: str) -> bytes:
        """The content of one file; raises DataCorrupt if it cannot be read (a zip entry's CRC is checked)."""
        try:
            return self.archive.read(path) if self.archive else (self.root / path).read_bytes()
        except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as e:
            raise DataCorrupt(f"cannot read {path} in {self.root}: {e}") from e
        except Exception as e:
            if type(e).__module__ == "zlib":
                raise DataCorrupt(f"cannot unpack {path} in {self.root}: {e}") from e
            raise

    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed or changes its size."""
        listing = "\n".join(f"{path}\t{size}" for path, size in self.sizes.items())
        return hashlib.sha256(listing.encode()).hexdigest()[:16]


def _visible(path: str) -> bool:
    parts = path.split("/")
    return "__MACOSX" not in parts and not any(p.startswith(".") for p in parts)


@contextmanager
def open_tree(root: Path) -> Iterator[Tree]:
    """Open a folder or a zip archive for reading."""
    if root.is_dir():
        files = ((p.relative_to(root).as_posix(), p) for p in root.rglob("*"))
        sizes = {name: p.stat().st_size for name, p in files if _visible(name) and p.is_file()}
        yield Tree(root, dict(sorted(sizes.items())))
        return
    try:
        archive = zipfile.ZipFile(root)
    except zipfile.BadZipFile as e:
        raise DataCorrupt(
            f"{root} is not a whole zip archive ({e}); delete it and get it again (innerloop data fetch)"
        ) from e
    with archive:
        sizes = {
            i.filename: i.file_size for i in archive.infolist() if not i.is_dir() and _visible(i.filename)
        }
        yield Tree(root, dict(sorted(sizes.items())), archive)
