"""Validation, best and last, TensorBoard, divergence."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from innerloop.core.episodes import ClassImages, Episodes
from innerloop.core.functional import slow_weights
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, evaluate, fixed_episodes
from innerloop.methods.heads import Metric
from innerloop.methods.method import predictor
from innerloop.runs import RunError, RunFolder
from innerloop.training import Config, Interrupted, Progress, build, load_run, train
from naming import names
from tiny import CONFIG, SINES, blobs, load_blobs

pytestmark = pytest.mark.usefixtures("made_images")
training = sys.modules["innerloop.training.train"]


def validate(config: Config, path: Path, which: str) -> float:
    """The validation score of a checkpoint, measured again."""
    own, model, parameters = load_run(path, which=which)
    settings = replace(own.test, episodes=own.validation.episodes, seed=2_000_003)
    family = build.tasks(own, build.load_images(own), "val", own.test.query)
    kinds = build.losses(own)
    result = evaluate(
        predictor(model, own.inner_loop, loss=kinds.loss), parameters, family, settings, score=kinds.score, task_chunk=1
    )
    return result.final.mean


@pytest.mark.parametrize("config", [CONFIG, SINES], ids=["accuracy", "squared error"])
def test_best_is_best_and_last_is_last(config: Config, tmp_path: Path) -> None:
    config = replace(
        config, outer=replace(config.outer, lr=0.1, steps=5), validation=replace(config.validation, every=1)
    )
    folder = train(config, tmp_path / "r")
    seen = {row["step"]: row["validation"] for row in folder.metrics}
    assert list(seen) == list(range(1, 6))
    best = (min if config.regression else max)(seen.values())
    best_step = min(step for step, v in seen.items() if v == best)
    assert len(set(seen.values())) > 1, "a test that sees no difference proves nothing"
    assert folder.summary["best_step"] == folder.load("best").step == best_step
    assert folder.summary["best_validation"] == best
    assert folder.load("last").step == 5
    for which, step in (("best", best_step), ("last", 5)):
        assert validate(config, folder.path, which) == pytest.approx(seen[step], abs=1e-6)


def test_validation_meets_the_same_episodes_each_time_of_validation_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[tuple[Episodes, EvalSettings]] = []

    def spy(family: object, settings: EvalSettings) -> Iterator[Episodes]:
        for e in draw(family, settings):  # pyright: ignore
            met.append((e, settings))
            yield e

    module = sys.modules["innerloop.evaluation.evaluate"]
    draw = module.fixed_episodes
    monkeypatch.setattr(module, "fixed_episodes", spy)
    config = replace(CONFIG, seed=3, test=replace(CONFIG.test, temperature=5.0, statistics="support"))
    train(config, tmp_path / "a")
    train(replace(config, seed=4, method="nil"), tmp_path / "b")
    assert len(met) == 6
    first = met[0][0]
    assert all(torch.equal(e.query_x, first.query_x) and torch.equal(e.support_x, first.support_x) for e, _ in met)
    assert {s for _, s in met} == {replace(config.test, episodes=3, seed=2_000_003)}
    own = next(fixed_episodes(build.tasks(CONFIG, blobs(), "val", 3), replace(CONFIG.test, episodes=3, seed=2_000_003)))
    assert torch.equal(first.query_x, own.query_x)


def test_training_meets_training_classes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    met = []
    whole = training.objective_gradient
    monkeypatch.setattr(
        training, "objective_gradient", lambda p, w, e, *a, **k: (met.append(e), whole(p, w, e, *a, **k))[1]
    )
    train(CONFIG, tmp_path / "r")
    assert len(met) == 6
    assert not torch.equal(met[0].query_x, met[1].query_x)
    pixels = blobs().split("train").images[: 6 * 8].float() / 255
    met_pixels = torch.cat([e.query_x for e in met]).flatten(0, 1).flatten(1)
    distance = torch.cdist(met_pixels, pixels.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    assert float(distance.min(1).values.max()) < 1e-4


def test_methods_start_alike_and_meet_the_same_episodes(tmp_path: Path) -> None:
    """What the paired comparison of the study rests on."""
    first = {}
    for name in ("maml", "anil", "boil"):
        config = replace(CONFIG, method=name)
        model = build.build_model(config, blobs())
        first[name] = {n: p.detach().clone() for n, p in model.named_parameters()}
    for name in ("anil", "boil"):
        assert all(torch.equal(first["maml"][n], first[name][n]) for n in first["maml"])
    other = build.build_model(replace(CONFIG, seed=1), blobs())
    assert not torch.equal(first["maml"]["head.weight"], dict(other.named_parameters())["head.weight"])


@pytest.mark.parametrize("name", ["maml", "fomaml", "anil", "boil", "nil", "multitask", "multiclass"])
def test_each_method_trains_and_moves_its_weights(name: str, tmp_path: Path) -> None:
    config = replace(CONFIG, method=name, outer=replace(CONFIG.outer, steps=2))
    folder = train(config, tmp_path / "r")
    start = dict(build.build_model(config, blobs()).named_parameters())
    after = folder.load("last").weights
    assert not torch.equal(after["conv1.conv.weight"], start["conv1.conv.weight"])
    assert torch.equal(after["head.weight"], start["head.weight"]) == (name == "nil")


def test_learned_rates_are_trained_and_kept(tmp_path: Path) -> None:
    config = replace(CONFIG, method="anil", inner=replace(CONFIG.inner, learn_rates=True))
    folder = train(config, tmp_path / "r")
    rates = {n: w for n, w in folder.load("best").weights.items() if n.startswith("rate:")}
    assert list(rates) == ["rate:head"]
    assert rates["rate:head"].shape == (2,)
    assert not torch.equal(rates["rate:head"], torch.full((2,), 0.4))
    _, _, parameters = load_run(str(folder.path))
    assert torch.equal(parameters["rate:head"], rates["rate:head"])
    c = folder.load("best")
    for weights in (
        {n: w for n, w in c.weights.items() if n != "rate:head"},
        {**c.weights, "rate:head": torch.ones(3)},
    ):
        folder.save(replace(c, step=7, weights=weights), best=True)
        with pytest.raises(RunError, match=names("weights.safetensors", "'rate:head'")):
            load_run(folder.path)
        folder.save(c, best=True)


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, method="anil"), SINES], ids=["maml", "anil", "sinusoid"])
def test_divergence_stops_with_the_checkpoint_before(config: Config, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=names("--inner.lr", "--outer.lr")):
        train(replace(config, inner=replace(config.inner, lr=3e38)), tmp_path / "a")
    with pytest.raises(FloatingPointError, match=names("--inner.lr", "--outer.lr")):  # ever larger steps
        train(replace(config, outer=replace(config.outer, lr=1e30, schedule="constant")), tmp_path / "b")
    for name in ("a", "b"):
        assert not RunFolder(tmp_path / name).finished
        for row in RunFolder(tmp_path / name).metrics:
            assert row["loss"] == row["loss"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"way": 7}, ("way", 7, 6, "blobs/train")),
        ({"shot": 5, "query": 4}, ("shot", 5, "query", 4, 8)),
        ({"shot": 8, "query": 1}, ("shot", 8, "query", 1, 8)),
        ({"device": "tpu9"}, ("'tpu9'", "auto", "cpu")),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(
    change: dict, named: tuple[object, ...], tmp_path: Path
) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        train(replace(CONFIG, **change), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_too_few_test_classes_are_seen_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = blobs()
    few = replace(images, splits={**images.splits, "test": [12, 13]})

    def load(config: Config, data_dir: Path | None = None) -> ClassImages:
        return few

    monkeypatch.setattr(build, "load_images", load)
    with pytest.raises(InnerloopError, match=names("way", 3, 2, "blobs/test")):
        train(CONFIG, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_tensorboard_holds_what_metrics_hold_and_keeps_it_over_a_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator

    def stop(p: Progress) -> None:
        if p.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(CONFIG, tmp_path / "r", tensorboard=True, report=stop)
    folder = train(CONFIG, tmp_path / "r", tensorboard=True, resume=True)
    events = accumulator(str(folder.path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "score", "gradient_norm", "lr", "validation"}
    for key in events.Tags()["scalars"]:
        assert [(e.step, pytest.approx(e.value)) for e in events.Scalars(key)] == [
            (row["step"], row[key]) for row in folder.metrics
        ]


def test_tensorboard_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InnerloopError, match=names("--tensorboard", "pip install 'innerloop[tensorboard]'")):
        train(CONFIG, tmp_path / "r", tensorboard=True)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("base", [CONFIG, SINES], ids=["images", "sines"])
def test_head_scale_scales_the_head_and_nothing_else(base: Config) -> None:
    """Catches a factor on every layer, on none, and draws that differ with the factor."""
    images = load_blobs(base)
    plain, small, zero = (
        slow_weights(build.build_model(replace(base, model=replace(base.model, head_scale=k)), images))
        for k in (1.0, 0.05, 0.0)
    )
    for name, w in plain.items():
        assert torch.equal(small[name], 0.05 * w if name == "head.weight" else w), name
    assert not bool(zero["head.weight"].any())
    with pytest.raises(InnerloopError, match=names("model.head_scale", 0, "-1.0")):
        replace(base.model, head_scale=-1.0)


@pytest.mark.parametrize(
    "change",
    [{"method": "siamese"}, {"method": "baseline++"}, {"method": "matching", "metric": Metric(full_context=True)}],
)
def test_head_scale_is_for_linear_heads(change: dict) -> None:
    """Cosines do not see it, and other heads have no one weight; without it each of them is built."""
    config = replace(CONFIG, **change)
    build.build_model(config, blobs())
    with pytest.raises(InnerloopError, match=names("model.head_scale", 0.5, config.method, 1)):
        build.build_model(replace(config, model=replace(config.model, head_scale=0.5)), blobs())
