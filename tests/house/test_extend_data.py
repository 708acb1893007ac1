"""examples/extend_data.py, used from a folder outside of the checkout: nothing but the file itself knows its name."""

import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from innerloop import cli
from innerloop.core.episodes import ClassImages
from innerloop.data import Dataset, find, load
from innerloop.estimator import FewShotClassifier
from innerloop.runs import RunFolder
from innerloop.training import Config, Interrupted, Progress, load_run, train
from tiny import FLAGS, assert_same

NAME = "extend_data:characters"
TRAIN = ["train", "--data", NAME, *FLAGS]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the example and the file that it reads, and nothing else."""
    shutil.copy(Path(__file__).parents[2] / "examples" / "extend_data.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    find(NAME)
    sys.modules["extend_data"].draw(Path("data/characters.npz"))
    yield tmp_path
    del sys.modules["extend_data"]


def test_it_is_a_value_like_ours() -> None:
    data = find(NAME)
    assert isinstance(data, Dataset)
    images = load(data)
    assert images.image_shape == data.shape == (1, 28, 28)
    assert {s: len(c) for s, c in images.splits.items()} == {"train": 26, "val": 6, "test": 8}
    assert not Path("cache").exists()


def test_train_resume_evaluate_classify(capsys: pytest.CaptureFixture[str]) -> None:
    """Resumed it ends as one that was not stopped, bit for bit; every command then takes the run."""
    assert cli.run([*TRAIN, "--out", "run"]) == 0
    config = RunFolder(Path("run")).config_as(Config.from_json)
    assert config.data == NAME

    def stop(p: Progress) -> None:
        if p.step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, Path("cut"), report=stop)
    assert cli.run([*TRAIN, "--out", "cut", "--resume"]) == 0
    assert_same(Path("run"), Path("cut"))
    assert cli.run(["evaluate", "run", "--method", "proto", "--augment-support", "affine", "--copies", "1"]) == 0
    assert [e["data"] for e in RunFolder(Path("run")).evaluations] == [NAME, NAME]
    assert cli.run(["analyse", "run"]) == 0
    data = load(NAME)
    few = FewShotClassifier("run", method="nil").fit(as_array(data, 0), np.arange(3))
    assert few.predict(as_array(data, 1)).shape == (3,)
    assert load_run("run")[0] == config
    capsys.readouterr()
    assert cli.run(["evaluate", "run", "--data", "glyphs"]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in ("characters", "glyphs", "domain"))


def as_array(data: ClassImages, k: int) -> np.ndarray:
    return 255 - data.images[data.first[:3] + k, 0].numpy()  # dark on white, as a camera sees them


def test_it_can_be_listed_checked_and_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "list", NAME]) == 0
    assert "characters: licence: CC0" in capsys.readouterr().out
    assert cli.run(["data", "check", NAME]) == 0
    assert "ok, 40 classes, 800 images" in capsys.readouterr().out
    assert cli.run(["data", "fetch", NAME]) == 1
    assert "characters.npz" in capsys.readouterr().err
    Path("data/characters.npz").unlink()
    assert cli.run([*TRAIN, "--out", "run"]) == 1
    said = capsys.readouterr().err
    assert all(word in said for word in ("characters.npz is missing", str(Path.cwd() / "data" / "characters")))


def test_it_makes_a_dagan(elsewhere: Path) -> None:
    tiny = "--steps 1 --critic-steps 1 --batch 4 --sizes.widths 4 8 --sizes.noise 4 --images 4 --samples 2 --device cpu"
    assert cli.run(["dagan", "--data", NAME, *tiny.split(), "--out", "made"]) == 0


@pytest.mark.slow
def test_it_takes_part_in_reproduce() -> None:
    command = f"reproduce table1 --data {NAME} --budget smoke --way 3 --threads 1 --device cpu --out made"
    assert cli.run(command.split()) == 0
    (folder,) = Path("made").glob("extend_data.characters-*")
    assert (folder / "table1" / "table.md").exists()
