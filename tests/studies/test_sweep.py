"""A sweep: which trainings it makes, and what it says of them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder
from innerloop.runs.files import read_object
from innerloop.studies.sweep import combinations, sweep
from innerloop.training import Config
from tiny import FLAGS, SINES, glyphs_of_16_pixels

pytestmark = pytest.mark.usefixtures("made_images")


def test_a_grid_has_every_combination_once_in_order() -> None:
    assert combinations(["inner.lr=0.1,0.4", "method=maml,anil"]) == [
        {"inner.lr": "0.1", "method": "maml"},
        {"inner.lr": "0.1", "method": "anil"},
        {"inner.lr": "0.4", "method": "maml"},
        {"inner.lr": "0.4", "method": "anil"},
    ]


def test_draws_fill_their_ranges_evenly_in_the_logarithm() -> None:
    """A quarter of log-uniform draws from 0.01..1 lies below 0.01·10^0.5; whole numbers reach both ends."""
    found = combinations(["inner.lr=0.01..1.0", "inner.steps=1..4", "method=maml,anil"], draws=400, seed=3)
    rates = sorted(float(v["inner.lr"]) for v in found)
    assert 0.01 <= rates[0] < rates[-1] <= 1
    below = sum(r < 10**-1.5 for r in rates) / len(rates)
    assert abs(below - 0.25) < 3 * math.sqrt(0.25 * 0.75 / 400)
    assert {v["inner.steps"] for v in found} == {"1", "2", "3", "4"}
    assert {v["method"] for v in found} == {"maml", "anil"}
    assert found == combinations(["inner.lr=0.01..1.0", "inner.steps=1..4", "method=maml,anil"], draws=400, seed=3)
    assert found[:5] == combinations(["inner.lr=0.01..1.0", "inner.steps=1..4", "method=maml,anil"], draws=5, seed=3)


@pytest.mark.parametrize(
    ("vary", "draws", "named"),
    [
        ([], 0, "--vary"),
        (["inner.lr"], 0, "inner.lr"),
        (["inner.lr=0.1,"], 0, "inner.lr"),
        (["inner.lr=0.1", "inner.lr=0.2"], 0, "inner.lr"),
        (["inner.lr=0.1..0.4"], 0, "--draws"),
        (["inner.lr=0.4..0.1"], 3, "inner.lr"),
        (["inner.lr=-0.5..0.5"], 3, "inner.lr"),
        (["inner.lr=a..b"], 3, "inner.lr"),
    ],
)
def test_what_is_no_sweep_is_refused(vary: list[str], draws: int, named: str) -> None:
    with pytest.raises(InnerloopError, match=named):
        combinations(vary, draws)


def test_the_command_trains_all_and_names_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Catches a run that has another one's options, a table in another order, and a test episode that is touched."""
    glyphs_of_16_pixels(monkeypatch)
    out = tmp_path / "sweep"
    command = ["sweep", *FLAGS, "--vary", "inner.lr=0.1,0.4", "--seeds", "0", "1", "--out", str(out)]
    from innerloop.studies import fan_out

    monkeypatch.setattr(fan_out._Processes, "finished", one_after_the_other)
    assert cli.run(command) == 0
    value = read_object(out / "result.json")
    assert [r["label"] for r in value["rows"]] == ["inner.lr=0.1", "inner.lr=0.4"]
    for row in value["rows"]:
        for v in row["values"]:
            run = RunFolder(out / "runs" / f"{row['label']}-seed{v['seed']}")
            assert run.summary_with("best_validation")["best_validation"] == v["mean"]
            config = run.config_as(Config.from_json)
            assert (f"inner.lr={config.inner.lr:g}", config.seed) == (row["label"], v["seed"])
            assert not (run.path / "eval.json").exists()
    best = max(value["rows"], key=lambda r: r["mean"])["label"]
    assert f"Best: {best}" in " ".join(value["notes"])
    written = (out / "table.md").read_text()
    assert "inner.lr varied, seeds 0, 1" in written
    assert "inner rate" not in written, "there is no one rate"
    assert {p.name for p in out.iterdir()} >= {"result.json", "table.md", "table.csv", "figure.png", "runs"}
    assert "inner.lr=0.4" in capsys.readouterr().out


def one_after_the_other(group) -> bool:
    """In this process, so that the images that the test has made are there."""
    for _, item in group.waiting:
        group.work(item)
    group.waiting = []
    return True


def test_switches_and_unknown_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from innerloop.cli.sweep import flag, parsed

    assert parsed(flag("inner.first-order", "true")).config.inner.first_order
    assert not parsed(["--inner.first-order", *flag("inner.first-order", "false")]).config.inner.first_order
    assert cli.run(["sweep", "--vary", "iner.lr=1,2", "--out", str(tmp_path)]) == 2
    assert "inner.lr" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"), [({"way": 4}, "way"), ({"shot": 2}, "shot"), ({"data": "sinusoid"}, "regression")]
)
def test_trainings_on_other_validation_episodes_are_not_compared(tmp_path: Path, change: dict, named: str) -> None:
    """Catches an accuracy of 4 ways beside one of 5, and an error that is taken for an accuracy."""
    other = replace(Config(), **change) if "data" not in change else SINES
    with pytest.raises(InnerloopError, match=named):
        sweep([({"a": "1"}, Config()), ({"a": "2"}, other)], (0,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_grid_is_drawn_as_lines_and_draws_as_points() -> None:
    """Catches a line through trainings that have nothing to do with one another."""
    from innerloop.studies.result import Row, SeedValue
    from innerloop.studies.sweep import _drawing

    grid = combinations(["inner.lr=0.4,0.1", "method=maml,anil"])
    rows = [Row(str(i), "accuracy", (SeedValue(0, i / 10),)) for i in range(4)]
    drawing = _drawing([(v, Config()) for v in grid], rows)
    assert (drawing.kind, drawing.x) == ("lines", "inner.lr")
    assert {s.name: (s.x, s.y) for s in drawing.series} == {
        "method=maml": ([0.1, 0.4], [20.0, 0.0]),
        "method=anil": ([0.1, 0.4], [30.0, 10.0]),
    }
    draws = combinations(["inner.lr=0.1..1.0", "outer.lr=0.001..0.1"], draws=4)
    drawing = _drawing([(v, Config()) for v in draws], rows)
    assert drawing.kind == "points"
    assert [s.panel for s in drawing.series] == ["inner.lr", "outer.lr"]
    for s in drawing.series:
        assert sorted(s.y) == [0.0, 10.0, 20.0, 30.0]
        assert s.x == sorted(float(v[s.name]) for v in draws)
