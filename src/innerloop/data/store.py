"""The cache: a data set is one safetensors file with version and checksum, written whole or not at all."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from innerloop.core.episodes import ClassImages
from innerloop.runs.files import written_beside

FORMAT = "1"
_log = logging.getLogger("innerloop.data")


class StaleCache(Exception):
    """A cache file cannot be used; the message says why."""


def cached(path: Path, version: str, fingerprint: str | None, build: Callable[[], ClassImages]) -> ClassImages:
    """The classes kept in `path`, or else those of `build()`, which are then kept there.

    A file that is corrupt, of another `version` (how the images are prepared), or made from other source
    files than `fingerprint` names is rebuilt, with a warning in the log "innerloop.data". With
    fingerprint None (the source is not at hand) any whole file of this version is taken. A cache folder
    that cannot be written to costs a warning, not the data.
    """
    if path.exists():
        try:
            return read(path, version, fingerprint)
        except StaleCache as e:
            _log.warning("%s; it is rebuilt", e)
    data = build()
    try:
        write(path, data, version, fingerprint or "")
    except OSError as e:
        _log.warning("cannot keep %s in the cache %s (%s): it is prepared again next time", data.name, path, e)
    return data


def write(path: Path, data: ClassImages, version: str, fingerprint: str) -> None:
    """Write images, counts and names of `data` (no splits, no turns) to `path` atomically; raises OSError."""
    meta = {
        "format": FORMAT,
        "version": version,
        "fingerprint": fingerprint,
        "name": data.name,
        "class_names": json.dumps(data.class_names),
    }
    tensors = {"images": data.images.contiguous(), "count": data.count.contiguous()}
    meta["sha256"] = _digest(meta, tensors)
    with written_beside(path) as part:
        try:
            safetensors.torch.save_file(tensors, part, metadata=meta)
        except safetensors.SafetensorError as e:  # a full disk comes as this, too
            raise OSError(str(e)) from e
        part.replace(path)


def read(path: Path, version: str, fingerprint: str | None) -> ClassImages:
    """Read and verify what `write` wrote; raises StaleCache."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            meta = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, safetensors.SafetensorError, ValueError) as e:
        raise StaleCache(f"the cache file {path} cannot be read ({e})") from e
    if meta.get("format") != FORMAT or meta.get("version") != version:
        raise StaleCache(f"the cache file {path} is of another version")
    if meta.pop("sha256", None) != _digest(meta, tensors):
        raise StaleCache(f"the cache file {path} is corrupt (its checksum does not hold)")
    if fingerprint is not None and meta["fingerprint"] != fingerprint:
        raise StaleCache(f"the cache file {path} was made from files that have changed since")
    count = tensors["count"]
    names = tuple(json.loads(meta["class_names"]))
    return ClassImages(meta["name"], tensors["images"], count.cumsum(0) - count, count, torch.zeros_like(count), names)


def _digest(meta: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.view(torch.uint8).reshape(-1).numpy().data)
    return digest.hexdigest()
