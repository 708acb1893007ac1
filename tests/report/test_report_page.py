"""The page of a study: whole, self-contained, escaped, and clear about what it cannot read."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from innerloop.report import ReportError, tables, write_report
from innerloop.report.drawing import WIDTH, style
from innerloop.report.figures import figures
from innerloop.report.tables import named_tables
from naming import names

FIGURES = ["dial", "episodes", "training", "steps", "freezing", "movement", "similarity", "early", "cost"]


class Page(HTMLParser):
    """What a browser would see: the text, what is loaded, and the ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "xlink:href", "data", "poster"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def write(folder: Path, summary: dict[str, Any]) -> Page:
    (folder / "summary.json").write_text(json.dumps(summary))
    return Page(write_report(folder).read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, new_study: Callable[[Path], Path]) -> Path:
    """A folder with a complete study and its report: drawing it takes a second or two."""
    study = new_study(tmp_path_factory.mktemp("study"))
    assert write_report(study) == study / "report.html"
    return study


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text())


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the text alone."""
    monkeypatch.setattr("innerloop.report.page.figures", lambda summary, episodes: {})


def test_the_page_and_its_figures_are_there(written: Path) -> None:
    study = written
    found = {p.name for p in (study / "figures").iterdir()}
    assert found == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    for path in (study / "figures").iterdir():
        start = path.read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else start.startswith(b"<?xml")


def test_the_same_study_gives_the_same_bytes(study: Path, written: Path) -> None:
    assert write_report(study).read_bytes() == (written / "report.html").read_bytes()


def test_nothing_is_loaded_from_elsewhere(page: Page, written: Path) -> None:
    assert page.loads, "the pictures of the episodes are data URIs"
    assert all(at.startswith(("#", "data:image/png;base64,")) for at in page.loads)
    text = (written / "report.html").read_text()
    assert "@import" not in text
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_ids_are_unique_and_references_are_met(page: Page, written: Path) -> None:
    assert len(page.ids) == len(set(page.ids))
    text = (written / "report.html").read_text()
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | {at[1:] for at in page.loads if at.startswith("#")}
    assert wanted <= set(page.ids)


def test_every_cell_of_every_table_is_on_the_page(page: Page, summary: dict[str, Any]) -> None:
    for table in tables(summary):
        for row in table.rows:
            for cell in row:
                assert " ".join(cell.removeprefix("✓ ").removeprefix("✗ ").removeprefix("? ").split()) in page.text, (
                    table.title,
                    cell,
                )


@pytest.mark.parametrize(
    "shown",
    [
        "86.1 ± 0.7",
        "58.2 ± 0.8",
        "−0.4 ± 0.4",
        "+0.6 ± 0.4",
        "−0.6 ± 0.1",
        "2 min 51 s",
        "5 min 1 s",
        "2,000 (best: 1,750)",
        "36,928",
        "1.315 ± 0.039",
        "0.412 ± 0.059",
        "81.2 ms",
        "1.9×",
        "4.2×",
        "innerloop study --out 'my study'",
        "0123456789abcdef",
        "484 train, 78 val, 108 test",
        "17",
        "2.9.0",
        "transductive",
        "Over the first 119 test episodes",
        "0.983 ± 0.002",
        "0.443 ± 0.056",
        "30 data points per neuron at most",
        "61.2 ± 2.2",
        "58.1 ± 2.2",
        "−3.1 ± 0.6",
        "0.907 ± 0.004 (conv4)",
        "Over the first 51 test episodes",
        "NIL, Euclidean class means",
        "−0.8 ± 0.5",
        "85.5 % when only the head does",
        "by −13.7 ± 0.6 points with ordinary first weights of the head, and by +0.1 ± 0.6 with 20 times",
        "0.071 ± 0.004",
        "0.985 ± 0.002",
        "nothing: no head (NIL)",
        "−0.8 ± 0.2",
        "the paper shows it on mini-ImageNet",
        "(inconclusive)",
    ],
)
def test_the_numbers_are_on_the_page(page: Page, shown: str) -> None:
    assert " ".join(shown.split()) in page.text


def test_each_figure_has_a_caption_and_a_text_for_those_who_do_not_see_it(written: Path) -> None:
    text = (written / "report.html").read_text()
    for name in FIGURES:
        part = text.split(f'<figure id="{name}">')[1].split("</figure>")[0]
        assert re.search(r'role="img" aria-label="[^"]{20,}"', part)
        assert "<figcaption>" in part


def test_no_bar_without_its_name(summary: dict[str, Any]) -> None:
    for table in tables(summary):
        for column, head in enumerate(table.header):
            if any("±" in row[column] for row in table.rows) and head != "evidence":
                assert "ci95" in head, (table.title, head)


def test_a_hostile_name_is_only_text(study: Path, summary: dict[str, Any]) -> None:
    bad = '"><script>alert(1)</script><img src=http://x onerror=alert(1)>'
    summary["data"]["name"] = bad
    summary["methods"]["maml"]["title"] = f"MAML {bad} $x^2$"
    summary["verdict"]["claims"][0]["claim"] = bad
    summary["command"] = ["innerloop", bad]
    page = write(study, summary)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not any("http" in at for at in page.loads)
    assert "<script>alert(1)</script>" in page.text


@pytest.mark.parametrize(
    "gone",
    [
        "paired",
        "movement",
        "freezing",
        "cka",
        "cca",
        "early",
        "heads",
        "cost",
        "verdict",
        "env",
        "commit",
        "seconds",
        "dial",
        "still",
        "cca98",
    ],
)
@pytest.mark.parametrize("how", ["absent", "null"])
@pytest.mark.usefixtures("no_figures")
def test_a_missing_part_is_left_out(study: Path, summary: dict[str, Any], gone: str, how: str) -> None:
    if how == "null":
        summary[gone] = None
    else:
        del summary[gone]
    page = write(study, summary)
    assert {"cka": "similarity"}.get(gone, gone) not in figures(summary, None)
    assert gone not in named_tables(summary)
    assert "None" not in page.text.split()


def test_a_summary_from_before_cca_checkpoints_and_heads(study: Path, summary: dict[str, Any]) -> None:
    for key in ("cca", "cca98", "early", "heads", "dial", "still"):
        del summary[key]
    del summary["methods"]["maml_small"]
    del summary["movement"]["maml_small"]
    summary["verdict"] = {"answer": "mixed", "claims": summary["verdict"]["claims"][1:]}
    del summary["data"]["cca_points"]
    page = write(study, summary)
    assert "CCA ±" not in page.text
    assert "canonical" not in page.text
    assert "CKA ± ci95" in page.text
    assert not {"early"} & set(figures(summary, None))
    assert "Other heads" not in page.text
    assert "1 of 2 claims tested hold" in page.text
    assert "The dial" not in page.text
    assert "0.412 ± 0.059" in page.text


def test_a_block_with_too_few_points_for_cca_is_named(study: Path, summary: dict[str, Any]) -> None:
    for found in (*summary["cca"].values(), *summary["cca98"].values()):
        del found[3]  # conv4
    page = write(study, summary)
    rows = {tuple(r[:2]): r[2:] for r in named_tables(summary)["cka"].rows}
    assert rows["MAML", "conv4"] == ["0.961 ± 0.004", "—", "—"]
    assert rows["MAML", "head"] == ["0.412 ± 0.059", "0.443 ± 0.056", "0.455 ± 0.054"]
    assert "no CCA for conv4, which gives fewer than two data points per neuron" in page.text
    assert "conv4 gives fewer here" in page.text
    assert (study / "figures" / "similarity.svg").read_text().count("too few") == 1


def test_cca_of_no_block_at_all(study: Path, summary: dict[str, Any]) -> None:
    summary["cca"] = {"maml": [], "anil": []}
    summary["cca98"] = {"maml": [], "anil": []}
    page = write(study, summary)
    assert "conv1, conv2, conv3, conv4 and head give fewer here" in page.text
    assert "0.412 ± 0.059" in page.text


def test_a_single_checkpoint_is_no_course_and_a_lost_cka_no_error(study: Path, summary: dict[str, Any]) -> None:
    summary["early"] = summary["early"][:1]
    assert "early" not in figures(summary, None)
    summary["early"] = made_up_early = [dict(summary["early"][0], step=s, lowest_body_cka=None) for s in (1, 2)]
    page = write(study, summary)
    assert "early" in figures(summary, None)
    assert [r[-1] for r in named_tables(summary)["early"].rows] == ["—"] * len(made_up_early)
    assert "None" not in page.text.split()


@pytest.mark.parametrize("name", ["dial", "similarity", "early"])
def test_a_figure_can_be_read_on_a_phone(summary: dict[str, Any], name: str) -> None:
    """It is as wide as a phone shows at its own size, nothing reaches over its edge and no words over others."""
    summary["early"] = [dict(e, step=15 * e["step"]) for e in summary["early"]]  # 7,500 to 30,000: wide words
    with style(name):
        figure = figures(summary, None)[name]()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn = canvas.get_renderer()
        edge = figure.bbox
        assert figure.get_figwidth() == pytest.approx(WIDTH)
        box = figure.get_tightbbox(drawn).transformed(figure.dpi_scale_trans)
        assert box.x0 >= edge.x0 - 1
        assert box.x1 <= edge.x1 + 1
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                texts = [t.get_window_extent(drawn) for t in axis.get_ticklabels() if t.get_visible() and t.get_text()]
                assert not any(a.overlaps(b) for a, b in pairwise(texts))
                assert all(float(t.get_fontsize()) >= 9 for t in axis.get_ticklabels())


def test_the_answer_is_first_then_the_paper_its_protocol_the_verdict_and_the_dial(written: Path) -> None:
    text = (written / "report.html").read_text()
    parts = [
        'class="answer"',
        '<figure id="dial">',
        "What the paper asks",
        "protocol in this run",
        '<figure id="freezing">',
        "The verdict",
        "The dial",
        '<figure id="cost">',
        "How this was made",
    ]
    at = [text.index(p) for p in parts]
    assert at == sorted(at)
    assert text.count("<figure") == len(FIGURES)


def test_each_figure_names_its_data(written: Path) -> None:
    for path in (written / "figures").glob("*.svg"):
        assert "5-way 1-shot on glyphs" in path.read_text(), path


def test_a_cell_says_its_column_where_a_phone_stacks_them(written: Path) -> None:
    text = (written / "report.html").read_text()
    assert text.count("<td ") == text.count("<td data-label=") > 50
    assert '<td data-label="accuracy, % ± ci95">86.1 ± 0.7</td>' in text


def test_a_wide_table_scrolls_by_itself(written: Path) -> None:
    text = (written / "report.html").read_text()
    inside = re.findall(r'<div class="scroll"[^>]*>\s*<table>', text)
    assert len(inside) == text.count("<table>") >= 8


def test_the_least_that_makes_a_page(tmp_path: Path, summary: dict[str, Any]) -> None:
    method = {"mean": 0.5, "ci95": 0.01, "episodes": 600}
    page = write(tmp_path, {"data": summary["data"], "methods": {"mine": method}})
    assert "50.0 ± 1.0" in page.text
    assert not (tmp_path / "figures").exists()


def test_no_summary(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=names(tmp_path / "summary.json")):
        write_report(tmp_path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"data": {}, "methods": {}}', '{"data": 3, "methods": 4}', "\x00"]
)
def test_a_damaged_summary_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ReportError, match=names(tmp_path / "summary.json")):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_lost_number_is_named(study: Path, summary: dict[str, Any]) -> None:
    del summary["methods"]["maml"]["mean"]
    (study / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ReportError, match=names(study / "summary.json", "mean")):
        write_report(study)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("seconds",), float("nan")),
        (("data", "classes"), "many"),
        (("cca", "maml", 0, "block"), None),
        (("command",), [1]),
        (("early",), [{}]),
        (("movement", "maml"), 7),
    ],
)
@pytest.mark.usefixtures("no_figures")
def test_a_spoilt_value_is_of_the_file(study: Path, summary: dict[str, Any], at: tuple[Any, ...], value: Any) -> None:
    inside = summary
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = value
    (study / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ReportError, match=names(study / "summary.json")):
        write_report(study)


@pytest.mark.parametrize(("way", "score"), [([], 0.5), (5, {})])
def test_a_spoilt_value_of_a_figure_is_of_the_file(
    tmp_path: Path, summary: dict[str, Any], way: Any, score: Any
) -> None:
    accuracy = {"mean": 0.5, "ci95": 0.01}
    mine = {**accuracy, "episodes": 600, "steps": [accuracy, accuracy], "curve": [{"step": 1, "score": score}]}
    with pytest.raises(ReportError, match=names(tmp_path / "summary.json")):
        write(tmp_path, {"data": summary["data"] | {"way": way}, "methods": {"mine": mine}})


def test_damaged_episodes_are_named(study: Path) -> None:
    path = study / "episodes.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ReportError, match=names(path)):
        write_report(study)
