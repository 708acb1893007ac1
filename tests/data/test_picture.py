"""Pictures of every kind become the same plain pixels."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from innerloop.data.caltech101 import square
from innerloop.data.paths import DataCorrupt
from innerloop.data.picture import picture
from naming import names
from planting import but, plants

Png = Callable[..., bytes]


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


RED_ON_TRANSPARENT = np.zeros((8, 8, 4), np.uint8)
RED_ON_TRANSPARENT[:4] = (200, 0, 0, 255)


def test_rgb_grey_and_shape() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = saved(Image.fromarray(pixels))
    assert np.array_equal(picture(content, 8, 3, "x"), pixels.transpose(2, 0, 1))
    assert picture(content, 8, 1, "x").shape == (1, 8, 8)
    grey = saved(Image.fromarray(pixels[..., 0]))
    assert np.array_equal(picture(grey, 8, 3, "x"), np.stack([pixels[..., 0]] * 3))
    assert picture(saved(Image.fromarray(pixels[:5])), 16, 3, "x").shape == (3, 16, 16)


def test_transparency_lies_on_white() -> None:
    """Catches convert("RGB") alone, under which what cannot be seen turns black."""
    rgba = Image.fromarray(RED_ON_TRANSPARENT)
    white = Image.new("RGBA", rgba.size, "white")
    palette = rgba.convert("RGB").quantize(4)
    transparent = int(np.asarray(palette)[7, 7])
    variants = [
        saved(rgba),
        saved(palette, transparency=transparent),
        saved(palette, "GIF", transparency=transparent),
    ]
    for content in variants:
        x = picture(content, 8, 3, "x")
        assert x[:, 0, 0].tolist() == [200, 0, 0]
        assert x[:, 7, 7].tolist() == [255, 255, 255]
    assert picture(saved(rgba.convert("LA")), 8, 1, "x")[0, 7, 7] == 255
    assert white.size == rgba.size


@plants(
    "EXIF rotation left as it is", "data.picture:ImageOps", lambda right: but(right, exif_transpose=lambda image: image)
)
def test_the_cameras_rotation_is_undone() -> None:
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter clockwise: left becomes top
    content = saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)
    x = picture(content, 8, 1, "x")[0]
    assert x[0].min() > 200
    assert x[7].max() < 50


def test_sixteen_bits_are_scaled() -> None:
    pixels = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    x = picture(saved(Image.fromarray(pixels)), 2, 1, "x")[0]
    assert x.tolist() == [[0, 100], [200, 255]]


def test_cmyk_and_one_bit(png: Png) -> None:
    cmyk = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    assert picture(saved(cmyk, "JPEG"), 4, 3, "x").min() > 250
    assert picture(png(np.eye(4) * 255, "1"), 4, 1, "x")[0].tolist() == (np.eye(4) * 255).tolist()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_an_unreadable_image_is_one_sentence_with_its_name(content: bytes) -> None:
    with pytest.raises(DataCorrupt, match=names("cats/7.png")) as caught:
        picture(content, 8, 3, "cats/7.png")
    assert "\n" not in str(caught.value)


def test_a_cut_image_is_unreadable(png: Png) -> None:
    whole = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3)))
    with pytest.raises(DataCorrupt, match=names("cats/8.png")):
        picture(whole[: len(whole) // 2], 8, 3, "cats/8.png")


def test_a_program_that_draws_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """EPS under a picture's name, in a folder or an archive of somebody else, would be handed to Ghostscript."""
    from PIL import EpsImagePlugin

    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    content = saved(Image.new("RGB", (8, 8)), "EPS")
    for read in (lambda: picture(content, 8, 3, "a.png"), lambda: square(content, 8, "a.png")):
        with pytest.raises(DataCorrupt, match=names("a.png")):
            read()


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    out = io.BytesIO()
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(out, "PNG", exif=b"Exif\0\0garbage")
    assert picture(out.getvalue(), 4, 1, "x")[0, 3].tolist() == [12, 13, 14, 15]
