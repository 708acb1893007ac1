"""An exported folder: files of known names, and innerloop.json, which has the size and SHA-256 of each.

A folder may come from a stranger: nothing in it is run, names and sums are checked before anything is read, and a run
that names code (module:attribute) is refused. The sums are no signature: who can write the folder can write them again.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from innerloop.errors import InnerloopError, quoted
from innerloop.runs.files import read_object, write_json
from innerloop.version import __version__

MANIFEST, CARD, CLASSIFIER = "innerloop.json", "README.md", "model.innerloop"
FILES = re.compile(
    r"(config|env|finished|eval)\.json|metrics\.jsonl|model\.innerloop|checkpoints/index\.json"
    r"|checkpoints/\d{7,18}/(weights\.safetensors|optimizer\.safetensors|state\.json)"
)
PATTERNS = [
    MANIFEST, CARD, CLASSIFIER, "config.json", "env.json", "finished.json", "eval.json", "metrics.jsonl",
    "checkpoints/index.json", "checkpoints/*/weights.safetensors", "checkpoints/*/optimizer.safetensors",
    "checkpoints/*/state.json",
]  # fmt: skip
"""what is taken from the Hub"""
LARGEST = 1 << 30
"""bytes of all files of a folder"""


def write_manifest(folder: Path, kind: str) -> None:
    """Write innerloop.json for the files that are there."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {n: _of(folder / n) for n in names if FILES.fullmatch(n)}
    write_json(folder / MANIFEST, {"kind": kind, "innerloop": __version__, "files": files})


def checked(folder: Path, name: str) -> tuple[str, list[str]]:
    """The kind ("run" or "classifier") and the files of a folder. Raises InnerloopError, which names `name` and the
    file, for one that lacks, was cut off or was changed."""
    if not (folder / MANIFEST).is_file():
        raise InnerloopError(f"{name} has no {MANIFEST}: it is nothing that 'innerloop export' wrote")
    manifest = read_object(folder / MANIFEST)
    kind, files = manifest.get("kind"), manifest.get("files")
    if kind not in ("run", "classifier") or not isinstance(files, dict) or not all(map(FILES.fullmatch, files)):
        raise InnerloopError(f"{MANIFEST} of {name} names no files that this version knows")
    if ("config.json" if kind == "run" else CLASSIFIER) not in files:
        raise InnerloopError(f"{name} holds no {kind}")
    total = sum(f["bytes"] for f in files.values() if isinstance(f, dict) and isinstance(f.get("bytes"), int))
    if total > LARGEST:
        raise InnerloopError(f"{name} has {total:,} bytes, more than the {LARGEST:,} that are read")
    for n, wanted in files.items():
        if not (folder / n).is_file():
            raise InnerloopError(f"{name} lacks {n}; get it again")
        if _of(folder / n) != wanted:
            raise InnerloopError(f"{n} of {name} is not the file that was exported: it was changed or cut off")
    return kind, list(files)


def refuse_code(config: Any, name: str) -> None:
    """Raises InnerloopError for a run whose config names a method, data or network by module:attribute."""
    texts = [config]
    while texts:
        value = texts.pop()
        if isinstance(value, dict | list):
            texts += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str) and ":" in value:
            raise InnerloopError(
                f"{name} is a run with a method, data or network of somebody's own, {quoted(value)}, whose code is not "
                "loaded from elsewhere"
            )


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which becomes `folder` after; where another process was faster, its stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        try:
            part.rename(folder)
        except OSError:
            if not any(folder.iterdir() if folder.is_dir() else ()):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made if it is not there."""
    if not folder.is_dir():
        with made_whole(folder) as part:
            make(part)
    return folder


def _of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
