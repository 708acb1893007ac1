"""Images of one data set in the shape of another's, so that a model trained on one can be tested on the other."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from innerloop.core.episodes import ClassImages
from innerloop.errors import InnerloopError

LUMA = (0.299, 0.587, 0.114)
"""weights of red, green and blue in grey (ITU-R BT.601, as in Pillow's mode L)"""


def as_shape(data: ClassImages, channels: int, size: int) -> ClassImages:
    """The same classes and splits as uint8 [images, channels, size, size]; `data` itself where nothing changes.

    Channels are 1 (grey) or 3 (RGB): grey becomes RGB by repetition, RGB becomes grey by `LUMA`. Pixels are resized by
    Lanczos, which anti-aliases, its sides apart, as in `picture`. Nothing is inverted: omniglot and glyphs both draw
    strokes as 1 on 0, photographs have no polarity. No loader calls this by itself: who tests across data sets asks for
    it. Raises ValueError.
    """
    have = data.images.shape[1]
    if channels not in (1, 3) or have not in (1, 3):
        raise InnerloopError(f"{data.name}: channels can be 1 (grey) or 3 (RGB); {have} cannot become {channels}")
    if size < 1:
        raise InnerloopError(f"{data.name}: size must be at least 1 pixel, got {size}")
    if data.image_shape == (channels, size, size):
        return data
    images = data.images
    if channels < have:
        images = grey(images)  # before the resize, which then has a third of the work
    images = resized(images, size)
    if channels > have:
        images = images.expand(-1, 3, -1, -1).contiguous()
    return replace(data, images=images)


def grey(images: UInt8[Tensor, "images 3 height width"]) -> UInt8[Tensor, "images 1 height width"]:
    """RGB to grey by `LUMA`, rounded."""
    weight = torch.tensor(LUMA, device=images.device)[:, None, None]
    parts = [(part.float() * weight).sum(1, keepdim=True).round() for part in images.split(1000)]
    return torch.cat(parts).to(torch.uint8)


def resized(
    images: UInt8[Tensor, "images channels height width"], size: int
) -> UInt8[Tensor, "images channels size size"]:
    """Each image as size×size, channel by channel, by Pillow's Lanczos on the CPU; the device stays."""
    n, channels, height, width = images.shape
    if (height, width) == (size, size):
        return images
    planes = images.reshape(n * channels, height, width).cpu().numpy()
    out = np.empty((n * channels, size, size), dtype=np.uint8)
    for i, plane in enumerate(planes):
        out[i] = np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.LANCZOS))
    return torch.from_numpy(out).reshape(n, channels, size, size).to(images.device)
