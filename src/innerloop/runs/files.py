"""Files that are whole or absent: written beside their place, flushed to disk, then renamed into it.

Locks are `flock`'s: advisory, and let go when their process ends, however it ends. Where there is no `fcntl` (Windows)
nothing is locked: files are still whole or absent, but of two processes that change one file at the same time one may
lose what the other wrote, and two trainings in one folder are not told apart.
"""

import errno
import glob
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from innerloop.errors import InnerloopError, naming_file, quoted

try:
    import fcntl
except ImportError:
    fcntl = None

_DEEPEST = 100
"""levels of a JSON value; ours have less than ten, and Python fails to print or to compare some hundred"""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, which stays. Without `wait`, BlockingIOError if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_regular(path)
    if fcntl is None:
        yield
        return
    with path.open("a") as file:  # not "w": in a folder from a stranger it may be a link to a file of the user's
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step; a crash or a full disk leaves the old file."""
    write_all(path.parent, {path.name: content})


def write_all(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Replace the `files` of a folder, name to content (None: remove), together.

    All are written to disk before the first takes its place, so that a full disk leaves all the old ones.
    """
    parts: dict[Path, Path] = {}
    try:
        for name, content in files.items():
            path = folder / name
            if content is None:
                _clear_parts(path)
                continue
            with written_beside(path) as part:
                parts[path] = part
                part.write_bytes(content)
        for path, part in parts.items():
            part.replace(path)
        for name, content in files.items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written to inside and renamed to `path` after: it is on disk then.

    What a killed process has left of `path` is removed before, this file if the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    _clear_parts(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with naming_file(path), part.open("xb") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # tells other processes that this one lives
            yield part
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _clear_parts(path: Path) -> None:
    """Remove what processes that no longer live have left of `path`."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        writer = part.name.removesuffix(".part").rpartition(".")[2].partition("-")[0]
        if fcntl is None or not writer.isdecimal() or _lives(int(writer)):
            continue
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held where the writer lives on another machine
            part.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, in one step. NaN is refused: it is no JSON, and no result."""
    write_bytes(path, as_json(value))


def as_json(value: Any) -> bytes:
    """`value` as `write_json` writes it."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises InnerloopError, naming the file, for a path that is not a file or not JSON.

    NaN, numbers beyond a float's range and a name that stands twice in an object are no JSON of ours either.
    """
    try:
        return parse_json(_content(path))
    except InnerloopError as error:
        raise InnerloopError(f"{path} is not valid JSON ({error}); restore it or delete it") from None


def parse_json(text: bytes | str) -> Any:
    """The value of a JSON text, as strictly. Raises InnerloopError with the reason."""
    try:
        return _parse(text)
    except (ValueError, RecursionError) as error:
        raise InnerloopError(_reason(error)) from None


def read_object(path: Path) -> dict[str, Any]:
    """The same for a file that holds one JSON object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InnerloopError(f"{path} holds {quoted(value)} instead of a JSON object; restore it or delete it")
    return value


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line."""
    with naming_file(path), path.open("a") as f:
        f.write(json.dumps(value, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[Any]:
    """The whole JSON lines of a file; a last line that was cut off is passed over."""
    found: list[Any] = []
    if not path.exists():
        return found
    for i, line in enumerate(_content(path).split(b"\n")[:-1], 1):
        try:
            found.append(_parse(line))
        except (ValueError, RecursionError) as error:
            raise InnerloopError(
                f"{path}, line {i}, is not valid JSON ({_reason(error)}); mend or delete that line"
            ) from None
    return found


def check_regular(path: Path) -> None:
    """Raises InnerloopError for a pipe or a device, which would be waited for, or read from, for ever."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InnerloopError(f"{path} is not a regular file; restore it or delete it")


def _content(path: Path) -> bytes:
    check_regular(path)
    return path.read_bytes()


def _parse(text: bytes | str) -> Any:
    value = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_once)
    level = [value]
    for _ in range(_DEEPEST):
        level = [v for x in level if isinstance(x, dict | list) for v in (x.values() if isinstance(x, dict) else x)]
        if not level:
            return value
    raise RecursionError


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{quoted(next(n for n in names if names.count(n) > 1))} stands twice in one object")
    return value


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)
