"""One battery that every method must pass: it learns, labels are names, the support set is a set, seeds decide, the
query labels teach nothing, and senseless episodes are refused."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages, Episodes, ImageTasks
from innerloop.core.inner import InnerLoop
from innerloop.core.outer import objective_gradient, outer_step
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, evaluate
from innerloop.methods.catalogue import METHODS
from innerloop.methods.heads import Metric
from innerloop.methods.method import predictor
from innerloop.training import Config, Model, build
from innerloop.training.presets import for_method
from tiny import CONFIG

NAMES = [m.name for m in METHODS]
OWN_HEAD = ("maml", "fomaml", "anil", "boil", "meta-sgd", "maml++", "reptile", "imaml")
"""whose head begins the test at rows that were trained, so that which class is called 0 matters"""

BASE = replace(
    CONFIG,
    shot=2,
    query=6,
    model=Model(arch="mlp", hidden=(32, 32)),
    inner=replace(CONFIG.inner, steps=3, lr=0.4),
    outer=replace(CONFIG.outer, steps=100, meta_batch=8),
    test=EvalSettings(episodes=100, query=4, inner_steps=5),
)


def config(name: str) -> Config:
    """The method's preset on BASE, but for what so short a training needs: NIL's cosines sharpened, Reptile with the
    ten steps that it lives by, FOMAML with steps short enough for its approximation, iMAML with a rate that its inner
    loop bears."""
    c = for_method(BASE, name)
    if name == "nil":
        return replace(c, test=replace(c.test, temperature=10.0))
    if name == "reptile":
        return replace(c, inner=replace(c.inner, steps=10), test=replace(c.test, inner_steps=10))
    if name == "fomaml":
        return replace(c, inner=replace(c.inner, lr=0.1))
    if name == "imaml":
        return replace(c, inner=replace(c.inner, lr=0.1, steps=8, proximal=0.5))
    return c


@cache
def signals() -> ClassImages:
    """Pictures of 16 pixels: four are the class's own, with a little noise; twelve are noise alone. The pixels that
    matter are the same for all classes, so that what is learnt on some serves others."""
    g = generator_for(0, "signals")
    x = torch.rand(72, 16, 16, generator=g)
    x[..., :4] = 0.9 * torch.rand(72, 1, 4, generator=g) + 0.1 * x[..., :4]
    pixels = (x.view(72, 16, 1, 4, 4) * 255).to(torch.uint8)
    splits = {"train": range(24), "val": range(24, 48), "test": range(48, 72)}
    return ClassImages.from_tensors("signals", list(pixels), [f"c{i}" for i in range(72)], splits)


def trained(c: Config, steps: int) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """The model and meta-parameters after so many outer steps, as `training.train` takes them."""
    model = build.build_model(c, signals())
    parameters = build.learner(c, model).init()
    kind = torch.optim.SGD if c.outer.optimizer == "sgd" else torch.optim.Adam
    optimizer = kind(list(parameters.values()), lr=c.outer.lr)
    family = build.training_tasks(c, signals())
    for step in range(steps):
        batch = family.sample(c.outer.meta_batch, generator_for(c.seed, "episodes", step))
        found = objective_gradient(build.learner(c, model, step).objective, parameters, batch)
        outer_step(optimizer, parameters, found.gradient, c.outer, step)
    return model, parameters


def accuracy(c: Config, model: nn.Sequential, parameters: dict[str, Tensor]) -> float:
    """On the test classes, as the method is tested."""
    family = build.tasks(c, signals(), "test", c.test.query)
    return evaluate(build.at_test(c, model), parameters, family, c.test, each_step=False).final.mean


@cache
def short(name: str) -> tuple[Config, nn.Sequential, dict[str, Tensor]]:
    """Three outer steps: parameters that are not at their beginning."""
    c = config(name)
    return c, *trained(c, 3)


def outputs(c: Config, model: nn.Sequential, parameters: dict[str, Tensor], e: Episodes) -> Tensor:
    """Of the method's test after three inner steps."""
    c = replace(c, test=replace(c.test, inner_steps=3))
    with torch.no_grad():
        return build.at_test(c, model).predict(parameters, e)


def episodes() -> Episodes:
    return ImageTasks(signals().split("test"), 3, 2, 4).sample(4, generator_for(1, "battery"))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "multitask"])
def test_learns(name: str) -> None:
    """A hundred outer steps bring new classes to 55 % or more (chance: 33 %), and 10 points above the untrained."""
    c = config(name)
    before = accuracy(c, *trained(c, 0))
    after = accuracy(c, *trained(c, c.outer.steps))
    assert after > 0.55, (before, after)
    assert after > before + 0.1, (before, after)


