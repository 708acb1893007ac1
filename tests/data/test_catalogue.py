"""One battery over all data sets that have a name; and how names become values."""

import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.core.episodes import SPLITS, ClassImages
from innerloop.data import cifar
from innerloop.data.catalogue import DATASETS, REGRESSIONS, find, find_images, load
from innerloop.data.check import check
from innerloop.data.cifar import CIFAR_FS
from innerloop.data.dataset import Dataset, Download, Regression
from innerloop.data.folder import Folder
from innerloop.data.omniglot import OMNIGLOT
from innerloop.data.overlap import seen_classes
from innerloop.data.paths import DataCorrupt, DataMissing, cache_root, data_root
from innerloop.data.splits import shared_out
from innerloop.errors import InnerloopError
from naming import names

Png = Callable[..., bytes]
every = pytest.mark.parametrize("data", DATASETS, ids=lambda d: d.name)


def letters(names: tuple[str, ...] = ("a/1", "a/2", "b/1", "b/2"), side: int = 4) -> ClassImages:
    pixels = [torch.full((2, 1, side, side), 10 * i, dtype=torch.uint8) for i in range(len(names))]
    return ClassImages.from_tensors("any", pixels, names)


OWN = Dataset("own", (1, 4, 4), lambda _paths, _progress: letters(), shared_out(0, (0.5, 0.25, 0.25)))


@every
def test_a_value_is_complete(data: Dataset) -> None:
    assert find(data.name) is find_images(data.name) is data
    assert data.title
    assert data.licence != "not stated"
    assert data.classes
    assert data.images
    assert data.cache
    assert bool(data.files) == bool(data.by_hand) == bool(data.citation)
    assert data.shape[0] in (1, 3)
    assert [s.name for s in data.schemes] == [data.name] * len(data.schemes)
    for file in data.files:
        assert (file.url is None) == (file.md5 is None), "a download without a checksum"
        assert file.url is None or file.url == f"https://{file.url[8:].rpartition('/')[0]}/{file.file}"
        assert all(len(digest) == 64 for digest in file.sha256)
        assert file.md5 is None or len(file.md5) == 32


@every
def test_what_is_not_there_is_said_with_what_to_do(data: Dataset, tmp_path: Path) -> None:
    if not data.files:
        assert data.locate(data, tmp_path) == []
        return
    with pytest.raises(DataMissing) as caught:
        load(data, data_dir=tmp_path, cache_dir=tmp_path / "cache")
    said = str(caught.value)
    assert said.startswith(data.name)
    assert str(tmp_path / data.places[0]) in said
    assert data.by_hand in said
    assert all(file.url is None or file.url in said for file in data.files[:1])
    found = check(data, tmp_path)
    assert (found.ok, found.problems) == (False, (said,))


@every
def test_a_class_has_seen_itself_and_its_rotations(data: Dataset) -> None:
    names = {"letters": ("greek/ALPHA", "latin/A")}.get(data.domain, ("apple", "chair"))
    assert seen_classes(data, names[:1], data, names) == names[:1]
    for scheme in (data, *data.schemes):
        if scheme.rotations:
            assert seen_classes(scheme, [f"{names[0]}/rot090"], data, names) == names[:1]


def test_files_and_images_decide_what_is_found(tmp_path: Path) -> None:
    """A value of a user's own: by a name, in one of the folders, in the cache only where it asks for one."""
    reads = []

    def read(paths: object, _: object) -> ClassImages:
        reads.append(paths)
        return letters()

    own = replace(OWN, read=read, files=(Download("own.bin", alternatives=("other.bin",)),))
    (tmp_path / "own").mkdir()
    (tmp_path / "other.bin").write_bytes(b"1")
    assert own.load(tmp_path, tmp_path / "cache").image_shape == (1, 4, 4)
    (tmp_path / "own" / "own.bin").write_bytes(b"2")
    assert own.load(tmp_path, tmp_path / "cache").splits == letters_splits()
    assert reads == [[tmp_path / "other.bin"], [tmp_path / "own" / "own.bin"]]
    assert not (tmp_path / "cache").exists()
    kept = replace(own, cache="own.safetensors")
    for _ in range(2):
        kept.load(tmp_path, tmp_path / "cache")
    assert len(reads) == 3
    found = check(own, tmp_path)
    assert (found.ok, found.classes, found.images, found.files[0].checksum) == (True, 4, 8, "unknown")


def letters_splits() -> dict[str, tuple[int, ...]]:
    names = letters().class_names
    return {s: tuple(names.index(n) for n in own) for s, own in OWN.splits(names).items()}


def test_rotations_are_classes_that_share_images() -> None:
    data = replace(OWN, rotations=True).load()
    assert data.class_names[:5] == ("a/1/rot000", "a/1/rot090", "a/1/rot180", "a/1/rot270", "a/2/rot000")
    assert data.turns.tolist() == [0, 1, 2, 3] * 4
    assert data.first.tolist() == [0] * 4 + [2] * 4 + [4] * 4 + [6] * 4
    plain = OWN.load()
    for split in SPLITS:
        assert list(data.splits[split]) == [4 * c + k for c in plain.splits[split] for k in range(4)]


