"""Features of images, kept on disk between calls: one small file an image, whole or not at all, and never trusted."""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from innerloop.runs.files import write_bytes

_MAGIC = b"innerloop features 1\n"
_DIGEST = 32
_log = logging.getLogger("innerloop.estimator")


def identity(body: nn.Module, recipe: str) -> str:
    """SHA-256 of what decides an image's features beside the image: architecture, weights, and how it is prepared."""
    digest = hashlib.sha256(recipe.encode())
    digest.update(repr(body).encode())
    for name, module in body.named_modules():
        digest.update(f"{name} {type(module).__module__}.{type(module).__qualname__}\n".encode())
    for name, tensor in [*body.named_parameters(), *body.named_buffers()]:
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class FeatureCache:
    """A folder of feature vectors."""

    folder: Path
    body: str
    """the `identity` of the body"""
    _said: set[str] = field(default_factory=set, compare=False, repr=False)
    """warnings given: a folder that is closed or full is so for every image, so the warning comes once"""

    def read(self, image: str) -> NDArray[np.float32] | None:
        """The features of the image with that digest; None if there are none, or a file that does not hold."""
        path, key = self._place(image)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say(f"cannot read features from the cache {self.folder} ({error.strerror}); they are computed")
            return None
        head = len(_MAGIC)
        payload = content[head + _DIGEST :]
        if content[:head] != _MAGIC or content[head : head + _DIGEST] != _seal(key, payload) or len(payload) % 4:
            _log.warning("the cached features in %s are corrupt; they are recomputed", path)
            return None
        return np.frombuffer(payload, dtype="<f4").astype(np.float32)

    def write(self, image: str, features: NDArray[np.float32]) -> None:
        """Keep features [d] atomically. A folder that cannot be written to costs a warning, not the features."""
        path, key = self._place(image)
        payload = np.ascontiguousarray(features, dtype="<f4").tobytes()
        try:
            write_bytes(path, _MAGIC + _seal(key, payload) + payload)
        except OSError as error:
            self._say(f"cannot keep features in the cache {self.folder} ({error.strerror})")

    def _say(self, warning: str) -> None:
        if warning not in self._said:
            self._said.add(warning)
            _log.warning(warning)

    def _place(self, image: str) -> tuple[Path, str]:
        key = hashlib.sha256(f"{self.body} {image}".encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.features", key


def _seal(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + payload).digest()
