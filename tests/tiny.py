"""Runs that take a second: 16×16 images of noisy patterns, a net of four filters, six outer steps."""

import shlex
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from innerloop.core.episodes import ClassImages
from innerloop.core.outer import OuterLoop
from innerloop.core.random import generator_for
from innerloop.data import catalogue
from innerloop.data.glyphs import GLYPHS
from innerloop.evaluation import EvalSettings
from innerloop.runs import RunFolder
from innerloop.training import Config, Inner, Model, Validation, build

CONFIG = Config(
    way=3,
    query=2,
    model=Model(filters=4),
    inner=Inner(steps=2, lr=0.4),
    outer=OuterLoop(steps=6, meta_batch=2, lr=1e-2, schedule="cosine"),
    validation=Validation(every=2, episodes=3),
    test=EvalSettings(episodes=6, query=3, inner_steps=3),
    device="cpu",
)

SINES = replace(
    CONFIG,
    data="sinusoid",
    shot=5,
    query=5,
    model=Model(arch="mlp", hidden=(6, 5)),
    inner=Inner(steps=2, lr=0.01),
)

FLAGS = shlex.split("""
    --way 3 --query 2 --model.filters 4 --inner.steps 2 --inner.lr 0.4 --outer.steps 4 --outer.meta-batch 2
    --validation.every 2 --validation.episodes 3 --test.episodes 8 --test.query 3 --test.inner-steps 3 --device cpu
""")
"""about the same from a command line"""


@cache
def blobs(size: int = 16, channels: int = 1, classes: int = 6, images: int = 8) -> ClassImages:
    """Three splits of `classes` classes, `images` images each: a pattern a class, and noise."""
    g = generator_for(0, "blobs")
    n = 3 * classes
    pattern = torch.rand(n, 1, channels, size, size, generator=g)
    noise = torch.rand(n, images, channels, size, size, generator=g)
    pixels = ((0.6 * pattern + 0.4 * noise) * 255).to(torch.uint8)
    splits = {s: range(i * classes, (i + 1) * classes) for i, s in enumerate(("train", "val", "test"))}
    return ClassImages.from_tensors("blobs", list(pixels), [f"class {i}" for i in range(n)], splits)


def glyphs_of_16_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, glyphs is a data set of 16×16 images, as `blobs`."""
    monkeypatch.setattr(catalogue, "DATASETS", (replace(GLYPHS, shape=(1, 16, 16)),))


def load_blobs(config: Config, data_dir: Path | None = None) -> ClassImages | None:
    """Stands in for `build.load_images`."""
    return None if config.regression else blobs()


@pytest.fixture
def made_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is read or drawn."""
    monkeypatch.setattr(build, "load_images", load_blobs)


def result(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All that a training left, but for the seconds it took: each checkpoint's tensors and state, and the metrics."""
    folder = RunFolder(path)
    found: dict[str, Any] = {}
    for which in ("best", "last"):
        c = folder.load(which)
        state = {k: v for k, v in c.state.items() if k != "seconds"}
        found[which] = (c.step, c.weights, c.optimizer, state)
    return found, [{k: v for k, v in row.items() if k != "seconds"} for row in folder.metrics]


def assert_same(a: Path, b: Path) -> None:
    """Both folders hold the same run, to the last bit."""
    (one, rows), (other, other_rows) = result(a), result(b)
    assert rows == other_rows
    for which, (step, weights, optimizer, state) in one.items():
        there = other[which]
        assert (step, state) == (there[0], there[3])
        for mine, its in ((weights, there[1]), (optimizer, there[2])):
            assert mine.keys() == its.keys()
            assert all(torch.equal(mine[n], its[n]) for n in mine), which
