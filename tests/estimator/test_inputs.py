"""The same pictures, in whatever form they come, are the same tensors."""

import collections
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.errors import InnerloopError
from innerloop.estimator import PictureError
from innerloop.estimator.inputs import Images, Reader, Wanted, images, kind
from naming import names

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (2, 10, 14, 3), dtype=np.uint8)


class Column:
    """Values in one dimension under labels of their own, as a column of a data frame: there is no [0], and no
    Sequence."""

    ndim = 1

    def __init__(self, values: list[object]) -> None:
        self.values = dict(zip("ab", values, strict=True))

    def __getitem__(self, label: str) -> object:
        return self.values[label]

    def __iter__(self) -> Iterator[object]:
        return iter(self.values.values())

    def __len__(self) -> int:
        return len(self.values)


def tensors(x: object, wanted: Wanted = Wanted()) -> torch.Tensor:  # noqa: B008
    found = images(x, wanted)
    return found.stack(range(len(found)))


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(6, 3), Wanted(6, 1), Wanted(20, 3, (0.875, None))])
def test_every_form_of_a_picture_is_the_same_tensor(tmp_path: Path, wanted: Wanted) -> None:
    """Catches a transposed layout, and resizing that depends on how an image was given."""
    pictures = [Image.fromarray(x) for x in RGB]
    for i, p in enumerate(pictures):
        p.save(tmp_path / f"{i}.png")
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    expected = tensors(RGB, wanted)
    for form in (
        RGB.transpose(0, 3, 1, 2),
        list(RGB),
        pictures,
        paths,
        [str(p) for p in paths],
        np.array([str(p) for p in paths]),
        np.array(paths),
        tuple(paths),
        collections.deque(paths),
        Column(paths),
        Column([str(p) for p in paths]),
        Column(pictures),
        RGB.astype(np.int64),
    ):
        assert torch.equal(tensors(form, wanted), expected)
    floats = tensors(RGB / 255, wanted)
    torch.testing.assert_close(floats, expected, atol=0.06, rtol=0)  # Pillow rounds and clips 8 bits between its passes
    if wanted.size is None:
        assert torch.equal(expected, torch.from_numpy(RGB).permute(0, 3, 1, 2) / 255)
    else:
        assert expected.shape == (2, wanted.channels, wanted.size, wanted.size)


def test_resizing_is_pillows() -> None:
    expected = np.asarray(Image.fromarray(RGB[0]).resize((5, 5), Image.Resampling.BICUBIC))
    assert torch.equal(tensors(RGB, Wanted(5, 3))[0], torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255)


def test_the_crop_is_the_centre() -> None:
    x = np.zeros((1, 10, 20), np.uint8)
    x[0, 1:9, 6:14] = 255
    assert float(tensors(x, Wanted(8, 1, (0.8,))).min()) == 1.0
    whole = images(x, Wanted(8, 1, (0.8, None))).views([0])
    assert [float(v.min()) for v in whole] == [1.0, 0.0]


def test_grey_and_colour() -> None:
    grey = tensors(RGB, Wanted(None, 1))
    for x, g in zip(RGB, grey, strict=True):
        expected = np.asarray(Image.fromarray(x).convert("L")) / 255
        torch.testing.assert_close(g[0].double(), torch.from_numpy(expected), atol=1 / 255, rtol=0)
    assert torch.equal(tensors(RGB[..., 0], Wanted(None, 3))[:, 2], torch.from_numpy(RGB[..., 0]) / 255)


