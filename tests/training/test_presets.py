"""Every preset with every method, and the numbers that were converted from the papers."""

from dataclasses import fields, replace

import pytest
import torch

from innerloop.core.outer import objective_gradient
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings
from innerloop.methods import catalogue
from innerloop.methods.catalogue import METHODS
from innerloop.training import PRESETS, Config, Folder, Inner, Model, Validation, build, preset
from naming import names
from planting import plants
from tiny import blobs

NAMES = [p.name for p in PRESETS]
FOR_CLASSES = [m.name for m in METHODS if not m.adapts or m.start != "own"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", catalogue.NAMES)
def test_each_preset_makes_a_model_and_a_meta_gradient_by_each_method(name: str, method: str) -> None:
    if name.startswith("sinusoid") and method in FOR_CLASSES:
        with pytest.raises(InnerloopError, match=names(method, "regression", "maml", "anil")):
            preset(name, method)
        return
    config = preset(name, method)
    assert config.method == method
    small = replace(config, way=min(config.way, 3), model=replace(config.model, filters=4), query=1, device="cpu")
    inner = replace(small.inner, steps=min(small.inner.steps, 2))
    small = replace(small, train_way=min(small.train_way, 4), inner=inner)
    channels = 3 if config.data in ("mini_imagenet", "cifar_fs") else 1
    images = None if config.regression else blobs(16, channels)
    model = build.build_model(small, images)
    parameters = build.learner(small, model).init()
    batch = build.training_tasks(small, images).sample(1, generator_for(0, "t"))
    kinds = build.losses(small)
    found = objective_gradient(build.learner(small, model, 0).objective, parameters, batch, kinds.score)
    assert found.gradient.keys() == parameters.keys()
    assert all(bool(g.isfinite().all()) for g in found.gradient.values())
    assert any(bool(g.any()) for g in found.gradient.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", catalogue.NAMES)
def test_config_goes_through_json_and_back(name: str, method: str) -> None:
    import json

    if name.startswith("sinusoid") and method in FOR_CLASSES:
        return
    config = preset(name, method)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_cifar_fs_has_the_loop_of_mini_imagenet() -> None:
    for shot in (1, 5):
        c, m = (preset(f"{data}-5way-{shot}shot") for data in ("cifar-fs", "mini-imagenet"))
        assert (c.shot, c.inner, c.outer, c.test) == (m.shot, m.inner, m.outer, m.test)


def test_json_keeps_values_that_are_not_the_defaults() -> None:
    config = Config(model=Model(hidden=(3, 2, 1)), inner=Inner(learn_rates=True), validation=Validation(every=7))
    assert Config.from_json(config.to_json()) == config
    assert set(config.to_json()) == {f.name for f in fields(Config)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": 1}, ("colour",)),
        ({"model": {"filter": 4}}, ("model.filter", "'filters'")),
        ({"inner": {"speed": 1}}, ("inner.speed",)),
        ({"inner": 3}, ("inner", "object", 3)),
        ({"model": {"hidden": [40, "x"]}}, ("model.hidden[1]", "integer", "'x'")),
        ({"model": {"arch": "conv5"}}, ("model.arch", "conv4", "resnet12", "mlp", "'conv5'", "'conv4'")),
        ({"way": "5"}, ("way", "integer", "'5'")),
        ({"way": 2.5}, ("way", "integer", 2.5)),
        ({"way": 1}, ("way", 2, 1)),
    ],
)
def test_json_of_something_else_is_refused(change: dict, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        Config.from_json({**Config().to_json(), **change})


def test_rates_are_the_published_ones_for_a_mean_loss() -> None:
    """The reference code sums the loss and divides by the shots: r there is r × way here."""
    assert preset("omniglot-5way-1shot").inner.lr == pytest.approx(2.0)  # 0.4 × 5
    assert preset("omniglot-5way-5shot").inner.lr == pytest.approx(2.0)
    assert preset("omniglot-20way-1shot").inner.lr == pytest.approx(2.0)  # 0.1 × 20
    assert preset("mini-imagenet-5way-1shot").inner.lr == pytest.approx(0.05)  # 0.01 × 5
    assert preset("mini-imagenet-5way-5shot").inner.lr == pytest.approx(0.05)
    assert preset("sinusoid-10shot").inner.lr == pytest.approx(0.01)  # a mean there too


def test_published_protocols() -> None:
    for way, batch, steps, test_steps in ((5, 32, 1, 3), (20, 16, 5, 5)):
        for shot in (1, 5):
            c = preset(f"omniglot-{way}way-{shot}shot")
            assert (c.way, c.shot, c.query) == (way, shot, shot)
            assert (c.outer.meta_batch, c.inner.steps, c.test.inner_steps) == (batch, steps, test_steps)
            assert (c.outer.steps, c.outer.lr, c.outer.clip) == (60_000, 1e-3, "none")
            assert (c.model.filters, c.model.downsample, c.model.readout) == (64, "stride", "mean")
    for shot, batch, clip in ((1, 4, 10 / 75), (5, 2, 10 / 15)):
        c = preset(f"mini-imagenet-5way-{shot}shot")
        assert (c.way, c.shot, c.query, c.outer.meta_batch) == (5, shot, 15, batch)
        assert (c.inner.steps, c.test.inner_steps, c.outer.steps) == (5, 10, 60_000)
        assert (c.outer.clip, c.outer.clip_at) == ("value", pytest.approx(clip))
        assert (c.model.filters, c.model.downsample, c.model.readout) == (32, "max_pool", "flatten")
    c = preset("sinusoid-10shot")
    assert (c.shot, c.inner.steps, c.outer.meta_batch, c.outer.steps) == (10, 1, 25, 70_000)
    assert c.model.hidden == (40, 40)


def test_methods_change_only_what_they_must() -> None:
    base = preset("omniglot-20way-1shot")
    for method in ("fomaml", "anil", "nil"):
        assert preset("omniglot-20way-1shot", method) == replace(base, method=method)
    boil = preset("omniglot-20way-1shot", "boil")
    assert (boil.inner.steps, boil.inner.lr, boil.inner.adapt_norm, boil.test.inner_steps) == (1, 0.5, True, 1)


def test_names_are_unique_and_described() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(p.about and "\n" not in p.about for p in PRESETS)
    with pytest.raises(InnerloopError, match=names("'x'", *NAMES)):
        preset("x")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: Config(shot=0), ("shot", 1, 0)),
        (lambda: Config(threads=-1), ("threads", 0, "-1")),
        (lambda: Config(task_chunk=-1), ("task_chunk", 0, "-1")),
        (lambda: Config(method="nil", data="sinusoid"), ("nil", "regression", "maml", "anil")),
        (lambda: Validation(every=10, keep_every=15), ("validation.keep_every", "validation.every", 10, 15)),
        (lambda: Config(data="sinusoid", model=Model(arch="mlp"), augment="affine"), ("'affine'", "sinusoid", "none")),
        (lambda: Config(data="sinusoid"), ("conv4", "sinusoid", "mlp")),
        (lambda: Config(folder=Folder(root="mine")), ("folder.root", "--data folder")),
        (lambda: Config(split_scheme="lake"), ("glyphs", "split_scheme", "'lake'")),
        (lambda: Config(method="nil", inner=Inner(learn_rates=True)), ("nil", "inner loop")),
        (lambda: Config(inner=Inner(learn_rates=True, steps=0)), ("maml", "inner.steps", 0, "inner.learn_rates")),
        (lambda: Config(method="fomaml", inner=Inner(recompute=True)), ("fomaml", "recompute")),
        (lambda: Model(filters=0), ("model.filters", 1, 0)),
        (lambda: Model(hidden=(3, 0)), ("model.hidden[1]", 1, 0)),
        (lambda: Validation(every=0), ("validation.every", 1, 0)),
        (lambda: Validation(episodes=1), ("validation.episodes", 2, 1)),
        (lambda: EvalSettings(episodes=1), ("test.episodes", 2, 1)),
        (lambda: EvalSettings(query=0), ("test.query", 1, 0)),
        (lambda: EvalSettings(inner_steps=-1), ("test.inner_steps", 0, "-1")),
        (lambda: EvalSettings(temperature=0.0), ("test.temperature", 0, 0.0)),
    ],
)
def test_senseless_values_are_refused_at_once(change, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        change()


@plants("as many tasks in memory as a step has", "training.build:_NUMBERS", lambda right: 10**12)
def test_tasks_in_memory_at_once() -> None:
    """On a CPU: what the first block of conv4 makes of them is at most 2²⁴ numbers, and the chunks are of one size."""
    cpu = torch.device("cpu")
    assert build.chunk_size(preset("omniglot-20way-1shot", "anil"), cpu) == 16  # of 16; 40 × 64 × 14² numbers each
    assert build.chunk_size(preset("omniglot-20way-1shot", "maml"), cpu) == 8  # its 5 steps see 100 support images more
    assert build.chunk_size(preset("cifar-fs-5way-1shot", "anil"), cpu) == 2  # of 4; three would fit: 80 × 64 × 32²
    assert build.chunk_size(preset("mini-imagenet-5way-1shot", "anil"), cpu) == 1
    quick = preset("quick", "maml")
    assert build.chunk_size(quick, cpu) == quick.outer.meta_batch
    assert build.chunk_size(replace(quick, task_chunk=3), cpu) == 3
    assert build.chunk_size(quick, torch.device("cuda")) is None
    for change in (
        {"inner": replace(quick.inner, adapt_norm=True)},
        {"inner": replace(quick.inner, statistics="support")},
        {"test": replace(quick.test, statistics="support")},
        {"model": replace(quick.model, arch="resnet12")},
        {"method": "imaml", "inner": preset("quick", "imaml").inner},
    ):
        assert build.chunk_size(replace(quick, **change), cpu) == 1


def test_learned_rates_start_at_the_inner_rate_of_the_blocks_that_adapt() -> None:
    config = Config(way=3, inner=Inner(steps=4, lr=0.3, learn_rates=True), model=Model(filters=4), device="cpu")
    for method, blocks in (
        ("maml", ["conv1", "conv2", "conv3", "conv4", "head"]),
        ("anil", ["head"]),
        ("boil", ["conv1", "conv2", "conv3", "conv4"]),
    ):
        own = replace(config, method=method)
        parameters = build.learner(own, build.build_model(own, blobs())).init()
        rates = {n: p for n, p in parameters.items() if n.startswith("rate:")}
        assert list(rates) == [f"rate:{b}" for b in blocks]
        assert all(torch.equal(p, torch.full((4,), 0.3)) for p in rates.values())
