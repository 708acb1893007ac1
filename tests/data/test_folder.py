"""A user's own folder of images."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from innerloop.core.episodes import ClassImages, ImageTasks
from innerloop.core.random import generator_for
from innerloop.data.folder import Folder
from innerloop.data.paths import DataCorrupt, DataMissing
from innerloop.data.splits import shared_out
from innerloop.errors import InnerloopError
from naming import names

Png = Callable[..., bytes]


@pytest.fixture
def root(tmp_path: Path, png: Png) -> Path:
    """Ten classes; class i has 3 + i % 2 pictures of brightness 10 i + picture."""
    root = tmp_path / "mine"
    for i in range(10):
        (root / f"class {i}").mkdir(parents=True)
        for k in range(3 + i % 2):
            (root / f"class {i}" / f"{k}.PNG").write_bytes(png(np.full((9, 7, 3), 10 * i + k)))
        (root / f"class {i}" / "notes.txt").write_text("no image")
        (root / f"class {i}" / ".DS_Store").write_bytes(b"\0")
    (root / "README.md").write_text("pictures")
    return root


def load(root: Path, cache: Path, size: int = 8, **more: Any) -> ClassImages:
    return Folder(str(root), size=size, **more).dataset().load(cache_dir=cache)


def test_classes_counts_and_pixels(root: Path, tmp_path: Path) -> None:
    data = load(root, tmp_path / "cache")
    assert data.name == "mine"
    assert data.class_names == tuple(f"class {i}" for i in range(10))
    assert data.count.tolist() == [3, 4] * 5
    assert data.images.shape == (35, 3, 8, 8)
    for i in range(10):
        first = int(data.first[i])
        assert data.images[first : first + 3, 0, 0, 0].tolist() == [10 * i, 10 * i + 1, 10 * i + 2]
    grey = load(root, tmp_path / "cache", channels=1)
    assert grey.images.shape == (35, 1, 8, 8), "the cache of another shape was taken"
    episodes = ImageTasks(data.split("train"), 5, 1, 2).sample(2, generator_for(0))
    assert episodes.support_x.shape == (2, 5, 3, 8, 8)


def test_a_seeded_split_shares_all_classes_out(root: Path, tmp_path: Path) -> None:
    def splits(seed: int) -> dict[str, tuple[int, ...]]:
        return {s: tuple(c) for s, c in load(root, tmp_path, split_seed=seed).splits.items()}

    assert {s: len(c) for s, c in splits(0).items()} == {"train": 6, "val": 2, "test": 2}
    assert sorted(c for classes in splits(0).values() for c in classes) == list(range(10))
    assert splits(0) == splits(0)
    assert any(splits(0) != splits(seed) for seed in (1, 2))
    assert set(shared_out(0, (0.5, 0.0, 0.5))("abcdefghij")) == {"train", "test"}
    assert sum(map(len, shared_out(3, (0.1, 0.2, 0.7))("abcdefg").values())) == 7
    with pytest.raises(InnerloopError, match=names(3, 0.1) + "(?=.*(val|test))"):
        shared_out(0, (0.8, 0.1, 0.1))("abc")
    with pytest.raises(InnerloopError, match=names("fractions", 1, (0.5, 0.1, 0.1))):
        shared_out(0, (0.5, 0.1, 0.1))


def test_lists_decide_the_split(root: Path, tmp_path: Path) -> None:
    (root / "train.txt").write_text("class 3\nclass 1\n\n")
    (root / "test.txt").write_text("class 9\r\n")
    data = load(root, tmp_path / "cache")
    assert data.splits == {"train": (3, 1), "test": (9,)}
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    with pytest.raises(DataMissing, match=names("train.txt", "val.txt", "test.txt", elsewhere)):
        load(root, tmp_path / "cache", split_dir=str(elsewhere))
    for text, named in (
        ("class 3\nclass 77\n", (1, "class 77", "class 4")),
        ("class 3\nclass 3\n", ("class 3",)),
        ("class 9\n", ("class 9", "train", "test")),
    ):
        (root / "train.txt").write_text(text)
        with pytest.raises(InnerloopError, match=names(root.name, *named)):
            load(root, tmp_path / "cache")


def test_a_changed_folder_is_read_again(root: Path, tmp_path: Path, png: Png) -> None:
    cache = tmp_path / "cache"
    load(root, cache)
    picture = root / "class 0" / "0.bmp"  # every picture of a size takes the same bytes as BMP
    for value in (50, 77):
        picture.write_bytes(png(np.full((9, 7, 3), value), kind="BMP"))
        os.utime(picture, ns=(value * 10**9, value * 10**9))
        data = load(root, cache)
        assert value in data.images[:4, 0, 0, 0].tolist()
    picture.unlink()
    assert load(root, cache).count[0] == 3


def test_an_unreadable_image_is_named(root: Path, tmp_path: Path) -> None:
    (root / "class 4" / "bad.jpg").write_bytes(b"\xff\xd8 not a photograph")
    with pytest.raises(DataCorrupt, match=names("class 4/bad.jpg", root)) as caught:
        load(root, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path).glob("cache/*")), "half a data set was kept"


def test_a_zip_is_as_good_as_a_folder(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in root.rglob("*.PNG"):
            file.write(path, f"top/{path.relative_to(root).as_posix()}")
    packed = load(archive, tmp_path / "cache")
    loose = load(root, tmp_path / "cache")
    assert packed.class_names == loose.class_names
    assert torch.equal(packed.images, loose.images)


def test_errors_for_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=names(tmp_path / "nowhere")):
        load(tmp_path / "nowhere", tmp_path)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.png").write_bytes(b"")
    with pytest.raises(DataCorrupt, match=names(tmp_path / "flat", "CLASS/IMAGE")):
        load(tmp_path / "flat", tmp_path)
    with pytest.raises(InnerloopError, match=names("channels", 1, 3, 2)):
        Folder(channels=2)
    with pytest.raises(ValueError, match=names("--folder.root")):
        Folder().dataset()
    with pytest.raises(InnerloopError, match=names("size", 1, 0)):
        Folder(size=0)


def test_names_that_are_no_text(tmp_path: Path, png: Png) -> None:
    """A folder from a machine that writes Latin-1, with lists from there."""
    root = tmp_path / os.fsdecode(b"m\xfcll")
    for name in (b"caf\xe9", b"na\xefve", "zoë".encode()):
        (root / os.fsdecode(name)).mkdir(parents=True)
        (root / os.fsdecode(name) / os.fsdecode(b"\xff.png")).write_bytes(png(np.full((4, 4), name[0])))
    (root / "train.txt").write_bytes(b"na\xefve\ncaf\xe9\n")
    for _ in range(2):  # read, and then from the cache
        data = load(root, tmp_path / "cache", 4)
        assert data.name == "m\\udcfcll"
        assert data.class_names == ("caf\\udce9", "na\\udcefve", "zoë")
        assert data.splits == {"train": (1, 0)}
        assert data.images[:, 0, 0, 0].tolist() == [ord("c"), ord("n"), ord("z")]


def test_two_classes_that_are_written_alike_are_an_error(tmp_path: Path, png: Png) -> None:
    for name in (os.fsdecode(b"caf\xe9"), "caf\\udce9"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "0.png").write_bytes(png(np.zeros((4, 4))))
    with pytest.raises(InnerloopError, match=names("mine", "caf\\udce9")):
        load(tmp_path / "mine", tmp_path / "cache")


def test_a_link_to_a_folder_of_pictures_is_followed(root: Path, tmp_path: Path) -> None:
    """A class folder elsewhere; but what that links to itself is not, so that no circle is walked for ever."""
    elsewhere = tmp_path / "elsewhere"
    (root / "class 1").rename(elsewhere)
    (root / "class 1").symlink_to(elsewhere)
    (elsewhere / "more").symlink_to(root / "class 0")
    assert load(root, tmp_path / "cache").count[1] == 4


def test_a_link_that_leads_nowhere_near_a_picture_is_passed_over(root: Path, tmp_path: Path) -> None:
    (root / "class 1" / "zero.png").symlink_to("/dev/zero")
    (root / "class 1" / "again").symlink_to(root)
    os.mkfifo(root / "class 1" / "pipe.png")
    assert load(root, tmp_path / "cache").count[1] == 4
