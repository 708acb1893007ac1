"""Pages, docstrings, comments, help and errors avoid private idioms, old names and two spellings of one word."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import PAGES, ROOT, name, prose

COUNTED = (
    "images|episodes|steps|queries|classes|tasks|examples|points|rollouts|samples|seconds|rows?|lines?|number|"
    "trajectories|pairs"
)
SINGLE = "class|episode|step|task|second|seed|neuron|minute|model|weight|layer|page|picture|image|sample|data set"
INSTEAD = {
    rf"\b(?:{COUNTED}) an? (?:{SINGLE})\b(?! of)": "per",
    r"\bat test\b(?![- ]time)": "at test time",
    r"\banew\b": "again",
    r"\bgo(?:es)? on\b(?! with (?:a|the) (?:GPU|CPU))": "continue",
    r"\b(?:is|are|was|were) (?:that|those) of\b": "name the thing again",
    r"\b(?:is|are) said\b": "is reported",
    r"\bin the (?:dark|light)\b": "in dark mode",
    r"\bthe set at hand\b": "the current set",
    r"\bshared out\b": "split",
    r"\bcannot be said\b": "inconclusive",
    r"\b(?:a|the) thin face\b": "a thin wrapper",
    r"\blook(?:s|ed)? into\b": "analyse",
    r"\bwhere (?:it is|they are) there\b": "if present",
    r"\blearnt\b": "learned",
    r"\bbegun\b": "started",
    r"\bwhere there (?:is|are)\b": "if there is",
    r"(?<!here )\b(?:is|are) no (?:regular|saved|known|parameter|run folder|file of|picture|image)\b(?!')": "is not a",
}
BRITISH = {r"\b(?:initializ|normaliz|behavior|color)\w*\b": "British spelling"}
"""not for code, where names of PyTorch and matplotlib are spelt otherwise"""

CODE = [p for where in ("src", "examples", "benchmarks") for p in sorted((ROOT / where).rglob("*.py"))]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The strings and comments of a file with the lines they start on; of f-strings also the code in braces."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT or "STRING" in tokenize.tok_name[token.type]:
            yield token.start[0], re.sub(r"\{[^{}]*\}", "{}", " ".join(token.string.split()))


def found(text: str, instead: dict[str, str]) -> list[str]:
    return [f"{m[0]!r} in {text[max(0, m.start() - 60):m.end() + 60]!r}: {better}" for p, better in instead.items()
            for m in re.finditer(p, text)]  # fmt: skip


@pytest.mark.parametrize("path", CODE, ids=name)
def test_no_private_idiom_in_code(path: Path) -> None:
    """Docstrings, comments, help texts and messages."""
    wrong = [f"line {line}: {problem}" for line, text in texts(path) for problem in found(text, INSTEAD)]
    assert not wrong, "\n".join(wrong)


OLD = r"\bil\.stream\b|random import stream|\bBench\b|--enlarge|pip install ['\"]?innerloop\b(?!\[)"
"""old names, and an install from an index that does not have it (extras of an installed innerloop need no index)"""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_private_idiom(page: Path) -> None:
    wrong = [problem for line in prose(page).splitlines() for problem in found(line, INSTEAD | BRITISH)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", [p for p in PAGES if name(p) != "CHANGELOG.md"], ids=name)
def test_no_old_name(page: Path) -> None:
    assert re.findall(OLD, page.read_text()) == []


def test_the_changelog_is_by_version() -> None:
    """Catches a release without its heading, and changes listed under a version that is not out."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", h) for h in headings[1:]), headings
