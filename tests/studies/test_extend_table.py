"""examples/extend_table.py, used from a folder outside of the checkout, as one of ours."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from code_lines import code_lines
from innerloop import cli
from innerloop.errors import InnerloopError
from innerloop.runs import read_json
from innerloop.studies import Claim, Lab, Table, find_table
from naming import names

EXAMPLE = Path(__file__).parents[2] / "examples" / "extend_table.py"
NAME = "extend_table:inner_steps"
COMMAND = ["reproduce", NAME, "--budget", "smoke", "--way", "3", "--threads", "1", "--device", "cpu", "--out", "made"]
FOLDER = Path("made/glyphs-3way-1shot-smoke/inner-steps")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the example and nothing else."""
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("extend_table", None)


def test_it_is_short() -> None:
    assert code_lines(EXAMPLE) <= 12


def test_reproduced_shown_again_and_made_anew(made_images: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(COMMAND) == 0
    assert "20 steps" in capsys.readouterr().out
    value = read_json(FOLDER / "result.json")
    by = {r["label"]: r for r in value["rows"]}
    assert list(by) == [f"{n} steps" for n in (0, 1, 2, 5, 10, 20)]
    assert [r["unit"] for r in by.values()] == ["accuracy"] * 6
    assert by["0 steps"]["mean"] != by["20 steps"]["mean"]
    assert {len(r["values"]) for r in by.values()} == {2}
    assert set(value["runs"]) == {f"glyphs-3way-1shot-smoke-maml-seed{s}" for s in (0, 1)}
    (claim,) = value["claims"]
    assert claim["text"] == "Twenty steps are no worse than ten"
    assert claim["predicate"] == "20 steps − 10 steps ≥ −1 points"
    assert claim["paper_data"] == []
    assert {f.name for f in FOLDER.iterdir()} >= {"table.md", "table.csv", "figure.png", "figure.svg"}

    before = (FOLDER / "result.json").stat().st_mtime_ns
    assert cli.run(COMMAND) == 0
    assert (FOLDER / "result.json").stat().st_mtime_ns == before, "what is finished is shown"

    file = Path("extend_table.py")
    file.write_text(file.read_text().replace("(0, 1, 2, 5, 10, 20)", "(10, 20)"))
    del sys.modules["extend_table"]
    assert cli.run(COMMAND) == 0
    assert [r["label"] for r in read_json(FOLDER / "result.json")["rows"]] == ["10 steps", "20 steps"]
    run = read_json(FOLDER / "result.json")["runs"]
    assert run == value["runs"], "runs are not trained anew"


def test_what_is_no_table(tmp_path: Path) -> None:
    for name, said in ((f"{NAME}_", "inner_steps_"), ("extend_table:measure", "function")):
        with pytest.raises(InnerloopError, match=names(said)):
            find_table(name)
    Path("table_of_mine.py").write_text("import innerloop as il\nt = il.Table('table1', 'x', lambda lab, seed: {})\n")
    with pytest.raises(InnerloopError, match=names("table1")):
        find_table("table_of_mine:t")
    with pytest.raises(InnerloopError, match=names("a/b")):
        Table("a/b", "x", lambda lab, seed: {})
    with pytest.raises(InnerloopError, match=names("measure", "make")):
        Table("a", "x")


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    lab = Lab("glyphs", "smoke", tmp_path, way=3, seeds=(0,))
    table = Table("a", "x", lambda lab, seed: {"one": 0.5}, claims=[Claim("?", "two", at_least=0.0)])
    with pytest.raises(InnerloopError, match=names("two", "one")):
        table.result(lab)
    with pytest.raises(InnerloopError, match=names("measure")):
        Table("a", "x", lambda lab, seed: {str(seed): 0.5}).result(Lab("glyphs", "smoke", tmp_path, seeds=(0, 1)))
