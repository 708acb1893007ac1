"""Mistakes at the command line: a part of the table in the ordinary suite, the whole of it with the slow tests."""

from pathlib import Path

import pytest
from cli_mistakes import Case, cases, make_world, try_case

CASES = cases()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all mistakes are made; none of them changes it."""
    root = tmp_path_factory.mktemp("world")
    make_world(root)
    return root


def test_there_are_enough() -> None:
    assert len({c.args for c in CASES}) >= 240


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=str(c), marks=[pytest.mark.slow] if i % 6 else []) for i, c in enumerate(CASES)]
)
def test_a_mistake_is_answered(case: Case, world: Path) -> None:
    assert not try_case(case, world)
