"""Pictures as people have them: any file becomes a plain RGB image, or one sentence that says why not."""

import stat
import warnings
from pathlib import Path

from PIL import Image

from innerloop.data.picture import flat, formats, upright
from innerloop.errors import InnerloopError

LARGEST = 100_000_000
"""pixels: beyond it a picture is refused (it would take 300 MB, and a forged one any amount)"""
SHRUNK = 1024
"""JPEGs are decoded at a half, a quarter or an eighth of their size where that leaves so many pixels a side"""


class PictureError(InnerloopError):
    """A file that is no picture that can be read; the message names it and is one sentence."""


def load_picture(path: str | Path) -> Image.Image:
    """The picture in a file, as RGB without transparency, the right way up.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency is laid over white, the camera's EXIF rotation
    is undone, of an animation the first frame counts. A large JPEG is decoded smaller (no side below 1,024 pixels).
    Raises PictureError for what is missing, no picture, cut off, or of more than 100 million pixels.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about size, odd EXIF or palettes
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for, for ever
                raise PictureError(f"cannot read the picture {path}: it is no regular file")
            with Image.open(path, formats=formats()) as opened:
                opened.draft(None, (SHRUNK, SHRUNK))
                width, height = opened.size
                if width * height > LARGEST:
                    raise PictureError(
                        f"the picture {path} has {width}×{height} pixels, more than the {LARGEST // 1_000_000} "
                        "million that are read; make it smaller"
                    )
                opened.load()
                return plain(opened)
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError(f"there is no picture {path}") from None
    except IsADirectoryError:
        raise PictureError(f"cannot read the picture {path}: it is a folder") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"cannot read the picture {path}: it is no known image format") from None
    except Image.DecompressionBombError:
        raise PictureError(f"the picture {path} is too large to be read; make it smaller") from None
    except Exception as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, ValueError, struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"cannot read the picture {path}: {reason}") from error


def plain(image: Image.Image) -> Image.Image:
    """An image at hand as RGB without transparency, the right way up, and without anything but its pixels."""
    out = flat(upright(image), "RGB")
    out.info = {}  # what that says has been done
    return out
