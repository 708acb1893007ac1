"""The models of the package: small, whole, each with its tests and its card, and usable by name."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop import cli
from innerloop.estimator import FewShotClassifier
from innerloop.runs import RunFolder
from innerloop.sharing import SHIPPED
from innerloop.sharing.bundle import checked
from innerloop.training import Config


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_whole(name: str) -> None:
    path = il.from_pretrained(name)
    assert path.name == name
    assert checked(path, name)[0] == "run"
    run = RunFolder(path)
    config = run.config_as(Config.from_json)
    assert f"{config.data}-{config.way}way-{config.shot}shot-{config.method}" in name
    assert (config.model.head_scale < 1) == name.endswith("small-head") or "20way" in name
    weights = run.load("best").weights
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in weights.values())
    card = (path / "README.md").read_text()
    (test, *_) = run.evaluations
    assert test["episodes"] == 600
    assert f"{100 * test['mean']:.2f} ± {100 * test['ci95']:.2f}" in card
    assert "float16" in card
    again = il.from_pretrained(name)
    (again / "eval.json").write_text('{"evaluations": []}')
    assert RunFolder(il.from_pretrained(name)).evaluations == [], "results of the user's stay"


def test_they_are_small() -> None:
    package = Path(str(files("innerloop")))
    kept = [*(package / "sharing" / "models").rglob("*"), *(package / "playground" / "models").glob("*.safetensors")]
    assert sum(p.stat().st_size for p in kept if p.is_file()) < 3_000_000


@pytest.mark.slow
def test_one_classifies_what_it_was_trained_for() -> None:
    """Glyphs of test classes, drawn here: far above chance, so that the weights are those of a trained network."""
    images = il.load("glyphs")
    tasks = il.ImageTasks(images.split("test"), 5, 1, 10)
    episodes = tasks.sample(5, il.generator_for(0, "shipped"))
    right = []
    for x, y, q, t in zip(
        *(v.numpy() for v in (episodes.support_x, episodes.support_y, episodes.query_x, episodes.query_y)), strict=True
    ):
        few = FewShotClassifier(str(il.from_pretrained("glyphs-5way-1shot-maml")), method="maml").fit(x, y)
        right.append(few.score(q, t))
    assert np.mean(right) > 0.6


@pytest.mark.slow
def test_evaluate_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["evaluate", "glyphs-5way-1shot-anil", "--episodes", "3"]) == 0
    assert "eval.json" in capsys.readouterr().out
