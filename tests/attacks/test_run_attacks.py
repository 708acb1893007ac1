"""A part of the attacks on run folders; the whole of them is marked slow."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import concurrent_writers
import kill_and_resume
import tampered_runs

from forks import prepared
from innerloop.runs import folder as run_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the attacks fork")


def test_killed_and_resumed() -> None:
    assert kill_and_resume.main({"train": (30, 1)}, ["train"])


def test_the_comparison_after_a_kill_sees_a_difference(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"seconds": 1, "x": [{"date": 1, "y": 2}]}')
    one = kill_and_resume.left(tmp_path)
    (tmp_path / "a.json").write_text('{"seconds": 2, "x": [{"date": 2, "y": 2}]}')
    assert kill_and_resume.left(tmp_path) == one
    (tmp_path / "a.json").write_text('{"seconds": 1, "x": [{"date": 1, "y": 3}]}')
    assert kill_and_resume.left(tmp_path) != one


def test_four_at_once() -> None:
    assert concurrent_writers.main(1, 1, policies=0)


def test_the_attack_sees_a_lost_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """If each takes the rows that were there when it began."""
    with prepared() as folder:
        monkeypatch.setattr(run_folder.RunFolder, "evaluations", [])
        assert concurrent_writers.evaluations("train", folder / "x")


def test_tampered() -> None:
    """Of a finished run, a policy and a training that was cut off."""
    assert tampered_runs.main(lambda i, t: i % 24 == 0 and t.run in ("train", "ppo", "cut train"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "attack",
    [
        lambda: kill_and_resume.main(kill_and_resume.PLAN, list(kill_and_resume.PLAN)),
        concurrent_writers.main,
        tampered_runs.main,
    ],
    ids=["kill_and_resume", "concurrent_writers", "tampered_runs"],
)
def test_all(attack: Callable[[], bool]) -> None:
    assert attack()
