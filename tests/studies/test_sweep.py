"""A sweep: which trainings it makes, and what it says of them."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder
from innerloop.runs.files import read_object
from innerloop.studies import fan_out
from innerloop.studies.result import Row
from innerloop.studies.sweep import combinations, looks, sweep
from innerloop.training import Config, Interrupted
from planting import plants
from tiny import CONFIG, FLAGS, SINES, assert_same, glyphs_of_16_pixels

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


@pytest.mark.parametrize(
    ("trainings", "steps", "every", "halving", "expected"),
    [
        (9, 90, 10, 3, [10, 30, 90]),
        (8, 90, 10, 3, [30, 90]),
        (30, 600, 100, 3, [100, 200, 600]),
        (2, 600, 100, 3, [600]),
        (64, 600, 100, 2, [100, 200, 300, 600]),
    ],
)
def test_looks_are_validations_and_leave_one_training_at_least(trainings, steps, every, halving, expected) -> None:
    assert looks(trainings, steps, every, halving) == expected


HALVED = replace(CONFIG, outer=replace(CONFIG.outer, steps=8))
RATES = ("0.001", "0.01", "0.03", "0.1")


def search(out: Path, halving: int) -> dict:
    grid = [({"outer.lr": r}, replace(HALVED, outer=replace(HALVED.outer, lr=float(r)))) for r in RATES]
    return sweep(grid, (), out, halving=halving)


@plants("the worst go on", "studies.sweep:_row", lambda right: lambda *a: negated(right(*a)))
@plants("all train to the end", "studies.fan_out:train_one", lambda right: lambda w: right(replace(w, until=0)))
def test_successive_halving_is_the_sweep_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all trainings to the end: who goes on is told by their scores until then, who ends is the same run to the
    last bit, and the outer steps are 4·2 + 2·(4 − 2) + 1·(8 − 4) of 32. Also when it is stopped in between."""

    def here(work, items, **_: object) -> dict[int, str]:
        for item in items:
            fan_out.train_one(item)
        return {}

    def stopping(work, items, **_: object) -> dict[int, str]:
        fan_out.train_one(items[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(fan_out, "fan_out", here)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    search(whole, 0)

    def score(rate: str, step: int) -> float:
        rows = RunFolder(whole / "runs" / f"outer.lr={rate}-seed0").metrics
        return max(r["validation"] for r in rows if r["step"] <= step)

    left = list(RATES)
    reached = dict.fromkeys(RATES, 2)
    for kept, look, then in ((2, 2, 4), (1, 4, 8)):
        left = sorted(left, key=lambda r: -score(r, look))[:kept]
        reached |= dict.fromkeys(left, then)
    with monkeypatch.context() as m:
        m.setattr(fan_out, "fan_out", stopping)
        with pytest.raises(Interrupted):
            search(cut, 2)
    value = search(cut, 2)
    runs = {r: RunFolder(cut / "runs" / f"outer.lr={r}-seed0") for r in RATES}
    assert {r: run.step("last") for r, run in runs.items()} == reached
    assert sum(reached.values()) == 4 * 2 + 2 * 2 + 4
    assert [r for r, run in runs.items() if run.finished] == left
    assert_same(runs[left[0]].path, whole / "runs" / runs[left[0]].path.name)
    for row, rate in zip(value["rows"], RATES, strict=True):
        assert (row["mean"], row["measured"]["steps"]) == (score(rate, reached[rate]), reached[rate])
    assert f"Best: outer.lr={left[0]}." in value["notes"][0]
    assert "16" in value["notes"][1]
    assert "32" in value["notes"][1]
    names = [s["name"] for s in value["drawing"]["series"]]
    assert names == [f"after {n} steps" for n in (2, 4, 8)]
    assert search(cut, 2)["rows"] == value["rows"]


def negated(row: Row) -> Row:
    return replace(row, values=tuple(replace(v, mean=-v.mean) for v in row.values))


def test_halving_compares_trainings_of_as_many_steps(tmp_path: Path) -> None:
    longer = replace(HALVED, outer=replace(HALVED.outer, steps=10))
    with pytest.raises(InnerloopError, match=r"outer\.steps"):
        sweep([({"a": "1"}, HALVED), ({"a": "2"}, longer)], (), tmp_path, halving=2)
    with pytest.raises(InnerloopError, match="1"):
        search(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


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
