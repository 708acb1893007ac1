"""A made-up study, complete, and the folder it left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

BLOCKS = ["conv1", "conv2", "conv3", "conv4", "head"]


def made_up_summary() -> dict[str, Any]:
    """Each number is its own, so that a test can look for it on the page."""

    def steps(first: float, last: float) -> list[dict[str, float]]:
        means = [first, *(last - 0.05 * 0.5**i for i in range(9)), last]
        return [{"mean": m, "ci95": 0.006 + 0.0001 * i} for i, m in enumerate(means)]

    def curve(top: float) -> list[dict[str, float]]:
        rows = []
        for i in range(1, 41):
            score = top - 0.5 * 0.9**i + 0.02 * np.sin(7.0 * i)
            row = {"step": 50 * i, "loss": 1.6 - score, "score": float(score)}
            rows.append(row | ({"validation": top - 0.03 - 0.5 * 0.9**i} if i % 5 == 0 else {}))
        return rows

    def trained(title: str, first: float, last: float, seconds: float) -> dict[str, Any]:
        more = {"train_seconds": seconds, "outer_steps": 2000, "best_step": 1750, "curve": curve(last)}
        return {
            "title": title,
            "mean": last,
            "ci95": 0.007,
            "episodes": 600,
            "steps": steps(first, last),
            **more,
        }

    def fixed(title: str, mean: float, note: str) -> dict[str, Any]:
        entry = {"mean": mean, "ci95": 0.0083}
        return {"title": title, **entry, "episodes": 600, "steps": [entry], "note": note}

    frozen = [0.8612, 0.8605, 0.8598, 0.8581, 0.8549]
    freezing = [
        {
            "frozen": BLOCKS[:i],
            "adapted": BLOCKS[i:],
            "mean": mean,
            "ci95": 0.0071,
            "episodes": 600,
            "difference": {"mean": mean - frozen[0], "ci95": 0.0013 * (i > 0)},
        }
        for i, mean in enumerate(frozen)
    ]
    counts = [640, 36928, 36928, 36928, 325]

    def movement(relative: list[float]) -> list[dict[str, Any]]:
        return [
            {"block": b, "parameters": n, "distance": 7 * r, "distance_ci95": 0.1 * r}
            | {"relative": r, "relative_ci95": 0.03 * r}
            for b, n, r in zip(BLOCKS, counts, relative, strict=True)
        ]

    def cka(means: list[float]) -> list[dict[str, Any]]:
        return [{"block": b, "mean": m, "ci95": 0.1 * (1 - m)} for b, m in zip(BLOCKS, means, strict=True)]

    def checkpoint(step: int, whole: float, frozen: float, low: float) -> dict[str, Any]:
        return {
            "step": step,
            "episodes": 51,
            "mean": whole,
            "ci95": 0.0217,
            "body_frozen": {"mean": frozen, "ci95": 0.0223},
            "difference": {"mean": frozen - whole, "ci95": 0.0061},
            "cka": cka([0.99, 0.98, 0.97, low, 0.5]),
            "lowest_body_cka": {"block": "conv4", "mean": low, "ci95": 0.0042},
        }

    def dial(method: str, scale: float, whole: float, lost: float, share: float, holds: bool | None) -> dict[str, Any]:
        def test(change: float) -> dict[str, Any]:
            difference = {"mean": change, "ci95": 0.0057 * (change != 0)}
            return {"mean": whole + change, "ci95": 0.0072, "episodes": 600, "difference": difference}

        return {
            "method": method,
            "head_scale": scale,
            "whole": test(0.0),
            "frozen": test(lost),
            "zeros": test(-0.0021),
            "nil": test(-0.0033),
            "lowest_body": {"cka": 0.961, "cca": 0.938, "cca98": 0.945},
            "moved": dict(zip(BLOCKS, [0.04, 0.05, 0.06, 0.09, 1.315], strict=True)),
            "share": {"mean": share, "ci95": 0.0043},
            "claims": [{"claim": "The body need not adapt", "holds": holds, "evidence": ""}],
        }

    def head(name: str, mean: float, first: bool = False) -> dict[str, Any]:
        difference = {"mean": mean - 0.8612, "ci95": 0.0 if first else 0.0049}
        return {"name": name, "mean": mean, "ci95": 0.0075, "episodes": 600, "difference": difference}

    return {
        "innerloop": "0.1.0",
        "command": ["innerloop", "study", "--out", "my study"],
        "commit": "0123456789abcdef",
        "env": {
            "python": "3.12.1",
            "torch": "2.9.0",
            "processor": "Some CPU",
            "cpus": 8,
            "threads": 2,
            "gpu": None,
        },
        "date": "2026-11-22",
        "seconds": 301.2,
        "preset": "quick",
        "seed": 17,
        "data": {
            "name": "glyphs",
            "way": 5,
            "shot": 1,
            "query": 15,
            "image_shape": [1, 28, 28],
            "classes": {"train": 484, "val": 78, "test": 108},
            "episodes": 600,
            "inner_steps": 10,
            "train_inner_steps": 5,
            "statistics": "batch",
            "analysis_episodes": 119,
            "cca_points": 30,
        },
        "config": {"way": 5},
        "methods": {
            "maml": trained("MAML", 0.2013, 0.8612, 171.3),
            "maml_small": trained("MAML, small head start", 0.2009, 0.8719, 170.6),
            "anil": trained("ANIL", 0.1987, 0.8574, 95.2),
            "nil": fixed("NIL (ANIL's body, no inner loop)", 0.8633, "attention over cosines"),
            "nil_maml": fixed("NIL (MAML's body, no inner loop)", 0.8556, ""),
            "untrained_nil": fixed("Random body, no inner loop", 0.5821, "the baseline"),
            "pixels": fixed("Nearest neighbour on pixels", 0.5234, "no network"),
        },
        "paired": [
            {"a": "anil", "b": "maml", "mean": -0.0038, "ci95": 0.0044, "episodes": 600},
            {"a": "nil", "b": "anil", "mean": 0.0059, "ci95": 0.0041, "episodes": 600},
        ],
        "movement": {
            "maml": movement([0.041, 0.052, 0.063, 0.094, 1.315]),
            "maml_small": movement([0.021, 0.022, 0.023, 0.024, 1.715]),
            "anil": movement([0, 0, 0, 0, 1.428]),
        },
        "freezing": freezing,
        "cka": {"maml": cka([0.998, 0.994, 0.987, 0.961, 0.412]), "anil": cka([1, 1, 1, 1, 0.377])},
        "cca": {"maml": cka([0.983, 0.971, 0.959, 0.938, 0.443]), "anil": cka([1, 1, 1, 1, 0.466])},
        "cca98": {"maml": cka([0.985, 0.975, 0.965, 0.945, 0.455]), "anil": cka([1, 1, 1, 1, 0.477])},
        "still": [
            {
                "head": "NIL",
                "mean": 0.8557,
                "ci95": 0.0074,
                "episodes": 600,
                "difference": {"mean": -0.0055, "ci95": 0.0021},
            },
            {
                "head": "head from zeros",
                "mean": 0.8533,
                "ci95": 0.0078,
                "episodes": 600,
                "difference": {"mean": -0.0079, "ci95": 0.0025},
            },
        ],
        "dial": [
            dial("maml", 1.0, 0.8612, -0.1371, 0.071, None),
            dial("maml_small", 0.05, 0.8719, 0.0012, 0.913, True),
        ],
        "early": [
            checkpoint(500, 0.6123, 0.5811, 0.907),
            checkpoint(1000, 0.7345, 0.7191, 0.933),
            checkpoint(1500, 0.8012, 0.7927, 0.948),
            checkpoint(2000, 0.8634, 0.8571, 0.959),
        ],
        "heads": [
            head("as trained", 0.8612, first=True),
            head("re-initialised", 0.8453),
            head("zeros", 0.8487),
            head("NIL, cosine", 0.8556),
            head("NIL, Euclidean class means", 0.8529),
        ],
        "cost": {
            "threads": 1,
            "device": "cpu",
            "repeats": 20,
            "train_ms": {"maml": 81.23, "anil": 42.34},
            "train_ratio": 1.92,
            "inference_ms": {"maml": 31.45, "anil": 7.56, "nil": 3.67},
            "inference_ratio": 4.16,
            "note": "CPU time, medians of interleaved repeats",
        },
        "verdict": {
            "answer": "it depends on the head's start",
            "answers": {"maml": "mixed", "maml_small": "feature reuse"},
            "claims": [
                {
                    "claim": "The body need not adapt",
                    "predicate": "frozen − not ≥ −2 points",
                    "holds": None,
                    "evidence": "−1.9 ± 0.4",
                    "paper_data": ["mini_imagenet"],
                },
                {
                    "claim": "ANIL is as accurate as MAML",
                    "holds": True,
                    "evidence": "−0.4 points, ci95 ± 0.4",
                },
                {
                    "claim": "Freezing the body costs nothing",
                    "holds": False,
                    "evidence": "−0.6 points, ci95 ± 0.1",
                },
            ],
        },
    }


def made_up_episodes(way: int = 5, shot: int = 1, query: int = 3, channels: int = 1) -> dict[str, np.ndarray]:
    """Three episodes of strokes, one pattern a class; each method guesses wrong now and then."""
    made = np.random.default_rng(3)
    patterns = made.integers(0, 2, (3, way, channels, 7, 7), dtype=np.uint8) * 255
    images = patterns.repeat(4, axis=-1).repeat(4, axis=-2)
    label = np.arange(way)
    support_y, query_y = (np.tile(label.repeat(n), (3, 1)) for n in (shot, query))

    def guess(wrong: float) -> np.ndarray:
        return np.where(made.random(query_y.shape) < wrong, made.integers(0, way, query_y.shape), query_y)

    def pick(y: np.ndarray) -> np.ndarray:
        return np.stack([images[e][y[e]] for e in range(3)])

    return {
        "support_x": pick(support_y),
        "support_y": support_y,
        "query_x": pick(query_y),
        "query_y": query_y,
        "guess_maml": guess(0.2),
        "guess_anil": guess(0.3),
        "guess_nil": guess(0.2),
    }


def write_study(folder: Path, summary: dict[str, Any], episodes: dict[str, np.ndarray] | None) -> Path:
    """The folder with these files in it."""
    (folder / "summary.json").write_text(json.dumps(summary))
    if episodes is not None:
        save_file({k: np.ascontiguousarray(v) for k, v in episodes.items()}, folder / "episodes.safetensors")
    return folder


@pytest.fixture(autouse=True)
def no_png(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test draws figures as SVG alone, which is on the page; PNG files, twice as dear, are `written`'s."""
    monkeypatch.setattr("innerloop.report.page.png", lambda figure: b"")


@pytest.fixture
def summary() -> dict[str, Any]:
    return made_up_summary()


@pytest.fixture
def study(tmp_path: Path, summary: dict[str, Any]) -> Path:
    """A folder with a complete study."""
    return write_study(tmp_path, summary, made_up_episodes())


@pytest.fixture
def made_study() -> Callable[..., Path]:
    """made_study(folder, summary, way=, shot=, channels=) -> the folder with a study of that shape."""

    def make(folder: Path, summary: dict[str, Any], **shape: int) -> Path:
        return write_study(folder, summary, made_up_episodes(**shape))

    return make


@pytest.fixture(scope="session")
def new_study() -> Callable[[Path], Path]:
    """new_study(folder) -> the folder with a complete study."""
    return lambda folder: write_study(folder, made_up_summary(), made_up_episodes())