def test_multitask_has_nothing_to_learn() -> None:
    """One head for randomly named classes: on the training classes themselves it stays at chance."""
    c = config("multitask")
    model, parameters = trained(c, c.outer.steps)
    none = InnerLoop(blocks="none")
    settings = replace(c.test, episodes=200)
    found = evaluate(predictor(model, none, head="model"), parameters, build.tasks(c, signals(), "train", 4), settings)
    assert found.final.mean == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_names(name: str) -> None:
    """Renaming an episode's classes renames the outputs. A trained head must be renamed with them (and its learned
    rates): its rows differ, and so the outputs do else."""
    c, model, parameters = short(name)
    e, rename = episodes(), torch.tensor([2, 0, 1])
    other = Episodes(e.support_x, rename[e.support_y], e.query_x, rename[e.query_y])
    plain, renamed = outputs(c, model, parameters, e), outputs(c, model, parameters, other)
    if name not in OWN_HEAD:
        torch.testing.assert_close(renamed[..., rename], plain)
        return
    assert not torch.allclose(renamed[..., rename], plain)
    rows = {n: w[rename.argsort()] for n, w in parameters.items() if n.removeprefix("rate:").startswith("head.")}
    torch.testing.assert_close(outputs(c, model, {**parameters, **rows}, other)[..., rename], plain)


@pytest.mark.parametrize("name", NAMES)
def test_support_and_query_are_sets(name: str) -> None:
    """The order of the support images changes nothing; the query images are answered in their own order."""
    c, model, parameters = short(name)
    e, s, q = episodes(), [3, 0, 5, 1, 4, 2], list(range(11, -1, -1))
    plain = outputs(c, model, parameters, e)
    other = Episodes(e.support_x[:, s], e.support_y[:, s], e.query_x[:, q], e.query_y[:, q])
    torch.testing.assert_close(outputs(c, model, parameters, other), plain[:, q])


def test_only_full_context_sees_an_order() -> None:
    """Its LSTM reads the support set one after the other (Vinyals et al. 2016); the order of queries is still none."""
    c = replace(config("matching"), metric=Metric(full_context=True))
    model = build.build_model(c, signals())
    parameters, e, s = build.learner(c, model).init(), episodes(), [3, 0, 5, 1, 4, 2]
    plain = outputs(c, model, parameters, e)
    turned = Episodes(e.support_x[:, s], e.support_y[:, s], e.query_x, e.query_y)
    assert not torch.allclose(outputs(c, model, parameters, turned), plain)
    back = Episodes(e.support_x, e.support_y, e.query_x.flip(1), e.query_y.flip(1))
    torch.testing.assert_close(outputs(c, model, parameters, back), plain.flip(1))


@pytest.mark.parametrize("name", NAMES)
def test_query_labels_are_not_looked_at(name: str) -> None:
    """Not in the test, and in training only by the loss: nonsense there changes no prediction."""
    c, model, parameters = short(name)
    e = episodes()
    scrambled = Episodes(e.support_x, e.support_y, e.query_x, torch.full_like(e.query_y, -7))
    assert torch.equal(outputs(c, model, parameters, scrambled), outputs(c, model, parameters, e))


@pytest.mark.parametrize("name", NAMES)
def test_the_support_set_is_what_teaches(name: str) -> None:
    """Another support set gives other outputs: no method answers without it."""
    c, model, parameters = short(name)
    e = episodes()
    other = Episodes(e.support_x.roll(1, 0), e.support_y, e.query_x, e.query_y)
    assert not torch.allclose(outputs(c, model, parameters, other), outputs(c, model, parameters, e))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(name: str) -> None:
    """Three outer steps from one seed: equal to the last bit, whatever the global generator does; another differs."""
    c, _, first = short(name)
    torch.manual_seed(99)
    again = trained(c, 3)[1]
    assert list(first) == list(again)
    assert all(torch.equal(first[n], again[n]) for n in first)
    other = trained(replace(c, seed=1), 3)[1]
    assert not torch.equal(first["hidden1.linear.weight"], other["hidden1.linear.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_training_moves_all_that_is_used(name: str) -> None:
    """And leaves the head alone where the support set's features classify in training."""
    _, _, after = short(name)
    unused = ("head", "rate:head") if name in ("nil", "proto", "matching", "proto-maml") else ()
    for n, w in trained(config(name), 0)[1].items():
        assert torch.equal(w, after[n]) == n.startswith(unused), n


@pytest.mark.parametrize("name", NAMES)
def test_senseless_episodes_are_refused(name: str) -> None:
    """A negative label, and fewer images than labels."""
    c, model, parameters = short(name)
    e = episodes()
    bad = Episodes(e.support_x, e.support_y - 1, e.query_x, e.query_y, torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises((InnerloopError, RuntimeError), match=r"-1 to 1|must be non-negative"):
        outputs(c, model, parameters, bad)
    with pytest.raises(InnerloopError, match=r"support_x.*support_y"):
        Episodes(e.support_x[:, :-1], e.support_y, e.query_x, e.query_y)
