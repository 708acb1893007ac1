"""Downloads that may be cut off at any time: a file gets its name once it is whole and its checksum holds."""

import errno
import hashlib
import http.client
import json
import math
import os
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from innerloop.data.dataset import Dataset, Download
from innerloop.data.paths import data_root, find
from innerloop.data.progress import Progress, silent
from innerloop.runs.files import locked

BLOCK = 1 << 16
TIMEOUT = 30.0
"""seconds without a byte after which the connection counts as lost"""


class FetchError(OSError):
    """A download did not succeed; the message is one sentence that says why and what to do."""


def fetch(data: Dataset, data_dir: Path | str | None = None, progress: Progress = silent) -> list[Path]:
    """Download the files of a data set that are not there yet; returns where each one lies.

    What came before a lost connection is kept beside it as FILE.part and gone on from by the next call.
    Raises FetchError.
    """
    root = data_root(data_dir)
    if data.files and not any(file.url for file in data.files):
        raise FetchError(f"{data.name} has no lawful direct download: {data.how_by_hand(root)}")
    paths: list[Path] = []
    for file in data.files:
        present = find(root, data.places, (file.file, *file.alternatives))
        if present is None:
            present = root / data.places[0] / file.file
            download(file, present, progress)
        paths.append(present)
    return paths


@dataclass(frozen=True)
class _Begun:
    """An unfinished download: how many bytes there are, and which version of the file they belong to."""

    url: str
    validator: str
    """a strong ETag or a Last-Modified date, for If-Range; empty: the rest cannot be asked for safely"""
    total: int | None
    """bytes of the whole file"""


def download(wanted: Download, to: Path, progress: Progress = silent, timeout: float = TIMEOUT) -> None:
    """Download one file to the path `to`; raises FetchError."""
    if wanted.url is None:
        raise FetchError(f"{wanted.file} has no download address")
    part, note = to.with_name(to.name + ".part"), to.with_name(to.name + ".part.json")
    with ExitStack() as held:
        with _disk(part):
            held.enter_context(locked(part, wait=False))
        held.callback(_remove_if_empty, part)
        if to.exists():  # another process has been quicker
            return
        begun = _begun(part, note, wanted.url)
        have = part.stat().st_size if begun else 0
        if not (begun and have and have == begun.total):
            _receive(wanted, begun, have, part, note, progress, timeout)
        if wanted.md5 is not None and (found := md5(part)) != wanted.md5:
            part.unlink()
            note.unlink(missing_ok=True)
            raise FetchError(
                f"{wanted.url} gave a file with the checksum {found} instead of {wanted.md5}; it was thrown "
                "away: try again, and if it stays so, the file upstream has changed"
            )
        with _disk(part):
            part.replace(to)
        note.unlink(missing_ok=True)


def _remove_if_empty(part: Path) -> None:
    """What locking has made, if nothing came."""
    if part.is_file() and not part.stat().st_size:
        part.unlink()


def _begun(part: Path, note: Path, url: str) -> _Begun | None:
    """What is known of an earlier, unfinished download of `url`, if it can be gone on from."""
    try:
        begun = _Begun(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return begun if part.is_file() and begun.url == url and begun.validator else None


def _receive(
    wanted: Download,
    begun: _Begun | None,
    have: int,
    part: Path,
    note: Path,
    progress: Progress,
    timeout: float,
) -> None:
    """Get the bytes that `part` lacks (all of them, if the server has another version or cannot continue)."""
    url = str(wanted.url)
    headers = {"User-Agent": "innerloop", "Accept-Encoding": "identity"}
    if begun and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": begun.validator}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as e:
        e.close()
        if e.code == 416 and begun and have:  # the server's file has no such bytes: another file
            return _receive(wanted, None, 0, part, note, progress, timeout)
        raise FetchError(f"{url} answered {e.code} {e.reason}; nothing was downloaded") from e
    except (OSError, http.client.HTTPException) as e:
        raise FetchError(
            f"cannot reach {url} ({_reason(e)}); without a network, put the file to {part.with_suffix('')} by hand"
        ) from e
    with response:
        if response.status == 206 and begun:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                return _receive(wanted, None, 0, part, note, progress, timeout)
            total = begun.total
        else:
            length = response.headers.get("Content-Length")
            have, total = 0, int(length) if length and length.isdigit() else None
        most = min(math.inf if total is None else total, 2 * wanted.size if wanted.size else math.inf)
        if (total or 0) > most:
            raise _too_large(wanted, f"is {total:,} bytes long now")
        with _disk(part):
            file = part.open("ab" if have else "wb", buffering=0)  # close() then has nothing left to write
        with file:
            if not have:
                with _disk(part):
                    note.write_text(json.dumps(vars(_Begun(url, _validator(response.headers), total))))
            while True:
                progress(f"downloading {wanted.file}", have, total or wanted.size)
                try:
                    block = response.read(BLOCK)
                except (OSError, http.client.HTTPException) as e:
                    raise _lost(url, have, total, e) from e
                if not block:
                    break
                with _disk(part):
                    rest = memoryview(block)
                    while rest:
                        rest = rest[file.write(rest) :]
                have += len(block)
                if have > most:
                    file.truncate(0)  # nothing to continue from
                    note.unlink()
                    raise _too_large(wanted, f"did not end after {most:,} bytes")
            with _disk(part):
                os.fsync(file.fileno())
    if total is not None and have != total:
        raise _lost(url, have, total, None)
    return None


def _validator(headers: http.client.HTTPMessage) -> str:
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _lost(url: str, have: int, total: int | None, cause: Exception | None) -> FetchError:
    reason = f" ({_reason(cause)})" if cause else ""
    of = f" of {total:,}" if total else ""
    return FetchError(
        f"the connection to {url} was lost after {have:,}{of} bytes{reason}; they "
        " are kept, run the same command again to continue"
    )


def _too_large(wanted: Download, what: str) -> FetchError:
    size = f", where {wanted.size:,} are expected" if wanted.size else ""
    return FetchError(f"{wanted.url} {what}{size}; nothing of it was kept: the file upstream has changed")


def _reason(e: Exception) -> str:
    cause = e.reason if isinstance(e, urllib.error.URLError) else e
    return str(cause) or type(cause).__name__


class _disk:
    """Turns an error of the disk at `path` into one sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BlockingIOError):
            raise FetchError(f"another process is downloading {self.path.stem} to {self.path.parent} now; wait for it")
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            what = "the disk is full" if full else f"cannot write ({error.strerror or error})"
            raise FetchError(
                f"{what} at {self.path}; what has come is kept, run the same command again to continue"
            ) from error


def md5(path: Path) -> str:
    """The MD5 of a file, 32 hexadecimal digits (what upstream publishes; a guard against accidents only)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
