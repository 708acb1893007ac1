"""A Hub on this machine, and a run that was trained and tested."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Hub

from innerloop.cli.evaluate import EvaluateArgs, evaluate_run
from innerloop.training import build, train
from tiny import CONFIG, load_blobs, made_images  # noqa: F401


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """What huggingface_hub talks to, with an empty cache and a token."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    hub = Hub()
    for name, value in vars(constants).copy().items():  # what HF_ENDPOINT sets when they are imported
        if isinstance(value, str) and value.startswith("https://huggingface.co"):
            monkeypatch.setattr(constants, name, value.replace("https://huggingface.co", hub.url))
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    yield hub
    hub.stop()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one test."""
    path = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "load_images", load_blobs)
        train(replace(CONFIG, outer=replace(CONFIG.outer, steps=2)), path)
        evaluate_run(EvaluateArgs(path))
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path, made_images: None) -> Path:  # noqa: F811
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")
