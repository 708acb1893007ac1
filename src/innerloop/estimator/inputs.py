"""What can be given as X, and how it becomes the tensors that a body takes."""

import hashlib
import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from innerloop.errors import InnerloopError
from innerloop.estimator.pictures import PictureError, load_picture, plain

Kind = Literal["features", "arrays", "pictures"]
_PICTURE = (str, os.PathLike, Image.Image)
_CHANNELS = (1, 3, 4)
_READING = 2
"""another number whenever the same picture becomes other pixels: features of the old ones lie in people's caches"""
_GREY = (0.299, 0.587, 0.114)
"""ITU-R 601, the weights of Pillow's "L\""""


@dataclass(frozen=True)
class Wanted:
    """The images a body takes."""

    size: int | None = None
    """pixels a side; None: as they come"""
    channels: int | None = None
    """1 (grey), 3 (RGB), None: as they come"""
    crops: tuple[float | None, ...] = (None,)
    """the views of a picture, whose features are averaged: for each the side of the centred square cut out, as a
    share of the shorter side; None: the whole picture. What adapts sees the first view alone."""
    resample: Image.Resampling = Image.Resampling.BICUBIC
    """how pictures are resized"""
    invert: bool = False
    """whether pictures (not arrays) are inverted: the body was trained on white strokes on black"""
    unit: bool = True
    """whether the values of float arrays must lie in 0..1"""

    @property
    def recipe(self) -> str:
        """Names all of it."""
        return repr(self)


def kind(X: Any) -> Kind:
    """Whether X is an array of features, an array of images, or a list of pictures (files, PIL images, arrays)."""
    if isinstance(X, _PICTURE):
        raise TypeError(f"X is one picture, {type(X).__name__}; give a list, [X]")
    first = next(iter(X), None) if _in_a_row(X) else None
    if isinstance(first, _PICTURE) or 2 <= getattr(first, "ndim", 0) <= 3:
        return "pictures"
    return "arrays" if getattr(X, "ndim", 0) in (3, 4) else "features"


def _in_a_row(X: Any) -> bool:
    """Whether X is a list, a tuple, or anything else of one dimension, such as a column of a data frame."""
    return isinstance(X, Sequence) or getattr(X, "ndim", 0) == 1


@dataclass(frozen=True)
class Images:
    """n images, each prepared when it is asked for."""

    items: Sequence[Any] | NDArray[Any]
    """files, PIL images, or arrays [channels, height, width]"""
    wanted: Wanted

    def __len__(self) -> int:
        return len(self.items)

    def digest(self, i: int) -> str:
        """SHA-256 of image i as it was given: a file's bytes, or type, shape and pixels."""
        item = self.items[i]
        digest = hashlib.sha256(f"{_READING}\0".encode())
        if isinstance(item, str):
            if not Path(item).is_file():
                load_picture(item)  # says what is wrong with it
            digest.update(b"file\0")
            try:
                with Path(item).open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
            except OSError:
                load_picture(item)
                raise
        elif isinstance(item, Image.Image):
            image = self._plain(i)
            digest.update(f"picture {image.size}\0".encode() + image.tobytes())
        else:
            array = np.ascontiguousarray(item)
            digest.update(f"array {array.dtype.str} {array.shape}\0".encode() + array.tobytes())
        return digest.hexdigest()

    def _plain(self, i: int) -> Image.Image:
        try:
            return plain(self.items[i])
        except (OSError, SyntaxError, ValueError) as error:  # opened, but its pixels are read only now
            raise PictureError(f"cannot read the picture X[{i}]: {' '.join(str(error).split())}") from error

    def _views(self, i: int, count: int | None) -> list[Tensor]:
        """The first `count` views of image i, float32 [channels, height, width], or a row of numbers as it is."""
        item = self.items[i]
        crops = self.wanted.crops[:count]
        if isinstance(item, str | Image.Image):
            pixels = np.asarray(self._plain(i) if isinstance(item, Image.Image) else load_picture(item))
            return [self._prepare(pixels.transpose(2, 0, 1), c, invert=self.wanted.invert) for c in crops]
        return [self._prepare(np.asarray(item), c, invert=False) for c in crops]

    def views(self, rows: Sequence[int], count: int | None = None) -> list[Tensor]:
        """For each of the (first `count`) views the images with these numbers, [n, …]."""
        images = [self._views(i, count) for i in rows]
        if len({view.shape for image in images for view in image}) > 1:
            raise InnerloopError("the images differ in size, and this model names none; give image_size")
        return [torch.stack(view) for view in zip(*images, strict=True)]

    def stack(self, rows: Sequence[int]) -> Tensor:
        """The first view of the images with these numbers, [n, …]."""
        return self.views(rows, 1)[0]

    def _prepare(self, pixels: NDArray[Any], crop: float | None, *, invert: bool) -> Tensor:
        w = self.wanted
        if pixels.ndim == 1:
            return torch.from_numpy(np.array(pixels, dtype=np.float32))
        if pixels.dtype.kind == "f":
            pixels = pixels.astype(np.float32)
        elif pixels.dtype != np.uint8:
            pixels = pixels.astype(np.uint8)  # `arrays` has seen that they are in 0..255
        if len(pixels) == 4 and w.channels in (1, 3):
            pixels = _on_white(pixels)
        if w.size is not None:
            pixels = _resize(pixels, w, crop)
        x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
        if pixels.dtype == np.uint8:
            x = x / 255
        if len(x) == 3 and w.channels == 1:
            x = (torch.tensor(_GREY)[:, None, None] * x).sum(0, keepdim=True)
        elif len(x) == 1 and w.channels == 3:
            x = x.expand(3, -1, -1)
        if w.channels is not None and len(x) != w.channels:
            raise InnerloopError(f"images have {len(x)} channels, the model takes {w.channels}")
        return 1 - x if invert else x


