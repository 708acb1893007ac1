"""The outer step by Adam on the clipped surrogate, against the same written out for one task after the other."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from innerloop.core.random import generator_for
from innerloop.rl.ppo import Ppo, proximal_step
from innerloop.rl.trpo import Learner, MetaBatch, clipped_loss, mean_divergence, ratio_loss
from naming import names
from navigating import learner, meta_batch
from planting import plants

RATE = 0.03


def density(mean: float, log_std: float, action: float) -> float:
    """Logarithm of the normal density."""
    return -0.5 * ((action - mean) / math.exp(log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)


@plants("PPO without a bound", "rl.trpo:clipped_loss", lambda right: lambda clip: right(1e9))
def test_the_clipped_loss_equals_a_loop() -> None:
    """With ratios on both sides of both bounds, gains of both signs, and steps behind an end."""
    g = generator_for(0, "clip")
    output = torch.randn(2, 40, 2, generator=g, dtype=torch.float64) * 0.4
    action = torch.randn(2, 40, generator=g, dtype=torch.float64)
    old = torch.tensor([[density(0.0, 0.0, float(a)) for a in row] for row in action], dtype=torch.float64)
    gain = torch.randn(2, 40, generator=g, dtype=torch.float64)
    alive = (torch.rand(2, 40, generator=g, dtype=torch.float64) < 0.8).double()
    found = clipped_loss(0.2)(output, torch.stack([action, old, gain, alive], -1))
    kinds = set()
    for b in range(2):
        total = count = 0.0
        for i in range(40):
            if not alive[b, i]:
                continue
            mean, log_std = (float(v) for v in output[b, i])
            ratio = math.exp(density(mean, log_std, float(action[b, i])) - float(old[b, i]))
            a = float(gain[b, i])
            if a > 0:
                total += min(ratio, 1.2) * a
            else:
                total += max(ratio, 0.8) * a
            kinds.add((a > 0, ratio < 0.8, ratio > 1.2))
            count += 1
        assert float(found[b]) == pytest.approx(-total / count, rel=1e-12)
    assert len(kinds) == 6


def written_out(of: Learner, start: Mapping[str, Tensor], data: MetaBatch, settings: Ppo) -> dict[str, Tensor]:
    """Adam by its formulas on the mean over tasks of the clipped loss, the inner step by its own derivative."""
    weights = {n: p.detach().clone() for n, p in start.items()}
    first = {n: torch.zeros_like(p) for n, p in weights.items()}
    second = {n: torch.zeros_like(p) for n, p in weights.items()}
    loss = clipped_loss(settings.clip)
    tasks = len(data.query.x)
    for k in range(1, settings.epochs + 1):
        leaves = {n: p.clone().requires_grad_() for n, p in weights.items()}
        names = [n for n in leaves if of.inner.blocks == "all" or n.startswith("head.")]
        total = torch.zeros((), dtype=torch.float64)
        for b in range(tasks):
            fast = leaves
            for support in data.support:
                out = torch.func.functional_call(of.policy, fast, (support.x[b],))
                inner = ratio_loss(out[None], support.y[b : b + 1])[0]
                slopes = torch.autograd.grad(inner, [fast[n] for n in names], create_graph=True)
                fast = {**fast, **{n: fast[n] - of.inner.lr * s for n, s in zip(names, slopes, strict=True)}}
            out = torch.func.functional_call(of.policy, fast, (data.query.x[b],))
            total = total + loss(out[None], data.query.y[b : b + 1])[0] / tasks
        for (n, p), slope in zip(leaves.items(), torch.autograd.grad(total, list(leaves.values())), strict=True):
            first[n] = 0.9 * first[n] + 0.1 * slope
            second[n] = 0.999 * second[n] + 0.001 * slope.square()
            way = (first[n] / (1 - 0.9**k)) / ((second[n] / (1 - 0.999**k)).sqrt() + 1e-8)
            weights[n] = p.detach() - settings.lr * way
    return weights


@pytest.mark.parametrize(("blocks", "steps", "chunk"), [("all", 1, 0), ("head", 1, 2), ("all", 2, 1)])
def test_the_step_equals_the_same_written_out(blocks: str, steps: int, chunk: int) -> None:
    """Catches: no clipping, the inner step of the old weights kept, tasks summed, ascent, a chunk counted twice."""
    of = learner(blocks, steps=steps)
    slow, data = meta_batch(of)
    before = {n: p.detach().clone() for n, p in slow.items()}
    settings = Ppo(lr=RATE, epochs=4, clip=0.05)
    expected = written_out(of, before, data, settings)
    optimizer = torch.optim.Adam(slow.values(), lr=settings.lr, foreach=False)
    got = proximal_step(of, slow, data, settings, optimizer, chunk=chunk)
    for n, p in slow.items():
        assert torch.allclose(p.detach(), expected[n], atol=1e-10), n
        assert p.grad is None
    unclipped = written_out(of, before, data, Ppo(lr=RATE, epochs=4, clip=1e9))
    assert max(float((unclipped[n] - expected[n]).abs().max()) for n in expected) > 1e-4  # so the bound did count
    out = of.output(slow, data.support, data.query.x).detach()
    assert got.kl == pytest.approx(float(mean_divergence(out, data.query).mean()), rel=1e-9)
    assert got.loss_after == pytest.approx(float(ratio_loss(out, data.query.y).mean()), rel=1e-9)
    old = of.output(before, data.support, data.query.x).detach()
    assert got.loss_before == pytest.approx(float(ratio_loss(old, data.query.y).mean()), abs=1e-12)
    assert (got.accepted, got.tries) == (True, 4)


def test_what_is_not_finite_is_said() -> None:
    of = learner()
    slow, data = meta_batch(of)
    with torch.no_grad():
        slow["head.bias"].fill_(math.nan)
    with pytest.raises(FloatingPointError, match=names("nan", "--inner.lr", "--ppo.lr")):
        proximal_step(of, slow, data, Ppo(), torch.optim.Adam(slow.values()))


def test_a_step_too_far_is_said() -> None:
    of = learner()
    slow, data = meta_batch(of)
    with pytest.raises(FloatingPointError, match=names("PPO", "inf", "--ppo.lr")):
        proximal_step(of, slow, data, Ppo(epochs=1), torch.optim.Adam(slow.values(), lr=1e200))


@plants(
    "PPO walks uphill", "rl.ppo:surrogate_gradient", lambda right: lambda *given: (right(*given)[0], -right(*given)[1])
)
def test_one_epoch_is_a_step_down_the_gradient_of_the_adapted_policies() -> None:
    """Adam's first step moves each weight by the rate against the sign of its slope."""
    of = learner()
    slow, data = meta_batch(of)
    before = {n: p.detach().clone() for n, p in slow.items()}
    loss = ratio_loss(of.output(slow, data.support, data.query.x), data.query.y).mean()
    slopes = torch.autograd.grad(loss, list(slow.values()))
    proximal_step(of, slow, data, Ppo(lr=1e-3, epochs=1), torch.optim.Adam(slow.values(), lr=1e-3))
    for (n, p), slope in zip(slow.items(), slopes, strict=True):
        clear = slope.abs() > 1e-4
        moved = (p.detach() - before[n])[clear]
        assert torch.allclose(moved, -1e-3 * slope[clear].sign(), rtol=2e-4), n
