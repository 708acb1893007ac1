"""The real archives under INNERLOOP_DATA: counts, splits, statistics that others have published."""

import os
from pathlib import Path

import pytest
import torch

from innerloop.core.episodes import ImageTasks
from innerloop.core.random import generator_for
from innerloop.data.archive import open_archive
from innerloop.data.catalogue import DATASETS, load
from innerloop.data.check import check
from innerloop.data.convert import as_shape
from innerloop.data.dataset import Dataset
from innerloop.data.paths import DataMissing, find
from innerloop.data.within_alphabet import WithinAlphabet

ROOT = os.environ.get("INNERLOOP_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(ROOT is None, reason="INNERLOOP_DATA is not set"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("data", DATASETS, ids=lambda d: d.name)
def test_check_finds_it_whole(data: Dataset) -> None:
    try:
        data.locate(data, Path(str(ROOT)))
    except DataMissing:
        pytest.skip("not here")
    found = check(data)
    assert found.ok, found.problems
    assert (found.classes, found.images) == (data.classes, data.images)


def test_omniglot(cache: Path) -> None:
    data = load("omniglot", cache_dir=cache)
    assert {s: len(c) for s, c in data.splits.items()} == {"train": 4112, "val": 688, "test": 1692}
    x = data.images.float() / 255
    assert 0.07 < float(x.mean()) < 0.10, "strokes are 1 on 0, and thin"
    assert float(x.amax((1, 2, 3)).min()) > 0.3, "a drawing is empty"
    assert torch.equal(load("omniglot", data_dir=cache / "none", cache_dir=cache).images, data.images)
    episodes = ImageTasks(data.split("train"), 20, 5, 15).sample(2, generator_for(0))
    assert episodes.query_x.shape == (2, 300, 1, 28, 28)


def test_cifar_100(cache: Path) -> None:
    """The published mean and deviation are those of CIFAR-100's training set, 5/6 of the images here."""
    data = load("cifar_fs", cache_dir=cache)
    x = data.images[::3].float() / 255
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0.507, 0.487, 0.441], abs=3e-3)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([0.267, 0.256, 0.276], abs=3e-3)
    assert {s: len(c) for s, c in data.splits.items()} == {"train": 64, "val": 16, "test": 20}
    fc100 = load("fc100", cache_dir=cache)
    assert {s: len(c) for s, c in fc100.splits.items()} == {"train": 60, "val": 20, "test": 20}
    people = {"baby", "boy", "girl", "man", "woman"}
    assert people <= set(fc100.split("test").class_names)


def test_omniglot_within_alphabets(cache: Path) -> None:
    """All 20 evaluation alphabets have 20 characters; image i of each character of an alphabet is by drawer i."""
    family = WithinAlphabet(load("omniglot", split_scheme="lake", cache_dir=cache).split("test"))
    assert len(family.alphabets) == 20
    assert set(family.drawers.tolist()) == {20}
    assert family.sample(2, generator_for(0)).query_x.shape == (2, 20, 1, 28, 28)
    for paths in (read_names(name) for name in ("images_background.zip", "images_evaluation.zip")):
        for files in paths.values():
            assert [int(f.split("_")[1].removesuffix(".png")) for f in files] == list(range(1, 21))


def read_names(archive: str) -> dict[str, list[str]]:
    """character -> its files, in the order in which they are decoded."""
    path = find(Path(str(ROOT)), ("omniglot",), (archive,))
    assert path is not None
    files: dict[str, list[str]] = {}
    with open_archive(path) as opened:
        for name in opened.paths:
            if name.endswith(".png"):
                files.setdefault(name.rsplit("/", 1)[0], []).append(name.rsplit("/", 1)[-1])
    return files


def test_caltech101(cache: Path) -> None:
    data = load("caltech101", cache_dir=cache)
    assert {s: len(c) for s, c in data.splits.items()} == {"train": 64, "val": 16, "test": 21}
    assert data.image_shape == (3, 84, 84)
    assert (int(data.count.min()), int(data.count.max())) == (31, 800)
    small = load("caltech101", size=32, cache_dir=cache)
    assert small.class_names == data.class_names
    other = as_shape(data, 3, 32)
    assert float((small.images.float() - other.images.float()).abs().mean()) < 1.0, "one shape by two routes"


def test_the_archives_are_found_where_they_lie() -> None:
    assert ROOT is not None
    assert find(Path(ROOT), ("omniglot",), ("images_background.zip",)) is not None