def images(X: Any, wanted: Wanted) -> Images:
    """X, an array of images or a list of pictures, as images to prepare. Raises ValueError for any other."""
    if kind(X) == "arrays":
        return Images(_arrays(np.asarray(X), wanted), wanted)
    if not _in_a_row(X):
        raise TypeError(f"X must be a list of files, of PIL images or of arrays, got {type(X).__name__}")
    items = [_item(x, i, wanted) for i, x in enumerate(X)]
    return Images(items, wanted)


def _item(x: Any, i: int, wanted: Wanted) -> Any:
    if isinstance(x, Image.Image):
        return x
    if isinstance(x, str | os.PathLike):
        if not str(x):
            raise PictureError(f"X[{i}] is an empty file name")
        return os.fspath(x)
    array = np.asarray(x)
    if array.ndim not in (2, 3) or isinstance(x, numbers.Number):
        raise InnerloopError(
            f"X[{i}] is {type(x).__name__}; X must be a list of files, of PIL images or of arrays [h, w] or [h, w, c]"
        )
    return _arrays(array[None], wanted)[0]


def _arrays(array: NDArray[Any], wanted: Wanted) -> NDArray[Any]:
    """[n, h, w], [n, h, w, c] or [n, c, h, w] -> [n, c, h, w], a view; values in 0..1 or 0..255."""
    if array.dtype.kind not in "fuib":
        raise InnerloopError(f"images must be numbers, got {array.dtype}")
    if not array.size:
        raise InnerloopError(f"X of shape {array.shape} holds no image: 0 sample(s), while a minimum of 1 is required")
    if array.ndim == 3:
        array = array[:, None]
    else:
        last, first = array.shape[3] in _CHANNELS, array.shape[1] in _CHANNELS
        if last == first:
            raise InnerloopError(
                f"images of shape {array.shape[1:]} are neither [channels, height, width] nor [height, width, "
                "channels] for sure; channels are 1, 3 or 4"
            )
        array = array.transpose(0, 3, 1, 2) if last else array
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InnerloopError("images contain NaN or infinity")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and wanted.unit and (low < 0 or high > 1):
        raise InnerloopError(f"images of floats must lie in 0..1, these are in {low:g}..{high:g}; divide by 255?")
    if array.dtype.kind in "ui" and (low < 0 or high > 255):
        raise InnerloopError(f"images of integers must lie in 0..255, these are in {low}..{high}")
    return array


def _on_white(rgba: NDArray[Any]) -> NDArray[Any]:
    """[4, h, w] -> [3, h, w]; before it is resized, lest the colour of what cannot be seen bleed into the edges."""
    white = 255 if rgba.dtype == np.uint8 else 1
    share = rgba[3:] / np.float32(white)
    rgb = rgba[:3] * share + white * (1 - share)
    return rgb.round().astype(np.uint8) if rgba.dtype == np.uint8 else rgb


def _resize(pixels: NDArray[Any], wanted: Wanted, crop: float | None) -> NDArray[Any]:
    """[c, h, w] -> [c, size, size], each channel by Pillow; no overshoot beyond 0..1."""
    size = wanted.size
    assert size is not None
    _, height, width = pixels.shape
    box = None
    if crop is not None:
        side = min(height, width) * crop
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    elif (height, width) == (size, size):
        return pixels
    out = np.stack([np.asarray(Image.fromarray(c).resize((size, size), wanted.resample, box)) for c in pixels])
    return out if out.dtype == np.uint8 else out.clip(min(0, pixels.min()), max(1, pixels.max()))  # as 8 bits are


@dataclass(frozen=True)
class Reader:
    """How X is read, settled when the support set is: the same for every query."""

    rows: bool
    """whether X is an array [n, d]"""
    wanted: Wanted | None
    """the images that the network takes; None: there is no network, X are features"""
    through: bool = False
    """whether rows go through the network as they are (else they are flattened images)"""
    source: str = "the model"

    def read(self, X: Any) -> Tensor | Images:
        """Features, or images to prepare. Raises ValueError for an X of another kind than the support set was."""
        rows = kind(X) == "features"
        if rows != self.rows:
            raise InnerloopError(
                f"fitted on {'an array [n, d]' if self.rows else 'images'}, but this X is "
                f"{'no images' if rows else 'images'}: {type(X).__name__} {getattr(X, 'shape', '')}".rstrip()
            )
        if self.wanted is None:
            return torch.from_numpy(np.array(X))
        if not rows:
            return images(X, self.wanted)
        if self.through:
            return Images(X, self.wanted)
        w = self.wanted
        if w.size is None or w.channels is None or X.shape[1] != w.channels * w.size**2:
            raise InnerloopError(
                f"X has rows of {X.shape[1]} numbers; {self.source} takes images {w.channels}×{w.size}×{w.size}. For "
                "features that are made already, leave model at 'pretrained'"
            )
        return images(X.reshape(-1, w.channels, w.size, w.size), w)
