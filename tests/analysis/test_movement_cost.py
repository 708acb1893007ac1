"""The cosine between tasks' updates, and what each method's step computes while it is timed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.analysis import movement, step_costs
from innerloop.analysis.cost import step_work
from innerloop.core.episodes import Episodes, ImageTasks
from innerloop.core.functional import batch_statistics, block_names, block_of, forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import cross_entropy
from innerloop.core.random import generator_for
from innerloop.models import conv4, mlp
from planting import plants
from tiny import blobs

FAMILY = ImageTasks(blobs().split("test"), 3, 1, 3)
INNER = InnerLoop(lr=0.4, steps=2)


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return conv4(3, image_size=16, filters=4, generator=generator_for(0, "net"))


def batch(tasks: int) -> Episodes:
    return FAMILY.sample(tasks, generator_for(0, "t"))


def updates(model: nn.Sequential, e: Episodes) -> dict[str, np.ndarray]:
    """Each block's update of each task as one vector, one task after the other."""
    slow = {n: p.detach() for n, p in slow_weights(model).items()}
    rows: dict[str, list[np.ndarray]] = {b: [] for b in block_names(model)}
    for i in range(len(e)):
        with torch.no_grad():
            fast = adapt(model, slow, e.support_x[i : i + 1], e.support_y[i : i + 1], INNER)
        for b, seen in rows.items():
            seen.append(np.concatenate([(w[0] - slow[n]).flatten() for n, w in fast.items() if block_of(n) == b]))
    return {b: np.stack(seen).astype(np.float64) for b, seen in rows.items()}


@plants(
    "cosine without the lengths",
    "analysis.movement:_cosine",
    lambda right: lambda distance, products: right(torch.ones_like(distance), products),
)
@pytest.mark.parametrize(("parts", "chunk"), [((7,), None), ((7,), 1), ((7,), 3), ((3, 4), 2), ((1, 5, 1), None)])
def test_cosine_of_updates_equals_a_loop(model, parts, chunk) -> None:
    """Pairs (0, 1), (2, 3), (4, 5), however the episodes come; the seventh has no partner."""
    e, batches, start = batch(7), [], 0
    for n in parts:
        batches.append(e[start : start + n])
        start += n
    found = movement(model, slow_weights(model), batches, INNER, task_chunk=chunk)
    for m, rows in zip(found, updates(model, e).values(), strict=True):
        pairs = [(rows[i], rows[i + 1]) for i in (0, 2, 4)]
        expected = np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])
        assert m.cosine is not None
        assert m.cosine.episodes == 3
        assert m.cosine.mean == pytest.approx(expected.mean(), abs=1e-4)
        assert m.cosine.ci95 == pytest.approx(1.96 * expected.std(ddof=1) / np.sqrt(3), abs=1e-4)
        assert m.distance.episodes == 7
        assert m.distance.mean == pytest.approx(np.linalg.norm(rows, axis=1).mean(), rel=1e-4)


def test_cosine_of_the_same_task_is_one_and_of_no_update_nothing(model) -> None:
    one = batch(1)
    found = movement(model, slow_weights(model), [one] * 4, replace(INNER, blocks="head"))
    assert [m.cosine is None for m in found] == [True] * 4 + [False]
    assert found[-1].cosine is not None
    assert found[-1].cosine.mean == pytest.approx(1.0)
    assert all(m.cosine is None for m in movement(model, slow_weights(model), [batch(3)], INNER))  # one pair only
    assert all(m.cosine is None for m in movement(model, slow_weights(model), [batch(4)], replace(INNER, lr=0.0)))


def test_a_task_that_does_not_move_is_in_no_cosine() -> None:
    net = mlp(256, 3, hidden=(4,), generator=generator_for(0, "mlp"))
    e = batch(8)
    x = e.support_x.clone()
    x[2] = 0.0  # no input and no bias: the first layer's weights get no gradient
    slow = {n: p.detach() * (0.0 if n.endswith("bias") else 1.0) for n, p in slow_weights(net).items()}
    found = movement(net, slow, [replace(e, support_x=x)], replace(INNER, blocks=("hidden1",), steps=1))
    assert found[0].cosine is not None
    assert found[0].cosine.episodes in (3, 4)
    assert np.isfinite(found[0].cosine.mean)


# ── cost


def test_cost_names_what_it_timed(model) -> None:
    training, inference = step_costs(
        model, slow_weights(model), batch(2), batch(1), INNER, test_steps=3, repeats=1, warm_up=0, task_chunk=1
    )
    assert list(training.milliseconds) == ["maml", "fomaml", "anil"]
    assert list(inference.milliseconds) == ["maml", "anil", "nil"]
    assert training.repeats == inference.repeats == 1
    assert all(p.grad is None for p in model.parameters())


def test_the_training_steps_are_those_of_the_methods(model) -> None:
    """Gradients by hand, through the unrolled loop of each task on its own."""
    slow, e = slow_weights(model), batch(2)
    plain = {n: p.detach() for n, p in slow.items()}  # weights need not ask for gradients
    training, _ = step_work(model, plain, e, batch(1), replace(INNER, first_order=True), test_steps=3)
    found = {name: work() for name, work in training.items()}
    for name, (blocks, order) in {"maml": ("all", False), "fomaml": ("all", True), "anil": ("head", False)}.items():
        inner = replace(INNER, blocks=blocks, first_order=order)
        fast = adapt(model, slow, e.support_x, e.support_y, inner)
        value = cross_entropy(forward(model, slow, fast, e.query_x), e.query_y).mean()
        expected = dict(zip(slow, torch.autograd.grad(value, list(slow.values())), strict=True))
        for n, g in expected.items():
            torch.testing.assert_close(found[name][n], g, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found["maml"]["conv1.conv.weight"], found["fomaml"]["conv1.conv.weight"], rtol=1e-3)


@pytest.mark.parametrize("statistics", ["batch", "support"])
def test_inference_with_features_kept_equals_the_full_pass(model, statistics) -> None:
    """ANIL's outputs are those of a loop that runs the whole net in each step, and its body runs twice only."""
    slow, e = {n: p.detach() for n, p in slow_weights(model).items()}, batch(1)
    calls: list[str] = []
    hooks = [m.register_forward_hook(lambda *_, n=n: calls.append(n)) for n, m in model.named_children()]
    _, inference = step_work(model, slow, batch(2), e, INNER, test_steps=4, statistics=statistics)
    found = {}
    for name, work in inference.items():
        calls.clear()
        found[name] = work()
        assert not found[name].requires_grad
        own = statistics == "support"  # a pass of the support set for its statistics
        expected = {"maml": (5 + own, 5), "anil": (2 + own, 5), "nil": (2 + own, 0)}[name]
        assert (calls.count("conv1"), calls.count("head")) == expected, name
    for hook in hooks:
        hook.remove()
    for name, moved in (("maml", "conv"), ("anil", "head")):
        weights = dict(slow)
        for _ in range(4):
            leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
            value = cross_entropy(forward(model, leaves, {}, e.support_x), e.support_y).sum()
            grads = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))
            adapts = [n for n in weights if ".norm." not in n and n.startswith(("head", moved))]
            weights |= {n: weights[n] - INNER.lr * grads[n] for n in adapts}
        of = batch_statistics(model, weights, {}, e.support_x) if statistics == "support" else None
        full = forward(model, weights, {}, e.query_x, statistics=of)
        torch.testing.assert_close(found[name], full.detach(), rtol=1e-3, atol=1e-5)
    assert not torch.allclose(found["maml"], found["anil"], atol=1e-3)
