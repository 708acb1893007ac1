"""Files that are whole or absent: written beside their place, flushed to disk, then renamed into it."""

import json
import os
from pathlib import Path
from typing import Any

from innerloop.errors import InnerloopError, naming_file


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step; a crash or a full disk leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming_file(path), part.open("wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, in one step. NaN is refused: it is no JSON, and no result."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises ValueError, naming the file, if it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise InnerloopError(f"{path} is not valid JSON ({error}); restore it or delete it") from None


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line."""
    with naming_file(path), path.open("a") as f:
        f.write(json.dumps(value, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[Any]:
    """The whole JSON lines of a file; a last line that was cut off is passed over."""
    if not path.exists():
        return []
    whole = path.read_bytes().split(b"\n")[:-1]
    try:
        return [json.loads(line) for line in whole]
    except ValueError as error:
        raise InnerloopError(f"{path} has a line that is not valid JSON ({error}); mend or delete it") from None
