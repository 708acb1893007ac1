"""`innerloop runs` and `innerloop doctor`: what is there, how runs compare, what may be deleted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from innerloop import cli
from innerloop.models import kernel
from innerloop.runs import RunFolder
from innerloop.training import build, train
from tiny import CONFIG, FLAGS, load_blobs

pytestmark = pytest.mark.usefixtures("made_images")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        for method in ("maml", "anil"):
            assert cli.run(["train", *FLAGS, "--method", method, "--out", str(where / method)]) == 0
    return where


@pytest.fixture
def two(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of two runs, in runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "runs")


def test_runs_are_listed_and_compared_in_pairs(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The interval of the difference by NumPy; catches the interval of unpaired means."""
    train(replace(CONFIG, outer=replace(CONFIG.outer, steps=2)), two / "deep" / "other")
    (two / "broken").mkdir()
    for name in ("config.json", "env.json"):
        (two / "broken" / name).write_text("[")
    more = [["--method", "nil"], ["--statistics", "support"], ["--augment-support", "flip"], ["--inner-steps", "1"]]
    for options in more:  # none of these is the run's own test
        assert cli.run(["evaluate", "runs/maml", *options]) == 0
    capsys.readouterr()
    assert cli.run(["runs", "list"]) == 0
    listed = capsys.readouterr().out
    assert f"{100 * RunFolder(two / 'maml').evaluations[0]['mean']:.2f}" in listed
    assert all(name in listed for name in ("maml", "anil", "deep/other", "broken"))
    assert cli.run(["runs", "compare", "runs/maml", "runs/anil"]) == 0
    said = capsys.readouterr().out
    a, b = (np.array(RunFolder(two / m).evaluations[0]["per_episode"]) for m in ("anil", "maml"))
    width = 1.96 * (a - b).std(ddof=1) / len(a) ** 0.5
    assert f"{100 * (a - b).mean():+.2f} ± {100 * width:.2f}" in said


def test_tests_on_other_episodes_do_not_compare(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = two / "anil" / "eval.json"
    for name, at in (("config.json", lambda v: v["test"]), ("eval.json", lambda v: v["evaluations"][0]["settings"])):
        value = json.loads((two / "anil" / name).read_text())
        at(value)["seed"] = 5
        (two / "anil" / name).write_text(json.dumps(value))
    assert cli.run(["runs", "compare", "runs/maml", "runs/anil"]) == 1
    assert "settings.seed 5" in capsys.readouterr().err
    value = json.loads((two / "anil" / "config.json").read_text())
    value["way"] = 4  # the number of ways is in config.json alone
    (two / "anil" / "config.json").write_text(json.dumps(value))
    assert cli.run(["runs", "compare", "runs/maml", "runs/anil"]) == 1
    assert "way 4" in capsys.readouterr().err
    file.unlink()
    assert cli.run(["runs", "compare", "runs/maml", "runs/anil"]) == 1
    assert "innerloop evaluate runs/anil" in capsys.readouterr().err


def test_only_free_run_folders_are_deleted(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two / "mine").mkdir()
    (two / "mine" / "thesis.tex").write_text("all of it")
    assert cli.run(["runs", "delete", "runs/maml", "runs/mine"]) == 1
    assert (two / "maml").exists()
    assert (two / "mine" / "thesis.tex").exists()
    with RunFolder(two / "anil").alone():
        assert cli.run(["runs", "delete", "runs/maml", "runs/anil"]) == 1
    assert (two / "maml").exists()
    assert cli.run(["runs", "delete", "runs/maml"]) == 0
    assert sorted(p.name for p in two.iterdir()) == ["anil", "mine"]
    capsys.readouterr()


def test_the_doctor_names_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from innerloop.cli.doctor import found

    status = kernel.KernelStatus("missing", "no compiler here")
    monkeypatch.setattr("innerloop.cli.doctor.kernel_status", lambda: status)
    needs = ["torch>=2", 'nothing-here>=2.4; extra == "more"', 'torch>=2; extra == "less"', 'pytest; extra == "dev"']
    monkeypatch.setattr("innerloop.cli.doctor.metadata.requires", lambda _: needs)
    lines = dict(found(tmp_path / "data"))
    assert "no compiler here" in lines["compiled kernel"]
    assert "does not exist" in lines["data folder"]
    assert lines["data sets here"] == "glyphs"
    assert lines["extra less"] == "installed"
    assert all(text in lines["extra more"] for text in ("nothing-here", "'innerloop[more]'"))
    assert "extra dev" not in lines
    monkeypatch.undo()
    assert cli.run(["doctor"]) == 0
    assert "compiled kernel" in capsys.readouterr().out
