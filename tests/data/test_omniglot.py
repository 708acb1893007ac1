"""Omniglot from made archives in the official layout."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.core.episodes import ImageTasks
from innerloop.core.random import generator_for
from innerloop.data.omniglot import OMNIGLOT, character_names, read, read_characters
from innerloop.data.paths import DataCorrupt, DataMissing
from innerloop.data.splits import split_lines
from innerloop.errors import InnerloopError
from naming import names

Png = Callable[..., bytes]


@pytest.fixture
def made(tmp_path: Path, png: Png) -> Path:
    """A data folder with all 1,623 characters; the first row of a drawing spells its character's number."""
    names = sorted(n for lines in split_lines("omniglot_vinyals").values() for n in character_names(lines))
    evaluation = set(split_lines("omniglot_lake")["test"])
    folder = tmp_path / "data" / "omniglot"
    folder.mkdir(parents=True)
    with (
        zipfile.ZipFile(folder / "images_background.zip", "w") as background,
        zipfile.ZipFile(folder / "images_evaluation.zip", "w") as held_out,
    ):
        for i, name in enumerate(names):
            pixels = np.full((28, 28), 255)
            pixels[0, :11] = [0 if i >> bit & 1 else 255 for bit in range(11)]
            part = "evaluation" if name.split("/")[0] in evaluation else "background"
            archive = held_out if part == "evaluation" else background
            content = png(pixels, "1")
            for drawer in range(1, 21):
                archive.writestr(f"images_{part}/{name}/{i:04}_{drawer:02}.png", content)
    return folder.parent


def spelt(x: torch.Tensor) -> int:
    return int((x[0, 0, :11] * 2 ** torch.arange(11)).sum())


def test_both_splits_from_made_archives(made: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data = OMNIGLOT.load(made, cache)
    assert {s: len(c) for s, c in data.splits.items()} == {"train": 4112, "val": 688, "test": 1692}
    assert data.images.shape == (32460, 1, 28, 28)
    names = sorted({name.rsplit("/", 1)[0] for name in data.class_names})
    train = data.split("train")
    assert train.images.data_ptr() == data.images.data_ptr(), "images are stored once"
    by_split = {s: {data.class_names[c].rsplit("/", 1)[0] for c in classes} for s, classes in data.splits.items()}
    assert sum(map(len, by_split.values())) == len(set.union(*by_split.values())) == 1623
    episodes = ImageTasks(train, 30, 1, 1).sample(1, generator_for(0))
    assert episodes.classes is not None
    for x, c in zip(episodes.query_x[0], episodes.classes[0].tolist(), strict=True):
        character, rotation = train.class_names[c].rsplit("/rot", 1)
        assert spelt(torch.rot90(x, -int(rotation) // 90, dims=(1, 2))) == names.index(character)
    for name in ("images_background.zip", "images_evaluation.zip"):
        (made / "omniglot" / name).unlink()  # offline, from the cache alone
    lake = OMNIGLOT.with_scheme("lake").load(made, cache)
    assert {s: len(c) for s, c in lake.splits.items()} == {"train": 813, "val": 151, "test": 659}
    assert not lake.turns.any()
    alphabets = {s: {lake.class_names[c].split("/")[0] for c in classes} for s, classes in lake.splits.items()}
    assert {s: len(a) for s, a in alphabets.items()} == {"train": 25, "val": 5, "test": 20}
    assert max(alphabets["train"]) < min(alphabets["val"]), "the last five background alphabets are val"


def test_strokes_are_one_and_anti_aliased(tmp_path: Path, png: Png) -> None:
    """Catches: no inversion, and a resize of the 1-bit picture (which leaves only black and white)."""
    pixels = np.full((105, 105), 255)
    pixels[15:30, 15:30] = 0  # ink in the upper left
    pixels[50, 10:90] = 0  # a thin line: 28/105 of a pixel wide
    file = tmp_path / "images_background" / "A" / "character01" / "0001_01.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(png(pixels, "1"))
    (image,) = read_characters([tmp_path / "images_background"]).images[:, 0]
    assert image[5:7, 5:7].min() > 250
    assert image[27].max() == 0
    line = image[13, 5:22]
    assert 20 < int(line.float().mean()) < 200
    assert len(image.unique()) > 4


def test_archive_and_unpacked_folder_are_the_same(tmp_path: Path, png: Png) -> None:
    archive = tmp_path / "images_background.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for c in ("B/character02", "B/character01", "A/character01"):
            for drawer in (2, 1):
                pixels = np.random.default_rng([ord(c[0]), drawer]).integers(0, 2, (105, 105)) * 255
                file.writestr(f"images_background/{c}/0001_{drawer:02}.png", png(pixels, "1"))
        file.writestr("__MACOSX/images_background/A/character01/._0001_01.png", b"resource fork")
        file.extractall(tmp_path)
    packed, unpacked = read_characters([archive]), read_characters([tmp_path / "images_background"])
    assert packed.class_names == unpacked.class_names == ("A/character01", "B/character01", "B/character02")
    assert packed.count.tolist() == [2, 2, 2]
    assert torch.equal(packed.images, unpacked.images)


def test_what_is_not_whole_is_refused(tmp_path: Path, png: Png) -> None:
    archive = tmp_path / "images_background.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("images_background/A/character01/1.png", png(np.zeros((5, 5))))
    with pytest.raises(DataCorrupt, match=names(archive, 1, 1623)):
        read([archive])
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("images_background/A/character01/2.png", b"not a picture")
    with pytest.raises(DataCorrupt, match=names("images_background/A/character01/2.png", archive)):
        read([archive])
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataCorrupt, match=names(archive, "zip")):
        read([archive])


def test_missing_says_what_where_and_how(tmp_path: Path) -> None:
    (tmp_path / "images_background.zip").touch()
    named = (
        "images_evaluation.zip",
        tmp_path / "omniglot",
        "https://",
        "INNERLOOP_DATA",
        "innerloop data fetch omniglot",
    )
    with pytest.raises(DataMissing, match=names(*named)) as caught:
        OMNIGLOT.load(tmp_path, tmp_path / "cache")
    assert isinstance(caught.value, FileNotFoundError)


def test_unknown_scheme() -> None:
    with pytest.raises(InnerloopError, match=names("omniglot", "koch", "vinyals", "lake")):
        OMNIGLOT.with_scheme("koch")
