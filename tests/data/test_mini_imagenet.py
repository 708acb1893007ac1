"""mini-ImageNet from small made files in both layouts."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from innerloop.data.mini_imagenet import MINI_IMAGENET, locate, ravi, read, read_pickles, read_pictures
from innerloop.data.paths import DataCorrupt, DataMissing
from naming import names

Png = Callable[..., bytes]


def test_the_shipped_lists() -> None:
    lists = ravi()
    assert {s: len(c) for s, c in lists.items()} == {"train": 64, "val": 16, "test": 20}
    classes = [wnid for split in lists.values() for wnid in split]
    assert len(set(classes)) == 100
    files = [f for split in lists.values() for names in split.values() for f in names]
    assert len(set(files)) == 60_000
    assert all(len(names) == 600 for split in lists.values() for names in split.values())
    assert lists["train"]["n01532829"][:2] == ["n0153282900000005.jpg", "n0153282900000006.jpg"]


def test_pictures_are_found_and_resized(tmp_path: Path, png: Png) -> None:
    lists = {"n2": ["n200000001.jpg", "n200000002.jpg"], "n1": ["n100000007.jpg"]}
    for i, (place, name) in enumerate([("", "n100000007"), ("", "n200000001"), ("n2/", "n200000002")]):
        path = tmp_path / "images" / f"{place}{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(np.full((100, 50, 3), 40 * i), kind="JPEG"))
    (tmp_path / "images" / "n200000003.jpg").write_bytes(b"not in the list, not read")
    data = read_pictures(tmp_path / "images", lists)
    assert data.images.shape == (3, 3, 84, 84)
    assert data.class_names == ("n1", "n2")
    assert data.count.tolist() == [1, 2]
    assert data.images.float().mean((1, 2, 3)).round().tolist() == [0, 40, 80]
    lists["n1"].append("n100000008.jpg")
    with pytest.raises(DataCorrupt, match=names(tmp_path / "images", 1, 4, "n100000008.jpg")):
        read_pictures(tmp_path / "images", lists)


def cache(folder: Path, split: str, classes: dict[str, list[int]], **changes: object) -> Path:
    n = sum(map(len, classes.values()))
    images = np.zeros((n, 84, 84, 3), np.uint8)
    images[:, 0, 1, 2] = np.arange(n)
    path = folder / f"mini-imagenet-cache-{split}.pkl"
    path.write_bytes(pickle.dumps({"image_data": images, "class_dict": classes} | changes, 2))
    return path


def test_the_common_pickles(tmp_path: Path) -> None:
    """Rows of a class need not stand together; the channel goes to the front."""
    paths = [
        cache(tmp_path, "train", {"n2": [1, 3], "n1": [2, 0]}),
        cache(tmp_path, "val", {"n3": [0]}),
        cache(tmp_path, "test", {"n0": [1, 0]}),
    ]
    data = read_pickles(paths)
    assert data.class_names == ("n1", "n2", "n3", "n0")
    assert data.images.shape == (7, 3, 84, 84)
    assert data.images[:, 2, 0, 1].tolist() == [2, 0, 1, 3, 0, 1, 0]
    assert int(data.images.sum()) == 7
    (tmp_path / "mini_imagenet").mkdir()
    for path in paths:
        path.rename(tmp_path / "mini_imagenet" / path.name)
    assert [p.name.split("-")[-1] for p in locate(MINI_IMAGENET, tmp_path)] == ["train.pkl", "val.pkl", "test.pkl"]
    with pytest.raises(DataCorrupt, match=names(tmp_path / "mini_imagenet", 7, 4, 100, 600)):
        read(locate(MINI_IMAGENET, tmp_path))
    (tmp_path / "mini_imagenet" / "mini-imagenet-cache-val.pkl").unlink()
    with pytest.raises(DataMissing, match=names("mini-imagenet-cache-val.pkl", tmp_path / "mini_imagenet")):
        locate(MINI_IMAGENET, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_data": np.zeros((3, 84, 84), np.uint8)},
        {"image_data": np.zeros((3, 84, 84, 3), np.float32)},
        {"class_dict": {"n1": [5]}},
        {"class_dict": {"n1": [-1]}},
        {"class_dict": {"n1": [0, 1], "n2": [1, 2]}},
        {"class_dict": {"n1": [[0], [1], [2]]}},
        {"class_dict": {"n1": [10**30]}},
        {"class_dict": {"n1": np.array([0.0])}},
        {"class_dict": 3},
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = cache(tmp_path, "train", {"n1": [0, 1, 2]}, **changes)
    with pytest.raises(DataCorrupt, match=names(path)):
        read_pickles([path])


def test_missing_says_what_to_put_where(tmp_path: Path) -> None:
    (tmp_path / "mini_imagenet").mkdir()
    named = names("images", "mini-imagenet-cache-train.pkl", tmp_path / "mini_imagenet")
    with pytest.raises(DataMissing, match=named) as caught:
        MINI_IMAGENET.load(tmp_path, tmp_path / "cache")
    assert "data fetch" not in str(caught.value), "there is nothing to fetch"
