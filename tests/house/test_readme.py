"""What the README says is so: its results are those under results/, its snippet runs."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from innerloop import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_number_of_the_results_comes_from_results() -> None:
    """Catches a number edited by hand, and a result that was replaced without its README or its table."""
    spec = importlib.util.spec_from_file_location("readme_results", ROOT / "benchmarks" / "readme_results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = README.split(module.START)[1].split(module.END)[0]
    assert written.strip() == module.section().strip()
    assert (ROOT / "docs" / "results.md").read_text() == module.page()
    assert json.loads((ROOT / "results" / "table.json").read_text()) == module.table()


@pytest.mark.parametrize("page", ["README.md", "docs/reuse.md"])
def test_what_freezing_costs_is_said_as_the_study_found_it(page: str) -> None:
    """Catches a study that was replaced without the sentences that quote it."""
    text = (ROOT / page).read_text()
    study = json.loads((ROOT / "results" / "study-quick-glyphs" / "summary.json").read_text())
    for start in study["dial"]:
        lost = start["frozen"]["difference"]
        number = f"{100 * lost['mean']:.1f}".replace("-0.0", "0.0").replace("-", "−")
        assert f"{number} ± {100 * lost['ci95']:.1f}" in text


def block(after: str, language: str) -> str:
    """The first block in that language after a line of the README."""
    found = re.search(rf"^{re.escape(after)}$.*?```{language}\n(.*?)```", README, re.S | re.M)
    assert found, after
    return found[1]


def test_the_commands_for_own_pictures_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an option or a name that was renamed, and a file that is no longer written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    for place in ("examples/red", "examples/blue", "photos"):
        Path(place).mkdir(parents=True)
        for size in (32, 40):
            Image.new("RGB", (size, size), place.split("/")[-1].replace("photos", "red")).save(f"{place}/{size}.png")
    commands = block("<!-- pictures -->", "sh").splitlines()
    for line in commands[1:]:
        assert cli.run(shlex.split(line, comments=True)[1:]) == 0, line
    assert commands[0].startswith("pip install")
    for name in re.findall(r"[\w/]+\.(?:html|csv|json)", commands[1]):
        assert (Path("classified") / Path(name).name).exists(), name
    assert Path("my.innerloop").exists()
    capsys.readouterr()
    exec(compile(block("<!-- pictures-python -->", "python"), "README.md", "exec"), {})
    assert capsys.readouterr().out == "".join(f"{Path(f'photos/{size}.png')} red\n" for size in (32, 40))


def test_the_snippet_of_the_readme_runs(capsys) -> None:
    """Catches a name that was renamed in the library only."""
    snippet = block("## In Python", "python")
    exec(compile(snippet, "README.md", "exec"), {})
    assert "ci95" in capsys.readouterr().out


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
