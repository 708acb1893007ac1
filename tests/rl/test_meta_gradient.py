"""The meta-gradient on a small decision problem whose expectations are integrals, computed exactly, in float64.

Three states, one action of one coordinate, one step; the reward depends on state, action and task. All expectations
over actions are trapezoidal sums over a fine grid, which for a Gaussian are exact to rounding.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from innerloop.core.functional import forward, slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.random import generator_for
from innerloop.rl.policy import GaussianHead, gaussian_policy, log_probability
from innerloop.rl.trpo import Batch, Form, Learner, MetaBatch, inner_loss, log_probability_loss, surrogate_gradient
from planting import plants

STATES = torch.tensor([[-1.0, 0.3], [0.2, 1.1], [0.9, -0.6]], dtype=torch.float64)
GRID = torch.linspace(-14, 14, 1501, dtype=torch.float64)
CELL = float(GRID[1] - GRID[0])
TASKS = torch.tensor([-0.8, 0.5, 1.4], dtype=torch.float64)
RATE = 0.4
DOCS = Path(__file__).parents[2] / "docs" / "rl.md"


def reward(task: Tensor) -> Tensor:
    """[states, grid]"""
    return torch.cos(GRID[None] - task * (1 + STATES[:, :1])) - 0.05 * (GRID[None] - task).square()


def policy() -> torch.nn.Sequential:
    found = gaussian_policy(2, 1, hidden=(4, 3), activation="tanh", generator=generator_for(3, "init")).double()
    head = found[-1]
    assert isinstance(head, GaussianHead)
    torch.nn.init.constant_(head.log_std, -0.3)
    return found


def expected(model: torch.nn.Sequential, weights: Mapping[str, Tensor], task: Tensor) -> Tensor:
    """The expected reward under the policy with these weights, by the integral."""
    out = torch.func.functional_call(model, dict(weights), (STATES,))
    mean, log_std = out[:, :1], out[:, 1:]
    density = torch.exp(-0.5 * ((GRID[None] - mean) / log_std.exp()).square() - log_std) / (2 * torch.pi) ** 0.5
    return (density * reward(task)).sum(1).mean() * CELL


def adapted(
    model: torch.nn.Sequential, weights: Mapping[str, Tensor], task: Tensor, names: list[str]
) -> dict[str, Tensor]:
    """One step of gradient ascent on the expected reward, written out."""
    leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
    grads = torch.autograd.grad(expected(model, leaves, task), [leaves[n] for n in names])
    return {**weights, **{n: weights[n].detach() + RATE * g for n, g in zip(names, grads, strict=True)}}


def drawn(model: torch.nn.Sequential, slow: Mapping[str, Tensor], fast: Mapping[str, Tensor]) -> Batch:
    """'Trajectories' of the whole grid, each action weighted by its probability."""
    x = STATES.repeat_interleave(len(GRID), 0).expand(len(TASKS), -1, -1)
    with torch.no_grad():
        old = forward(model, slow, fast, x)
    a = GRID.repeat(len(STATES)).expand(len(TASKS), -1)[..., None]
    r = torch.stack([reward(t).flatten() for t in TASKS])
    log_p = log_probability(old, a)
    return Batch(x, torch.cat([a, log_p[..., None], r[..., None], (log_p.exp() * CELL)[..., None]], -1), old)


def meta_gradients(blocks: str, form: Form) -> tuple[Tensor, Tensor]:
    """innerloop's, and that by central differences of the expected reward after adaptation."""
    model = policy()
    slow = slow_weights(model)
    inner = InnerLoop(blocks="all" if blocks == "all" else "head", steps=1, lr=RATE)
    learner = Learner(model, inner, inner_loss(form))
    support = drawn(model, slow, {})
    with torch.no_grad():
        fast = learner.adapt(slow, [support])
    value, found = surrogate_gradient(learner, slow, MetaBatch([support], drawn(model, slow, fast)))

    names = list(fast)
    flat = torch.cat([p.detach().flatten() for p in slow.values()])

    def objective(v: Tensor) -> float:
        weights, start = {}, 0
        for n, p in slow.items():
            weights[n] = v[start : start + p.numel()].view(p.shape)
            start += p.numel()
        return -sum(float(expected(model, adapted(model, weights, t, names), t)) for t in TASKS) / len(TASKS)

    if form == "ratio":
        assert value == pytest.approx(objective(flat), abs=1e-11)
    h = 1e-5
    eye = torch.eye(len(flat), dtype=torch.float64)
    slopes = [(objective(flat + h * e) - objective(flat - h * e)) / (2 * h) for e in eye]
    return found, torch.tensor(slopes, dtype=torch.float64)


@plants("log-probability for ratio", "rl.trpo:ratio_loss", lambda right: log_probability_loss)
@pytest.mark.parametrize("blocks", ["all", "head"], ids=["maml", "anil"])
def test_equals_finite_differences(blocks: str) -> None:
    found, numeric = meta_gradients(blocks, "ratio")
    assert float((found - numeric).norm() / numeric.norm()) < 1e-8


@pytest.mark.parametrize(("blocks", "error"), [("all", 0.644), ("head", 0.509)], ids=["maml", "anil"])
def test_the_plain_log_probability_form_is_wrong(blocks: str, error: float) -> None:
    """By as much as docs/rl.md says of the form that most public code has; without it the two forms would be one."""
    found, numeric = meta_gradients(blocks, "log_probability")
    assert float((found - numeric).norm() / numeric.norm()) == pytest.approx(error, abs=0.001)
    assert f"{100 * error:.0f} % ({'MAML' if blocks == 'all' else 'ANIL'})" in DOCS.read_text("utf-8")


def test_both_forms_take_the_same_inner_step() -> None:
    model = policy()
    slow = slow_weights(model)
    data = drawn(model, slow, {})
    learner = Learner(model, InnerLoop(steps=1, lr=RATE))
    ratio = learner.adapt(slow, [data])
    plain = replace(learner, loss=inner_loss("log_probability")).adapt(slow, [data])
    names = list(ratio)
    for k, task in enumerate(TASKS):
        own = adapted(model, {n: p.detach() for n, p in slow.items()}, task, names)
        for n in names:
            assert torch.allclose(ratio[n][k], plain[n][k], atol=1e-13)
            assert torch.allclose(ratio[n][k], own[n], atol=1e-11)
