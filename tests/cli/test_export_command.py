"""`innerloop export`: what is written works without the library; what cannot be is said."""

import sys
from pathlib import Path

import numpy as np
import pytest

from innerloop import cli
from innerloop.estimator import FewShotClassifier

ROWS = np.random.default_rng(0).random((6, 5)).astype(np.float32)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INNERLOOP_TRACEBACK", raising=False)


def saved() -> FewShotClassifier:
    few = FewShotClassifier().fit(ROWS, ["ant", "bee"] * 3)
    few.save("model.innerloop")
    return few


def test_onnx(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ort = pytest.importorskip("onnxruntime")
    few = saved()
    assert cli.run(["export", "model.innerloop", "--onnx", "model.onnx"]) == 0
    (found,) = ort.InferenceSession("model.onnx").run(None, {"features": ROWS + 1})
    assert np.abs(found - few.predict_proba(ROWS + 1)).max() < 1e-4
    assert cli.run(["export", "model.innerloop", "--onnx", "model.innerloop"]) == 1
    FewShotClassifier.load("model.innerloop")
    capsys.readouterr()
    assert cli.run(["export", "model.innerloop"]) == 1
    assert "--onnx" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.run(["export", "model.innerloop", "--onnx", "model.onnx"]) == 1
    assert "innerloop[onnx]" in capsys.readouterr().err


def test_a_run_is_no_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    assert cli.run(["export", "run", "--onnx", "model.onnx"]) == 1
    assert "classify --run run" in capsys.readouterr().err