def test_transparency_lies_on_white() -> None:
    rgba = np.concatenate([RGB, np.full((2, 10, 14, 1), 51, np.uint8)], 3)
    expected = 0.2 * torch.from_numpy(RGB).permute(0, 3, 1, 2) / 255 + 0.8
    torch.testing.assert_close(tensors(rgba, Wanted(None, 3)), expected, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(tensors(rgba / 255, Wanted(None, 3)), expected)
    torch.testing.assert_close(tensors([Image.fromarray(x) for x in rgba]), expected, atol=1 / 255, rtol=0)


def test_what_cannot_be_seen_has_no_colour_at_the_edges() -> None:
    """A white square on a transparent black ground is white all over, resized too; edges were grey."""
    rgba = np.zeros((1, 10, 10, 4), np.uint8)
    rgba[:, 3:7, 3:7] = 255
    for wanted in (Wanted(None, 3), Wanted(7, 3), Wanted(7, 1, (0.875,))):
        for form in (rgba, rgba / 255, [Image.fromarray(rgba[0])]):
            assert float(tensors(form, wanted).min()) > 0.999


def test_pictures_are_inverted_for_white_on_black_but_arrays_are_not() -> None:
    wanted = Wanted(None, 1, invert=True)
    a, b = tensors(RGB, wanted), tensors([Image.fromarray(x) for x in RGB], wanted)
    torch.testing.assert_close(a, 1 - b)


@pytest.mark.parametrize(
    ("x", "named"),
    [
        (np.full((1, 4, 4), 1.5), ("0..1", "1.5..1.5")),
        (np.full((1, 4, 4), 300), ("0..255", "300..300")),
        (np.full((1, 4, 4), np.nan), ("NaN",)),
        (np.zeros((1, 3, 5, 3)), ((3, 5, 3), 1, 3, 4)),
        (np.zeros((1, 5, 5, 5)), ((5, 5, 5), 1, 3, 4)),
        (np.zeros((0, 4, 4)), ("X", (0, 4, 4), 0, 1)),
        (np.full((1, 4, 4), "a"), ("numbers",)),
        ([Image.new("L", (3, 3)), 7], ("X[1]", "int")),
        ([Image.new("L", (3, 3)), Image.new("L", (4, 3))], ("image_size",)),
    ],
)
def test_what_is_no_image_is_said(x: object, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        tensors(x)


def test_channels_that_cannot_be_made_are_said() -> None:
    with pytest.raises(InnerloopError, match=names("channels", 3, 2)):
        tensors(RGB, Wanted(None, 2))


def test_one_picture_is_not_a_list(tmp_path: Path) -> None:
    for x in ("a.png", tmp_path, Image.new("L", (2, 2))):
        with pytest.raises(TypeError, match=names("X", type(x).__name__, "list")):
            kind(x)
    with pytest.raises(PictureError, match=names(tmp_path / "absent.png")):
        tensors([tmp_path / "absent.png"])
    with pytest.raises(PictureError, match=names(tmp_path / "absent.png")):
        images([tmp_path / "absent.png"], Wanted()).digest(0)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_picture_in_memory_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """Pillow reads the pixels of an opened file when they are asked for."""
    Image.fromarray(RGB[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-200])
    with Image.open(tmp_path / "b.png") as cut:
        given = images([Image.fromarray(RGB[0]), cut], Wanted(8, 3))
        for ask in (given.digest, lambda i: given.stack([i])):
            with pytest.raises(PictureError, match=names("X[1]")):
                ask(1)


def test_rows_are_features_flat_images_or_what_a_model_takes() -> None:
    rows = RNG.random((3, 12))
    assert torch.equal(Reader(True, None).read(rows), torch.from_numpy(rows))  # type: ignore[arg-type]
    through = Reader(True, Wanted(unit=False), through=True).read(rows)
    assert isinstance(through, Images)
    assert torch.equal(through.stack([2])[0], torch.from_numpy(rows[2]).float())
    flat = Reader(True, Wanted(2, 3)).read(rows)
    assert isinstance(flat, Images)
    assert torch.equal(flat.stack([1])[0], torch.from_numpy(rows[1]).float().view(3, 2, 2))
    with pytest.raises(InnerloopError, match=names("X", 12, "RUN", "1×2×2")):
        Reader(True, Wanted(2, 1), source="RUN").read(rows)
    with pytest.raises(InnerloopError, match=names("[n, d]", "X", "ndarray", (1, 4, 4))):
        Reader(True, None).read(np.zeros((1, 4, 4)))
    with pytest.raises(InnerloopError, match=names("images", "X", "ndarray", (3, 12))):
        Reader(False, Wanted()).read(rows)


def test_a_file_is_digested_by_its_bytes_however_large(tmp_path: Path) -> None:
    """Features in people's caches go by this number."""
    content = bytes(range(256)) * 10_000
    (tmp_path / "a.png").write_bytes(content)
    assert images([tmp_path / "a.png"], Wanted()).digest(0) == hashlib.sha256(b"2\0file\0" + content).hexdigest()


def test_a_picture_in_memory_of_too_many_pixels_is_named() -> None:
    with pytest.raises(PictureError, match=names("X[1]", "16000×8000", "100,000,000")):
        images([Image.new("1", (2, 2)), Image.new("1", (16_000, 8_000))], Wanted(8, 1)).stack([1])
