"""Where data is looked for and where the cache lies; and the error that says that a file is missing."""

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from innerloop.errors import InnerloopError


class DataMissing(FileNotFoundError):
    """A data set's file is not there; the message says which, where it was looked for, and how to get it."""


class DataCorrupt(InnerloopError):
    """A data set's file is there but is not what it should be; the message names the file."""


def data_root(given: Path | str | None = None) -> Path:
    """The folder of downloads: `given`, else INNERLOOP_DATA, else the user's data folder."""
    if given is not None:
        return Path(given).expanduser()
    if named := os.environ.get("INNERLOOP_DATA"):
        return Path(named).expanduser()
    return Path(platformdirs.user_data_dir("innerloop"))


def cache_root(given: Path | str | None = None) -> Path:
    """The folder of prepared tensors: `given`, else INNERLOOP_CACHE, else the user's cache folder."""
    if given is not None:
        return Path(given).expanduser()
    if named := os.environ.get("INNERLOOP_CACHE"):
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("innerloop"))


def candidates(root: Path, folders: Sequence[str], names: Sequence[str]) -> list[Path]:
    """Every path accepted for a file called any of `names`: in each of `folders`, then in `root`."""
    return [place / name for name in names for place in (*(root / f for f in folders), root)]


def find(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The first of `candidates` that is a file or a folder, or None."""
    return next((p for p in candidates(root, folders, names) if p.is_file() or p.is_dir()), None)
