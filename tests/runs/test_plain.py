"""Configurations made again from plain values."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import Checkpoint
from innerloop.runs.plain import from_plain
from innerloop.training import Config


@dataclass(frozen=True)
class Part:
    widths: tuple[int, ...] = (1,)
    pair: tuple[float, str] = (0.5, "x")


@dataclass(frozen=True)
class Whole:
    size: int
    rate: float = 0.1
    name: Literal["a", "b"] = "a"
    on: bool = False
    part: Part = field(default_factory=Part)
    which: Literal["all"] | tuple[str, ...] = "all"
    other: int | None = None


@pytest.mark.parametrize(
    "value",
    [
        Whole(3),
        Whole(3, 1.0, "b", True, Part((4, 5), (2.0, "y")), ("p", "q"), 7),
    ],
)
def test_there_and_back(value: Whole) -> None:
    made = from_plain(Whole, json.loads(json.dumps(asdict(value))))
    assert made == value
    assert isinstance(made.rate, float)
    assert from_plain(Whole, {"size": 3, "rate": 1}).rate.is_integer()  # an int in the file is a float here
    assert isinstance(from_plain(Whole, {"size": 3, "rate": 1}).rate, float)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": None}, "size must be an integer, got None"),
        ({"size": True}, "size must be an integer, got True"),
        ({"size": 2.5}, "size must be an integer, got 2.5"),
        ({"rate": "fast"}, "rate must be a number, got 'fast'"),
        ({"rate": False}, "rate must be a number, got False"),
        ({"rate": 10**400}, "rate must be a number, got one of 401 digits"),
        ({"name": "c"}, "name must be one of a, b; got 'c'"),
        ({"name": ["a"]}, "name must be one of a, b"),
        ({"on": 1}, "on must be true or false, got 1"),
        ({"part": None}, "part must be an object of settings, got None"),
        ({"part": {"widths": 3}}, r"part\.widths must be a list, got 3"),
        ({"part": {"widths": [1, "2"]}}, r"part\.widths\[1\] must be an integer, got '2'"),
        ({"part": {"pair": [1.0]}}, r"part\.pair must have 2 values, got \[1\.0\]"),
        ({"part": {"pair": [1.0, 2]}}, r"part\.pair\[1\] must be text, got 2"),
        ({"part": {"depth": 3}}, r"the configuration has part\.depth, which this version does not know"),
        ({"which": 3}, "which must be one of all; got 3; or which must be a list, got 3"),
        ({"other": "x"}, "other must be an integer, got 'x'"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_plain(Whole, {"size": 3, **change})


def test_what_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="the configuration lacks size"):
        from_plain(Whole, {"rate": 0.5})
    with pytest.raises(ValueError, match="the configuration must be an object of settings, got 3"):
        from_plain(Whole, 3)


def test_a_damaged_config_is_said_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**Config().to_json(), "way": "five"}))
    with pytest.raises(RunError, match=r"config\.json: way must be an integer, got 'five'"):
        RunFolder(tmp_path).config_as(Config.from_json)


@pytest.mark.parametrize(
    "line", ["3", "{}", '{"step": "x"}', '{"step": true}', '{"step": 1}', '{"step": 1, "loss": "x"}']
)
def test_a_damaged_line_of_metrics_is_said_with_its_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 0, "loss": 0.5}}\n{line}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2, has no number '(step|loss)'; mend or delete"):
        RunFolder(tmp_path).metrics_with("loss")


def test_another_kind_of_run_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"kind": "rl", "iterations": 3}))
    with (
        pytest.raises(RunError, match=r"config\.json: .* another kind of run, 'rl'.*give another --out"),
        RunFolder(tmp_path).start(Config().to_json(), resume=True, read=lambda c: Config.from_json(c).to_json()),
    ):
        pass
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON") as caught:
        RunFolder(tmp_path).config_as(Config.from_json)
    assert str(caught.value).count("config.json") == 1


def test_weights_that_were_not_published_are_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "finished.json").write_text("{}")
    with pytest.raises(RunError, match="results of a finished run without its weights"):
        RunFolder(tmp_path).load("best")


def test_a_checkpoint_without_what_is_needed_is_said(tmp_path: Path) -> None:
    checkpoint = Checkpoint(7, {}, {}, {"best": "x", "seconds": 1.5, "sums": [1, 2.0]}, tmp_path)
    assert checkpoint.entries(seconds=float, sums=[float, float]) == (1.5, [1, 2.0])
    for kinds, name in (
        ({"seconds": float, "best": float}, "best"),
        ({"count": int}, "count"),
        ({"sums": [int]}, "sums"),
    ):
        with pytest.raises(RunError, match=rf"{re.escape(str(tmp_path))}/state\.json .*'{name}'"):
            checkpoint.entries(**kinds)
