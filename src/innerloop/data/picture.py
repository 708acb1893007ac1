"""One image file becomes one uint8 array of a fixed size."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from innerloop.data.places import DataCorrupt


def picture(content: bytes, size: int | None, channels: int, name: str) -> NDArray[np.uint8]:
    """Decode an image to uint8 [channels, height, width]; `channels` is 1 (grey) or 3 (RGB).

    The camera's EXIF rotation is undone; transparency is laid over white; 16-bit grey is scaled to 8 bits. With `size` the
    picture becomes size×size by Lanczos (the sides are scaled apart: no crop, as for mini-ImageNet). `name` stands for the
    file in the one error, DataCorrupt.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as opened:
                opened.load()
                plain = _flat(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
    except (
        Exception
    ) as e:  # Pillow's decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error …
        raise DataCorrupt(f"cannot read the image {name}: {e or type(e).__name__}") from e
    if size is not None and plain.size != (size, size):
        plain = plain.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """The image in `mode` (L or RGB) without transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if image.mode.startswith("I"):
            values = values / 257.0  # 0..65535 to 0..255
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8), "L")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert(mode)
