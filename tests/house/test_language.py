"""Texts for users avoid the project's private idioms, old names and two spellings of one word."""

import re
from pathlib import Path

import pytest

from pages import PAGES, name, prose

COUNTED = "images|episodes|steps|queries|classes|tasks|examples|points|rollouts|samples|seconds|rows?|lines?|number"
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
    r"\b(?:initializ|normaliz|behavior|color)\w*\b": "British spelling",
}
OTHERS = {"CHANGELOG.md", "CONTRIBUTING.md", "docs/results.md"}
"""written by a script, or for developers"""
OTHERS |= {f"docs/{n}.md" for n in ("proofs", "reliability", "reuse", "speed")}


OLD = r"\bil\.stream\b|random import stream|\bBench\b|--enlarge|pip install ['\"]?innerloop\b(?!\[)"
"""old names, and an install from an index that does not have it (extras of an installed innerloop need no index)"""


@pytest.mark.parametrize("page", [p for p in PAGES if name(p) not in OTHERS], ids=name)
def test_no_private_idiom(page: Path) -> None:
    text = prose(page)
    found = [
        f"{m[0]!r} in {line!r}: {better}"
        for p, better in INSTEAD.items()
        for line in text.splitlines()
        for m in re.finditer(p, line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", [p for p in PAGES if name(p) != "CHANGELOG.md"], ids=name)
def test_no_old_name(page: Path) -> None:
    assert re.findall(OLD, page.read_text()) == []
