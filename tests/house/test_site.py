"""The documentation site builds without a warning, loads nothing from elsewhere, and has every public name."""

import html
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import innerloop

ROOT = Path(__file__).parents[2]
TORCHRUN = {"--standalone", "--nproc-per-node", "--nnodes", "--rdzv-endpoint"}
OF_OTHERS = {"--out", "--help", "--episodes", "--picture", "--logdir", *TORCHRUN}
"""options of scripts under benchmarks/ and of other programs"""
DOCS = ROOT / "docs"


class Loaded(HTMLParser):
    """What a page loads by itself (links are not loaded)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag != "a" and (url := given.get("src") or (given.get("href") if tag == "link" else None)):
            self.urls.append(url)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("site")
    build = "import gc, sys; gc.disable(); from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
    options = ["-q", "-W", "--keep-going", "-d", str(out / "trees")]
    command = [sys.executable, "-c", build, *options, str(DOCS), str(out / "html")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        assert [u for u in Loaded(page.read_text()).urls if re.match(r"(https?:)?//", u)] == [], page.name


def test_every_picture_has_a_description() -> None:
    for page in DOCS.rglob("*.md"):
        assert "![](" not in page.read_text(), page.name


def test_the_command_line_page_has_every_command(site: Path) -> None:
    from innerloop.cli import COMMANDS

    page = (site / "cli.html").read_text()
    for name in COMMANDS:
        assert f"usage: innerloop {name}" in page, name


def test_every_option_that_a_page_names_exists(site: Path) -> None:
    """Catches an option that was renamed."""
    known = set(re.findall(r"--[a-z][\w.+-]*", html.unescape((site / "cli.html").read_text())))
    for page in [*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.ipynb")]:
        if page.stem in ("proofs", "speed", "contributing", "changelog", "results"):
            continue  # they name options of other programs and of earlier times
        named = {option.rstrip(".-") for option in re.findall(r"(?<![\w-])--[a-z][\w.+-]*", page.read_text())}
        assert named - known <= OF_OTHERS, page.name


def test_every_public_name_is_in_the_reference_and_documented() -> None:
    pages = "".join(p.read_text() for p in (DOCS / "reference").glob("*.md"))
    for name in dir(innerloop):
        value = getattr(innerloop, name)
        if isinstance(value, innerloop.Method):
            assert f"| `il.{name}` | `{value.name}` |" in pages, name
        elif name != "__version__":
            assert f":: innerloop.{name}\n" in pages, name
            assert inspect.getdoc(value), name


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("page", ["index", "lecture", "cli", "reference/loops", "tutorials/first_maml"])
def test_no_serious_fault_of_access(browser: Any, site: Path, page: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(offline=True, viewport={"width": width, "height": 844}, color_scheme=scheme)
    opened = context.new_page()
    opened.goto((site / f"{page}.html").as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(opened).response["violations"]
    context.close()
    assert not [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]


def test_the_search_finds_a_function(site: Path) -> None:
    """The index is a script, so that the search works from disk."""
    assert '"adapt"' in (site / "searchindex.js").read_text() or "adapt:" in (site / "searchindex.js").read_text()