def test_a_value_that_does_not_fit_its_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match=names((1, 4, 4), (3, 4, 4))):
        replace(OWN, shape=(3, 4, 4)).load()
    with pytest.raises(InnerloopError, match=names("own", "c/9")):
        replace(OWN, splits=lambda _: {"train": ["a/1"], "val": ["c/9"]}).load()
    with pytest.raises(InnerloopError, match=names("own", "a/1")):
        replace(OWN, read=lambda _p, _q: letters(("a/1", "a/1"))).load()
    with pytest.raises(InnerloopError, match=names("a/1", "'train'", "'val'")):
        replace(OWN, splits=lambda _: {"train": ["a/1"], "val": ["a/1"]}).load()
    with pytest.raises(InnerloopError, match=names("shape")):
        replace(OWN, shape=(1, 0, 4))


def test_two_sets_share_classes_only_in_one_domain() -> None:
    """Catches: two words for one thing that pass for two things."""
    other = replace(OWN, name="other")
    with pytest.raises(InnerloopError, match=names("own", "other")):
        seen_classes(OWN, ["a/1"], other, ["a/1"])
    own, other = (replace(d, domain="letters") for d in (OWN, other))
    assert seen_classes(own, ["a/1"], other, ["a/2", "a/1"]) == ("a/1",)


def test_names_become_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data_of_mine.py").write_text(
        "from innerloop.data import Dataset, Regression, Sinusoid, shared_out\n"
        "letters = Dataset('letters', (1, 2, 2), max, shared_out())\n"
        "waves = Regression('waves', Sinusoid)\n"
        "nothing = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    own, waves = find("data_of_mine:letters"), find("data_of_mine:waves")
    assert isinstance(own, Dataset)
    assert own.name == "letters"
    assert isinstance(waves, Regression)
    assert find("sinusoid") is REGRESSIONS[0]
    assert find("omniglot", split_scheme="vinyals") is OMNIGLOT
    lake = find_images("omniglot", split_scheme="lake")
    assert (lake.scheme, lake.rotations) == ("lake", False)
    for given, parts in {
        "omniglott": ("omniglott", "cifar_fs", "module:attribute", "'omniglot'"),
        "data_of_mine:nothing": ("data_of_mine:nothing", "int", "Dataset"),
        "data_of_mine:lettres": ("lettres", "letters"),
        "folder": ("folder.root",),
    }.items():
        with pytest.raises(InnerloopError, match=names(*parts)):
            find(given)
    for name in ("sinusoid", "data_of_mine:waves"):
        with pytest.raises(InnerloopError, match=names(name, "regression")):
            load(name)
    with pytest.raises(InnerloopError, match=names("--data folder")):
        find("glyphs", folder=Folder(root="x"))
    with pytest.raises(InnerloopError, match=names("fc100")):
        load("fc100", split_scheme="lake")
    with pytest.raises(InnerloopError, match=names("koch", "vinyals", "lake")):
        load("omniglot", split_scheme="koch", data_dir=tmp_path)
    with pytest.raises(InnerloopError, match=names("sinusoid", "lake")):
        find("sinusoid", split_scheme="lake")
    with pytest.raises(InnerloopError, match=names("cifar_fs", "size", 84)):
        load("cifar_fs", size=84)
    with pytest.raises(InnerloopError, match=names("size", 1, 0)):
        load("caltech101", size=0)


def test_the_folders_of_data_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument goes before the environment, the environment before the user's own folder."""
    for root, variable in ((data_root, "INNERLOOP_DATA"), (cache_root, "INNERLOOP_CACHE")):
        monkeypatch.delenv(variable, raising=False)
        assert "innerloop" in str(root())
        monkeypatch.setenv(variable, str(tmp_path / "environment"))
        assert root() == tmp_path / "environment"
        assert root(str(tmp_path / "given")) == tmp_path / "given"
        assert root("~/x") == Path.home() / "x"


def test_check_says_what_is_broken(tmp_path: Path, png: Png) -> None:
    for name in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as file:
            file.writestr(f"{name}/A/character01/1.png", png(np.zeros((5, 5))))
    found = check(OMNIGLOT, tmp_path)
    assert not found.ok
    assert [f.checksum for f in found.files] == ["unknown", "unknown"]
    assert re.search(names(1, 1623), found.problems[0])
    (tmp_path / "images_evaluation.zip").write_bytes(b"PK half")
    assert re.search(names("images_evaluation.zip"), check(OMNIGLOT, tmp_path).problems[0])
    assert not check(replace(OWN, splits=lambda _: {"test": ["z"]}), tmp_path).ok


def test_check_takes_an_unknown_packing_that_is_whole(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "cifar100.zip", "w") as file:
        for c in "ab":
            file.writestr(f"data/{c}/1.png", png(np.zeros((4, 4))))
    monkeypatch.setattr(cifar, "CLASSES", 2)
    monkeypatch.setattr(cifar, "PER_CLASS", 1)
    found = check(replace(CIFAR_FS, splits=lambda _: {"train": ["a"], "test": ["b"]}), tmp_path)
    assert found.ok
    assert (found.classes, found.images) == (2, 2)
    assert "not one that is known" in found.notes[0]
