"""What a notebook shows of results: their numbers, every text escaped."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import innerloop as il
from innerloop.core.statistics import Estimate, Share
from innerloop.estimator.check import Check
from innerloop.notebook import html_table
from innerloop.runs import RunFolder
from innerloop.runs.files import write_json
from innerloop.studies.result import Drawing, Outcome, Result, Row, SeedValue
from planting import plants
from tiny import CONFIG


class Cells(HTMLParser):
    """The text of each cell, row by row, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.inside = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        elif self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


PLAIN = {"table", "caption", "tr", "th", "td", "p"}


@plants("text is not escaped", "notebook:escape", lambda right: str)
def test_every_text_is_escaped() -> None:
    page = html_table("<b>t", ("<i>h",), [("<script>alert(1)</script>",)], "a & <u>n")
    assert Cells(page).tags == PLAIN
    assert Cells(page).rows[1] == ["<script>alert(1)</script>"]


def test_an_evaluation_shows_every_step() -> None:
    steps = (Estimate(0.2, 0.01, 8), Estimate(0.75, 0.02, 8))
    page = il.Evaluation(steps[-1], steps, (0.75,) * 8, il.EvalSettings(episodes=8, seed=5))._repr_html_()
    assert Cells(page).rows == [["inner steps", "mean", "ci95"], ["0", "0.2000", "0.0100"], ["1", "0.7500", "0.0200"]]
    assert "8 test episodes, seed 5" in page
    alone = il.Evaluation(steps[0], steps[:1], (0.2,) * 8, il.EvalSettings(episodes=8))._repr_html_()
    assert Cells(alone).rows[1][0] == "0.2000"


def test_a_check_shows_accuracy_and_confusions() -> None:
    found = Check(("nil",), Share(9, 10), (("<cat>", "dog", 1),), ((1, 0.5), (2, 0.8)), (0.3, 0.1, 0.5), "more help")
    cells = dict(Cells(found._repr_html_()).rows)
    assert cells["accuracy"].startswith("0.900 (0.5")
    assert cells["with 2 per class"] == "0.800"
    assert cells["<cat> taken for dog"] == "1"


def test_a_result_shows_rows_and_claims() -> None:
    row = Row("MAML <1>", "accuracy", (SeedValue(0, 0.8, 0.01, 8), SeedValue(1, 0.9, 0.03, 8)), paper="46.9")
    claims = (Outcome("It holds", "≥ 0", True, "0.1"), Outcome("Who knows", "≥ 0", None, "0.0"))
    rows = Cells(Result((row,), claims, Drawing("bars", "x", "y", ()))._repr_html_()).rows
    assert rows[1] == ["MAML <1>", "46.9", "accuracy", "0.85", f"{0.005**0.5:.4g}", "0.02"]
    assert [r[:2] for r in rows[3:]] == [["It holds", "holds"], ["Who knows", "inconclusive"]]


@pytest.mark.usefixtures("made_images")
def test_a_run_shows_what_it_is_and_its_tests(tmp_path: Path) -> None:
    run = il.train(CONFIG, tmp_path / "run")
    cells = dict(r for r in Cells(run._repr_html_()).rows if len(r) == 2)
    assert cells["method"] == "maml"
    assert cells["steps"] == str(CONFIG.outer.steps)
    test = {"method": "nil", "split": "test", "metric": "accuracy", "mean": 0.5, "ci95": 0.1, "episodes": 8}
    write_json(run.path / "eval.json", {"evaluations": [test]})
    cells = dict(r for r in Cells(run._repr_html_()).rows if len(r) == 2)
    assert re.fullmatch(r"0\.5000 ± 0\.1000 \(ci95, 8 episodes\)", cells["nil, test, accuracy"])
    (run.path / "finished.json").unlink()
    assert "unfinished" in run._repr_html_()
    assert "no run" in RunFolder(tmp_path / "nothing")._repr_html_()
