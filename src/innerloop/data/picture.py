"""One image file becomes one uint8 array of a fixed size."""

import contextlib
import functools
import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from innerloop.data.bounded import PIXELS
from innerloop.data.paths import DataCorrupt
from innerloop.errors import InnerloopError, brief


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read: all that it decodes itself, and HEIC where pillow-heif is installed
    (extra `heic`). EPS goes to Ghostscript, which runs the program that such a file is; WMF to Windows."""
    Image.init()
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in Image.OPEN if name not in ("EPS", "WMF"))


def opened(file: Path | io.BytesIO, mode: str, draft: int | None = None, most: int = PIXELS) -> Image.Image:
    """The first frame of an image in `mode` (L or RGB), the right way up, without transparency.

    Of more than `most` pixels it is refused before it is decoded. With `draft` a JPEG may come at a half, a quarter or
    an eighth of its size, no side below `draft` pixels. The one error is InnerloopError with the reason, which does not
    name the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd EXIF or palettes: the pixels are what counts
            with _open(file) as image:
                if draft is not None and "progressive" not in image.info:  # of those all coefficients are held
                    image.draft(None, (draft, draft))
                check_size(image, most)
                warnings.simplefilter("error", Image.DecompressionBombWarning)  # of an image inside it, as in ICNS
                image.load()
                return flat(upright(image), mode)
    except InnerloopError:
        raise
    except Image.UnidentifiedImageError:
        if "HEIF" not in formats() and _start(file)[4:12] in _HEIC:
            raise InnerloopError("it is a HEIC photo: pip install 'innerloop[heic]', or save it as JPEG") from None
        raise InnerloopError("it is not a known image format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InnerloopError(f"it has more than the {PIXELS:,} pixels that are read; make it smaller") from None
    except Exception as e:  # Pillow's decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error
        raise InnerloopError(brief(e) or type(e).__name__) from e


_HEIC = {b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")}


def _start(file: Path | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:12]
    with file.open("rb") as f:
        return f.read(12)


def _open(file: Path | io.BytesIO) -> Image.Image:
    """ICO decodes the image inside it on opening; so what Pillow finds large is opened again as any other format."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(file, formats=formats())
    except Image.DecompressionBombWarning:
        if isinstance(file, io.BytesIO):
            file.seek(0)
        return Image.open(file, formats=[name for name in formats() if name != "ICO"])


def check_size(image: Image.Image, most: int = PIXELS) -> None:
    """Raises InnerloopError for an image, decoded or not, of more pixels than are read."""
    tags = getattr(image, "tag_v2", {})
    for width, height in (image.size, (tags.get(322, 0), tags.get(323, 0))):  # of a TIFF the tiles are as large as told
        if width * height > most:
            raise InnerloopError(
                f"it has {width}×{height} pixels, more than the {most:,} that are read; make it smaller"
            )


def picture(content: bytes, size: int, channels: int, name: str) -> NDArray[np.uint8]:
    """Decode an image to uint8 [channels, size, size]; `channels` is 1 (grey) or 3 (RGB).

    The camera's EXIF rotation is undone, transparency is laid over white, 16-bit grey and floats are scaled to 8
    bits, and the picture is resized by Lanczos, its sides apart (no crop, as is usual for mini-ImageNet). Of an
    animation the first frame counts. `name` stands for the file in the one error, DataCorrupt.
    """
    try:
        plain = opened(io.BytesIO(content), "L" if channels == 1 else "RGB")
    except InnerloopError as e:
        raise DataCorrupt(f"cannot read the image {name}: {e}") from e
    if plain.size != (size, size):
        plain = plain.resize((size, size), Image.Resampling.LANCZOS)
    pixels = np.array(plain, dtype=np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def upright(image: Image.Image) -> Image.Image:
    """The image turned as the camera's EXIF says; EXIF that cannot be read turns nothing."""
    image.load()
    with contextlib.suppress(Exception):  # SyntaxError, struct.error, ValueError …
        return ImageOps.exif_transpose(image)
    return image


def flat(image: Image.Image, mode: str) -> Image.Image:
    """The image in `mode` (L or RGB) without transparency; whole numbers of 16 bits and more are taken to lie in
    0..65535, floats in 0..1 if none is above 1, else in 0..255."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        if image.mode.startswith("I"):
            values = values / 257.0
        elif values.max() <= 1:
            values = values * 255.0
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
