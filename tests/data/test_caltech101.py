"""Caltech-101 in its three packings, made small; and its split."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.core.episodes import SPLITS
from innerloop.data import caltech101
from innerloop.data.caltech101 import CALTECH101, TOGETHER, draw_split, read_pictures, square
from innerloop.data.paths import DataCorrupt, DataMissing
from innerloop.data.splits import split_lines
from innerloop.errors import InnerloopError
from naming import names

Png = Callable[..., bytes]


def pixels(seed: int, height: int = 12, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def files(png: Png) -> dict[str, bytes]:
    """Two classes out of order, the background, and what macOS leaves behind (a PNG passes for a JPEG in tests)."""
    return {
        "zebra/image_0002.jpg": png(pixels(1)),
        "BACKGROUND_Google/image_0001.jpg": png(pixels(2)),
        "zebra/image_0001.jpg": png(pixels(3)),
        "apple/image_0001.jpg": png(pixels(4)),
        "apple/._image_0001.jpg": b"a resource fork",
        "BACKGROUND_Google/tmp": b"no picture",
    }


def packed(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, value in content.items():
            info = tarfile.TarInfo(f"101_ObjectCategories/{name}")
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))
    return buffer.getvalue()


def test_every_packing_gives_the_same_tensor(tmp_path: Path, png: Png) -> None:
    """Catches: the background as a class, order by position, one packing read otherwise than another."""
    tar = tmp_path / "101_ObjectCategories.tar.gz"
    tar.write_bytes(packed(files(png)))
    zipped = tmp_path / "caltech-101.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("caltech-101/Annotations.tar", b"not looked at")
        archive.write(tar, "caltech-101/101_ObjectCategories.tar.gz")
    for name, content in files(png).items():
        path = tmp_path / "101_ObjectCategories" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in (tar, zipped, tmp_path / "101_ObjectCategories"):
        data = read_pictures(path, 12)
        assert data.class_names == ("apple", "zebra")
        assert data.count.tolist() == [1, 2]
        expected = np.stack([pixels(4), pixels(3), pixels(1)]).transpose(0, 3, 1, 2)
        assert np.array_equal(data.images.numpy(), expected), path


def test_the_middle_square_is_taken(png: Png) -> None:
    """Catches: sides squeezed apart, a corner for the middle, rows for columns, planes for pixels."""
    wide = pixels(0, height=8, width=14)
    assert np.array_equal(square(png(wide), 8, "x"), wide[:, 3:11].transpose(2, 0, 1))
    tall = pixels(0, height=14, width=8)
    assert np.array_equal(square(png(tall), 8, "x"), tall[3:11].transpose(2, 0, 1))


def test_shrinking_is_anti_aliased(png: Png) -> None:
    """Catches: nearest-pixel or plain bilinear sampling, which would see stripes of one pixel as black or white."""
    stripes = np.zeros((96, 96), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = square(png(stripes), 12, "x")
    assert small.shape == (3, 12, 12)
    assert np.abs(small.astype(float) - 127.5).max() < 8


def test_bad_archives_are_named(tmp_path: Path, png: Png) -> None:
    tar = tmp_path / "101_ObjectCategories.tar.gz"
    whole = packed(files(png))
    tar.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataCorrupt, match=names(tar)):
        read_pictures(tar, 12)
    tar.write_bytes(packed({"zebra/image_0001.jpg": b"no picture"}))
    with pytest.raises(DataCorrupt, match=names("101_ObjectCategories/zebra/image_0001.jpg", tar)):
        read_pictures(tar, 12)
    tar.write_bytes(packed({}))
    with pytest.raises(DataCorrupt, match=names(tar, "101_ObjectCategories/CLASS/FILE.jpg")):
        read_pictures(tar, 12)
    zipped = tmp_path / "caltech-101.zip"
    zipped.write_bytes(b"PK half")
    with pytest.raises(DataCorrupt, match=names(zipped, "zip")):
        read_pictures(zipped, 12)
    with zipfile.ZipFile(zipped, "w"):
        pass
    with pytest.raises(DataCorrupt, match=names(zipped, "101_ObjectCategories.tar.gz")):
        read_pictures(zipped, 12)


def test_a_part_of_the_data_set_is_refused(tmp_path: Path, png: Png) -> None:
    (tmp_path / "101_ObjectCategories.tar.gz").write_bytes(packed(files(png)))
    with pytest.raises(DataCorrupt, match=names(tmp_path / "101_ObjectCategories.tar.gz", 3, 2, 8677, 101)):
        caltech101.caltech101(8).load(tmp_path, tmp_path / "cache")
    with pytest.raises(DataMissing, match=names("caltech-101.zip", "101_ObjectCategories.tar.gz", tmp_path / "none")):
        CALTECH101.load(tmp_path / "none", tmp_path / "cache")
    with pytest.raises(InnerloopError, match=names("caltech101", "size", 1, 0)):
        caltech101.caltech101(0)


def test_each_size_has_its_own_cache(tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: 32 pixels read back as 84."""
    monkeypatch.setattr(caltech101, "CLASSES", 2)
    monkeypatch.setattr(caltech101, "IMAGES", 3)
    (tmp_path / "caltech101").mkdir()
    (tmp_path / "caltech101" / "101_ObjectCategories.tar.gz").write_bytes(packed(files(png)))
    monkeypatch.setattr(caltech101, "split_lines", lambda _: {"train": ["apple"], "test": ["zebra"]})
    small = caltech101.caltech101
    shapes = [small(size).load(tmp_path, tmp_path / "cache").image_shape for size in (8, 6, 8)]
    assert shapes == [(3, 8, 8), (3, 6, 6), (3, 8, 8)]
    again = small(6).load(tmp_path / "gone", tmp_path / "cache")
    assert torch.equal(again.images, read_pictures(tmp_path / "caltech101" / "101_ObjectCategories.tar.gz", 6).images)


def test_the_split_is_the_documented_draw() -> None:
    """Catches: an edited list, another seed, one subject on both sides."""
    lists = split_lines("caltech101")
    assert {s: len(set(lists[s])) for s in SPLITS} == {"train": 64, "val": 16, "test": 21}
    everything = sorted(name for names in lists.values() for name in names)
    assert len(set(everything)) == 101
    assert "BACKGROUND_Google" not in everything
    assert {s: list(names) for s, names in draw_split(everything[::-1]).items()} == lists
    assert draw_split(everything, seed=1) != draw_split(everything)
    for subject in TOGETHER:
        assert len({s for s in SPLITS for name in subject if name in lists[s]}) == 1, subject
