"""Pictures as people have them: any file becomes a plain RGB image, or one sentence that says why not."""

import os
import stat
from pathlib import Path

from PIL import Image

from innerloop.data.picture import check_size, flat, opened, upright
from innerloop.errors import InnerloopError

SHRUNK = 1024
"""JPEGs are decoded at a half, a quarter or an eighth of their size where that leaves so many pixels a side"""


class PictureError(InnerloopError):
    """An image file that cannot be read; the message names it and is one sentence."""


def load_picture(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file, as RGB without transparency, the right way up.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency is laid over white, the camera's EXIF rotation
    is undone, of an animation the first frame counts. A large JPEG is decoded smaller (no side below 1,024 pixels).
    Raises PictureError for what is missing, no picture, cut off, or of more than 100 million pixels.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise PictureError(f"there is no picture {path}") from None
    except (OSError, ValueError) as error:  # a name too long, a link in a circle, a null character
        raise PictureError(f"cannot read the picture {path}: {error}") from error
    if stat.S_ISDIR(mode):
        raise PictureError(f"cannot read the picture {path}: it is a folder")
    if not stat.S_ISREG(mode):  # a pipe would be waited for, for ever
        raise PictureError(f"cannot read the picture {path}: it is not a regular file")
    try:
        image = opened(path, "RGB", draft=SHRUNK)
    except InnerloopError as error:
        raise PictureError(f"cannot read the picture {path}: {error}") from error
    image.info = {}  # what that says has been done
    return image


def plain(image: Image.Image) -> Image.Image:
    """An image at hand as RGB without transparency, the right way up, and without anything but its pixels."""
    check_size(image)
    out = flat(upright(image), "RGB")
    out.info = {}  # what that says has been done
    return out
