"""Any file becomes a plain RGB picture, or one sentence that names it."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from innerloop.data import bounded, picture
from innerloop.data.picture import formats, opened
from innerloop.errors import InnerloopError
from innerloop.estimator import PictureError, load_picture, pictures
from naming import names

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def test_plain_and_tiny(tmp_path: Path) -> None:
    found = load_picture(saved(tmp_path / "a.png", Image.fromarray(PIXELS)))
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), PIXELS)
    assert load_picture(str(saved(tmp_path / "b.png", Image.new("RGB", (1, 1), (1, 2, 3))))).getpixel((0, 0)) == (
        1,
        2,
        3,
    )


def test_every_mode_becomes_the_same_picture(tmp_path: Path) -> None:
    """Grey, 16 bits, palette, CMYK and transparency: each shows 200 where it is opaque."""
    grey = Image.new("L", (4, 4), 200)
    sixteen = Image.fromarray(np.full((4, 4), 200 * 257, np.uint16))
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    for name, image, value in [
        ("grey.png", grey, 200),
        ("sixteen.png", sixteen, 200),
        ("palette.gif", Image.new("RGB", (4, 4), (200, 200, 200)).quantize(4), 200),
        ("cmyk.jpg", Image.new("CMYK", (4, 4), (55, 55, 55, 0)), 200),
        ("bits.png", Image.new("1", (4, 4), 1), 255),
        ("floats.tif", Image.new("F", (4, 4), 200.0), 200),
        ("shares.tif", Image.new("F", (4, 4), 200 / 255), 200),
        ("clear.png", clear, 255),
    ]:
        found = load_picture(saved(tmp_path / name, image))
        assert (found.mode, found.size) == ("RGB", (4, 4)), name
        assert np.abs(np.asarray(found).astype(int) - value).max() <= 2, name


def test_a_float_that_is_no_number_is_black_and_leaves_the_others(tmp_path: Path) -> None:
    values = np.full((4, 4), 200 / 255, np.float32)
    values[0, 0] = np.nan
    found = np.asarray(load_picture(saved(tmp_path / "hole.tif", Image.fromarray(values))))
    assert found[0, 0].tolist() == [0, 0, 0]
    assert (found[1:] == 200).all()


def test_the_cameras_rotation_is_undone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = load_picture(saved(tmp_path / "turned.jpg", Image.fromarray(PIXELS), exif=exif))
    assert found.size == (8, 12)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path, ending: str) -> None:
    """One such picture ended the whole of `innerloop classify`: what was read was asked for its EXIF once more."""
    path = saved(tmp_path / f"odd.{ending}", Image.fromarray(PIXELS), exif=b"Exif\0\0garbage")
    assert load_picture(path).size == (12, 8)
    found = pictures.plain(load_picture(path))
    assert found.size == (12, 8)
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(pictures.plain(opened)), np.asarray(found))


def test_a_picture_is_turned_once_and_its_giver_keeps_what_it_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(saved(tmp_path / "turned.png", Image.fromarray(PIXELS), exif=exif)) as given:
        assert given.getexif()[0x0112] == 6
        once = pictures.plain(given)
        assert np.array_equal(np.asarray(once), np.rot90(PIXELS, -1))
        assert np.array_equal(np.asarray(pictures.plain(once)), np.asarray(once))
        assert given.getexif()[0x0112] == 6
        assert "exif" in given.info


def test_a_large_jpeg_is_read_smaller_but_not_small(tmp_path: Path) -> None:
    found = load_picture(saved(tmp_path / "large.jpg", Image.new("RGB", (4096, 2100), "red")))
    assert found.size == (2048, 1050)


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_000, 9_000), (60_000, 60_000)])
def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    """Below Pillow's own limit, where it only warns, and above."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(*size))
    with pytest.raises(PictureError, match=names(path, "100,000,000")):
        load_picture(path)


def broken(tmp_path: Path) -> list[Path]:
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(whole, "PNG")
    files = {
        "empty.png": b"",
        "text.jpg": b"this is no picture",
        "cut.png": whole.getvalue()[: len(whole.getvalue()) // 2],
        "header.gif": b"GIF89a",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    return [tmp_path / name for name in (*files, "folder.png", "absent.png")]


def test_what_is_no_picture_is_one_sentence_with_its_name(tmp_path: Path) -> None:
    for path in broken(tmp_path):
        with pytest.raises(PictureError) as caught:
            load_picture(path)
        message = str(caught.value)
        assert str(path) in message, path
        assert "\n" not in message, path
        assert isinstance(caught.value, ValueError)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match=names(tmp_path / "pipe.png", "regular file")):
        load_picture(tmp_path / "pipe.png")


def test_the_limit_is_what_the_sentence_says() -> None:
    assert bounded.PIXELS == 100_000_000


def test_a_program_that_draws_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPS would be handed to Ghostscript, whatever the file is called."""
    from PIL import EpsImagePlugin

    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    for name in ("a.eps", "a.png"):
        with pytest.raises(PictureError, match=names(tmp_path / name)):
            load_picture(saved(tmp_path / name, Image.fromarray(PIXELS), format="EPS"))


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a phone writes it: turned by the camera's mark, as a JPEG of the same picture is."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    across = np.linspace(0, 255, 64)[None, :].repeat(40, 0)
    image = Image.fromarray(np.stack([across, np.full((40, 64), 90), 255 - across], 2).astype(np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.info["exif"] = turned.tobytes()  # pillow-heif makes the format's own mark of it
    found = []
    for name, how in (("a.heic", {"format": "HEIF", "quality": 90}), ("a.jpg", {"quality": 95})):
        image.save(tmp_path / name, **{"exif": turned.tobytes(), **how})
        found.append(np.asarray(load_picture(tmp_path / name), dtype=int))
    assert found[0].shape == found[1].shape == (64, 40, 3)
    assert np.abs(found[0] - found[1]).mean() < 4
    content = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "cut.heic").write_bytes(content[: len(content) // 2])
    with pytest.raises(PictureError, match=names(tmp_path / "cut.heic")):
        load_picture(tmp_path / "cut.heic")
    with pytest.raises(InnerloopError, match=names(100)):
        opened(tmp_path / "a.heic", "RGB", most=100)
    monkeypatch.setattr(picture, "formats", lambda: tuple(f for f in formats() if f != "HEIF"))
    with pytest.raises(PictureError, match=names("innerloop[heic]")):
        load_picture(tmp_path / "a.heic")
