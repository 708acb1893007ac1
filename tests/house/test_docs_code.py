"""The Python blocks of these pages run, one after the other in one namespace."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("lecture.md", "cheat-sheet.md", "coming-from.md", "dagan.md", "glyphs.md")


def blocks(page: str) -> list[str]:
    """Python blocks, but those about another library in <details>."""
    text = re.sub(r"<details>.*?</details>", "", (DOCS / page).read_text(), flags=re.S)
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert blocks(page)
    exec(compile("\n".join(blocks(page)), page, "exec"), {})


def test_the_log_of_a_run_is_read_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 50, "loss": 1.0}\n{"step": 100, "loss": 0.5}\n')
    assert [line["step"] for line in logging_page()["read_log"](tmp_path)] == [50, 100]


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "quick"
    run.mkdir()
    (run / "metrics.jsonl").write_text(
        '{"step": 50, "loss": 1.0, "validation": null}\n{"step": 100, "loss": 0.5, "validation": 0.75}\n'
    )
    (run / "config.json").write_text('{"method": "maml", "inner": {"lr": 0.4}}')
    return run


def logging_page() -> dict:
    names: dict = {}
    exec(compile("\n".join(blocks("logging.md")[:3]), "logging.md", "exec"), names)
    return names


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_run_goes_to_weights_and_biases_offline(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, without a network: every line is in the file that `wandb sync` would send."""
    wandb = pytest.importorskip("wandb")
    for name in ("HOME", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(a_run.parent))
    logging_page()["to_wandb"](a_run, project="innerloop", mode="offline")
    wandb.teardown()
    (file,) = a_run.parent.rglob("run-*.wandb")
    content = file.read_bytes()
    assert all(text in content for text in (b"innerloop", b"quick", b"validation", b"0.75", b"maml"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_run_goes_to_mlflow(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, into files of this folder."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (a_run.parent / "mlruns").as_uri())
    logging_page()["to_mlflow"](a_run)
    (run,) = mlflow.tracking.MlflowClient().search_runs(["0"])
    assert run.info.run_name == "quick"
    assert run.data.metrics == {"loss": 0.5, "validation": 0.75}
    history = mlflow.tracking.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(50, 1.0), (100, 0.5)]
