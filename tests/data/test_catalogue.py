"""One name, one data set; and what is known of each."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from innerloop.data import check as checking
from innerloop.data.catalogue import NAMES, load
from innerloop.data.check import check
from innerloop.data.folder import FolderOptions
from innerloop.data.places import DataMissing, cache_root, data_root
from innerloop.data.sources import SOURCES

Png = Callable[..., bytes]


def test_every_source_can_be_loaded_by_its_name(tmp_path: Path) -> None:
    assert {s.name for s in SOURCES} | {"folder"} == set(NAMES)
    for source in SOURCES:
        if source.archives:
            with pytest.raises(DataMissing, match=f"^{source.name}|^cifar_fs"):
                load(source.name, data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_sources_are_complete() -> None:
    for source in SOURCES:
        assert source.title
        assert source.licence
        for archive in source.archives:
            assert source.by_hand
            assert source.citation
            assert (archive.url is None) == (archive.md5 is None), "a download without a checksum"
            if archive.url:
                assert archive.url.startswith("https://")
                assert archive.url.endswith("/" + archive.file)
            assert all(len(digest) == 64 for digest in archive.sha256)
            assert archive.md5 is None or len(archive.md5) == 32


def test_unknown_names_and_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set 'mnist'; there are omniglot, cifar_fs"):
        load("mnist")
    with pytest.raises(ValueError, match="Sinusoid"):
        load("sinusoid")
    with pytest.raises(ValueError, match="fc100 has one split only"):
        load("fc100", split_scheme="lake")
    with pytest.raises(ValueError, match="no split scheme 'koch'; it has vinyals, lake"):
        load("omniglot", split_scheme="koch", data_dir=tmp_path)
    with pytest.raises(ValueError, match="name the folder of classes"):
        load("folder")
    with pytest.raises(ValueError, match="cifar_fs has one size only; size 84 is for caltech101"):
        load("cifar_fs", size=84)
    with pytest.raises(ValueError, match="size must be at least 1 pixel, got 0"):
        load("caltech101", size=0)


def test_a_folder_by_its_name(tmp_path: Path, png: Png) -> None:
    for c in "abc":
        (tmp_path / "mine" / c).mkdir(parents=True)
        (tmp_path / "mine" / c / "1.png").write_bytes(png(np.zeros((4, 4))))
    options = FolderOptions(size=4, channels=1, split_seed=0, fractions=(0.4, 0.3, 0.3))
    data = load("folder", data_dir=tmp_path / "mine", cache_dir=tmp_path / "cache", folder=options)
    assert data.image_shape == (1, 4, 4)


def test_the_folders_of_data_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument goes before the environment, the environment before the user's own folder."""
    for root, variable in ((data_root, "INNERLOOP_DATA"), (cache_root, "INNERLOOP_CACHE")):
        monkeypatch.delenv(variable, raising=False)
        assert "innerloop" in str(root())
        monkeypatch.setenv(variable, str(tmp_path / "environment"))
        assert root() == tmp_path / "environment"
        assert root(str(tmp_path / "given")) == tmp_path / "given"
        assert root("~/x") == Path.home() / "x"


def test_check_says_what_is_missing_and_what_is_broken(tmp_path: Path, png: Png) -> None:
    found = check("omniglot", tmp_path)
    assert not found.ok
    assert "images_background.zip is missing" in found.problems[0]
    for name in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as file:
            file.writestr(f"{name}/A/character01/1.png", png(np.zeros((5, 5))))
    found = check("omniglot", tmp_path)
    assert not found.ok
    assert [f.checksum for f in found.files] == ["unknown", "unknown"]
    assert "1 characters, Omniglot has 1623" in found.problems[0]
    (tmp_path / "images_evaluation.zip").write_bytes(b"PK half")
    assert "not a whole zip" in check("omniglot", tmp_path).problems[0]
    with pytest.raises(ValueError, match="there is no data set 'mnist'"):
        check("mnist", tmp_path)


def test_check_takes_an_unknown_packing_that_is_whole(
    tmp_path: Path, png: Png, monkeypatch: pytest.MonkeyPatch
) -> None:
    for c in "ab":
        (tmp_path / c).mkdir()
        (tmp_path / c / "1.png").write_bytes(png(np.zeros((4, 4))))
    recipe = checking.recipe_of("cifar_fs")
    assert recipe is not None
    archive = tmp_path / "cifar100.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for c in "ab":
            file.write(tmp_path / c / "1.png", f"data/{c}/1.png")
    monkeypatch.setattr(checking.cifar, "CLASSES", 2)
    monkeypatch.setattr(checking.cifar, "PER_CLASS", 1)
    found = check("cifar_fs", tmp_path)
    assert found.ok
    assert (found.classes, found.images) == (2, 2)
    assert "not one that is known" in found.notes[0]
