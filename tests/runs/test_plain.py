"""Configurations made again from plain values."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from innerloop.errors import InnerloopError
from innerloop.runs import RunError, RunFolder
from innerloop.runs.config_json import config_from_json
from innerloop.runs.folder import Checkpoint
from innerloop.training import Config
from innerloop.validated import Validated, above, at_least, at_most
from naming import names


@dataclass(frozen=True)
class Part(Validated, at="part"):
    widths: tuple[int, ...] = (1,)
    pair: tuple[float, str] = (0.5, "x")


@dataclass(frozen=True)
class Whole(Validated):
    size: int
    rate: float = 0.1
    name: Literal["a", "b"] = "a"
    on: bool = False
    part: Part = field(default_factory=Part)
    which: Literal["all"] | tuple[str, ...] = "all"
    other: Annotated[int, at_least(1, "or nothing")] | None = None
    share: Annotated[float, above(0), at_most(1)] = 0.5


@pytest.mark.parametrize(
    "value",
    [
        Whole(3),
        Whole(3, 1.0, "b", True, Part((4, 5), (2.0, "y")), ("p", "q"), 7, 1.0),
    ],
)
def test_there_and_back(value: Whole) -> None:
    made = config_from_json(Whole, json.loads(json.dumps(asdict(value))))
    assert made == value
    assert isinstance(made.rate, float)
    assert isinstance(config_from_json(Whole, {"size": 3, "rate": 1}).rate, float)  # an int in the file is a float here


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": None}, ["size", "integer", "None"]),
        ({"size": True}, ["size", "integer", "True"]),
        ({"size": 2.5}, ["size", "integer", "2.5"]),
        ({"rate": "fast"}, ["rate", "number", "'fast'"]),
        ({"rate": False}, ["rate", "number", "False"]),
        ({"rate": 10**400}, ["rate", "float32", "3.4e38"]),
        ({"name": "c"}, ["name", "a", "b", "'c'"]),
        ({"name": ["a"]}, ["name", "a", "b", "['a']"]),
        ({"on": 1}, ["on", "true", "false", "1"]),
        ({"part": None}, ["part", "object", "None"]),
        ({"part": {"widths": 3}}, ["part.widths", "list", "integer", "3"]),
        ({"part": {"widths": [1, "2"]}}, ["part.widths[1]", "integer", "'2'"]),
        ({"part": {"pair": [1.0]}}, ["part.pair", "2 values", "[1.0]"]),
        ({"part": {"pair": [1.0, 2]}}, ["part.pair[1]", "text", "2"]),
        ({"part": {"depth": 3}}, ["part.depth"]),
        ({"part": {"width": 3}}, ["part.width", "'widths'"]),
        ({"which": 3}, ["which", "all", "list", "3"]),
        ({"which": "al"}, ["which", "'al'", "'all'"]),
        ({"which": ["p", 3]}, ["which", "['p', 3]"]),
        ({"other": "x"}, ["other", "integer", "'x'"]),
        ({"other": 0}, ["other", "1", "0", "nothing"]),
        ({"share": 0}, ["share", "0"]),
        ({"share": 1.5}, ["share", "1", "1.5"]),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        config_from_json(Whole, {"size": 3, **change})


def test_what_lacks_is_named() -> None:
    with pytest.raises(InnerloopError, match=names("size")):
        config_from_json(Whole, {"rate": 0.5})
    with pytest.raises(InnerloopError, match=names("object", 3)):
        config_from_json(Whole, 3)


@pytest.mark.parametrize("way", ["five", 10**30, 1])
def test_a_damaged_config_is_said_with_its_file(way: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**Config().to_json(), "way": way}))
    with pytest.raises(RunError, match=names(tmp_path / "config.json", "way", repr(way))):
        RunFolder(tmp_path).config_as(Config.from_json)


@pytest.mark.parametrize(
    "line", ["3", "{}", '{"step": "x"}', '{"step": true}', '{"step": 1}', '{"step": 1, "loss": "x"}']
)
def test_a_damaged_line_of_metrics_is_said_with_its_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 0, "loss": 0.5}}\n{line}\n')
    with pytest.raises(
        RunError, match=names(tmp_path / "metrics.jsonl", "line 2", "loss" if line.startswith('{"step": 1') else "step")
    ):
        RunFolder(tmp_path).metrics_with("loss")


def test_another_kind_of_run_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"kind": "rl", "iterations": 3}))
    with (
        pytest.raises(RunError, match=names(tmp_path / "config.json", "'rl'", "--out")),
        RunFolder(tmp_path).start(Config().to_json(), resume=True, read=lambda c: Config.from_json(c).to_json()),
    ):
        pass
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InnerloopError, match=names(tmp_path / "config.json")) as caught:
        RunFolder(tmp_path).config_as(Config.from_json)
    assert str(caught.value).count("config.json") == 1


def test_weights_that_were_not_published_are_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "finished.json").write_text("{}")
    with pytest.raises(RunError, match=names(tmp_path, "checkpoints")):
        RunFolder(tmp_path).load("best")


def test_a_checkpoint_without_what_is_needed_is_said(tmp_path: Path) -> None:
    checkpoint = Checkpoint(7, {}, {}, {"best": "x", "seconds": 1.5, "sums": [1, 2.0]}, tmp_path)
    assert checkpoint.entries(seconds=float, sums=[float, float]) == (1.5, [1, 2.0])
    for kinds, name in (
        ({"seconds": float, "best": float}, "best"),
        ({"count": int}, "count"),
        ({"sums": [int]}, "sums"),
    ):
        with pytest.raises(RunError, match=names(tmp_path / "state.json", name)):
            checkpoint.entries(**kinds)
