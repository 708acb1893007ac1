"""docs/method.md names functions and tests that exist."""

import importlib
import re
from pathlib import Path

import pytest

from pages import PAGES, ROOT, name, prose

METHOD = (ROOT / "docs" / "method.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    """Catches a renamed test whose proof would then be missing."""
    file = ""
    named = 0
    for row in METHOD.splitlines():
        for word in re.findall(r"`([^`]+)`", row):
            if word.endswith(".py"):
                file = (ROOT / "tests" / word).read_text()
            elif word.startswith("test_"):
                assert f"def {word}(" in file, word
                named += 1
    assert named > 20


def test_every_function_that_is_named_exists() -> None:
    named = 0
    for word in re.findall(r"`((?:core|methods|analysis|studies|data)\.[\w.]+)`", METHOD):
        if word.endswith(".py"):
            continue
        module, name = "innerloop." + word, []
        while True:
            try:
                found = importlib.import_module(module)
                break
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                name.insert(0, last)
        for part in name:
            found = getattr(found, part)
        named += 1
    assert named > 20


def test_every_table_is_in_it() -> None:
    from innerloop.studies import TABLES

    for t in TABLES:
        assert f"`{t.name}`" in METHOD


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().replace("`", "")
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """Files and headings; catches a page, a result or a section that was renamed."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            assert path.startswith(("https://", "mailto:")), target
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", there.read_text(), flags=re.M | re.S), re.M)
            assert anchor in map(slug, headings), target
