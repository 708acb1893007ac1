"""docs/proofs.md names planted bugs that there are."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def planted() -> list[str]:
    """The names in every @plants of the tests."""
    calls = (n for p in (ROOT / "tests").rglob("test_*.py") for n in ast.walk(ast.parse(p.read_text())))
    return [n.args[0].value for n in calls if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "plants"]


def test_every_planted_bug_that_is_named_exists() -> None:
    """Catches a renamed bug, or one that went with its test."""
    claims = (ROOT / "docs" / "proofs.md").read_text().split("\n## ")[0]
    rows = [row.split("|") for row in claims.splitlines() if row.startswith("| ")]
    named = [name.strip() for cells in rows[1:] for name in cells[3].split(";") if name.strip()]
    known = planted()
    assert len(set(known)) == len(known) >= 60
    assert len(named) > 40
    assert [name for name in named if name not in known] == []
