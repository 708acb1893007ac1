"""What the README says is so: its results are those under results/, its snippet runs."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_number_of_the_results_comes_from_results() -> None:
    """Catches a number edited by hand, and a result that was replaced without its README."""
    spec = importlib.util.spec_from_file_location("readme_results", ROOT / "benchmarks" / "readme_results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = README.split(module.START)[1].split(module.END)[0]
    assert written.strip() == module.section().strip()
    assert (ROOT / "docs" / "results.md").read_text() == module.page()


def test_the_snippet_of_the_readme_runs(capsys) -> None:
    """Catches a name that was renamed in the library only."""
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(snippet, "README.md", "exec"), {})
    assert "ci95" in capsys.readouterr().out


def test_links_of_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
