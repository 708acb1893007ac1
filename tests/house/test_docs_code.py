"""The Python blocks of these pages run, one after the other in one namespace."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("lecture.md", "cheat-sheet.md", "coming-from.md", "dagan.md", "glyphs.md")


def blocks(page: str) -> list[str]:
    """Python blocks, but those about another library in <details>."""
    text = re.sub(r"<details>.*?</details>", "", (DOCS / page).read_text(), flags=re.S)
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert blocks(page)
    exec(compile("\n".join(blocks(page)), page, "exec"), {})


def test_the_log_of_a_run_is_read_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 50, "loss": 1.0}\n{"step": 100, "loss": 0.5}\n')
    names: dict = {}
    exec(compile("\n".join(blocks("logging.md")[:3]), "logging.md", "exec"), names)
    assert [line["step"] for line in names["read_log"](tmp_path)] == [50, 100]
