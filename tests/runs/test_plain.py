"""Configurations made again from plain values."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from innerloop.errors import InnerloopError
from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import Checkpoint
from innerloop.runs.plain import from_plain
from innerloop.training import Config
from innerloop.validated import Validated, above, at_least, at_most


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
    made = from_plain(Whole, json.loads(json.dumps(asdict(value))))
    assert made == value
    assert isinstance(made.rate, float)
    assert isinstance(from_plain(Whole, {"size": 3, "rate": 1}).rate, float)  # an int in the file is a float here


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"size": None}, ["size", "an integer", "None"]),
        ({"size": True}, ["size", "an integer", "True"]),
        ({"size": 2.5}, ["size", "an integer", "2.5"]),
        ({"rate": "fast"}, ["rate", "a number", "'fast'"]),
        ({"rate": False}, ["rate", "a number", "False"]),
        ({"rate": 10**400}, ["rate", "float32", "100000"]),
        ({"name": "c"}, ["name", "a or b", "'c'"]),
        ({"name": ["a"]}, ["name", "a or b", "['a']"]),
        ({"on": 1}, ["on", "true or false", "1"]),
        ({"part": None}, ["part", "an object of settings", "None"]),
        ({"part": {"widths": 3}}, ["part.widths", "a list of an integer", "3"]),
        ({"part": {"widths": [1, "2"]}}, ["part.widths[1]", "an integer", "'2'"]),
        ({"part": {"pair": [1.0]}}, ["part.pair", "2 values", "[1.0]"]),
        ({"part": {"pair": [1.0, 2]}}, ["part.pair[1]", "text", "2"]),
        ({"part": {"depth": 3}}, ["part.depth", "does not know"]),
        ({"part": {"width": 3}}, ["part.width", "did you mean 'widths'"]),
        ({"which": 3}, ["which", "all or a list of text", "3"]),
        ({"which": "al"}, ["which", "'al'", "did you mean 'all'"]),
        ({"which": ["p", 3]}, ["which", "['p', 3]"]),
        ({"other": "x"}, ["other", "an integer or nothing", "'x'"]),
        ({"other": 0}, ["other", "at least 1", "0", "(or nothing)"]),
        ({"share": 0}, ["share", "above 0", "0"]),
        ({"share": 1.5}, ["share", "at most 1", "1.5"]),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(InnerloopError) as caught:
        from_plain(Whole, {"size": 3, **change})
    for word in names:
        assert word in str(caught.value)


def test_what_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="the configuration lacks size"):
        from_plain(Whole, {"rate": 0.5})
    with pytest.raises(ValueError, match="the configuration must be an object of settings, got 3"):
        from_plain(Whole, 3)


@pytest.mark.parametrize("way", ["five", 10**30, 1])
def test_a_damaged_config_is_said_with_its_file(way: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**Config().to_json(), "way": way}))
    with pytest.raises(RunError, match=rf"config\.json: way must be .*, got {way!r}"):
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
