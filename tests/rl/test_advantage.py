"""Baseline and advantages against loops over single steps, with trajectories that end early."""

import numpy as np
import pytest
import torch

from innerloop.core.random import generator_for
from innerloop.rl.sampling import (
    Trajectories,
    advantages,
    discounted,
    generalised_advantages,
    linear_baseline,
    normalised,
)
from naming import names
from planting import plants

GAMMA, LAM = 0.9, 0.7
ENDS = ((5, 7), (1, 4), (7, 7))
"""how long each trajectory of each task is"""


def made(time: int = 7, scale: float = 1.0) -> Trajectories:
    g = generator_for(0, "advantage")
    shape = (len(ENDS), len(ENDS[0]), time)
    alive = torch.arange(time) < torch.tensor(ENDS)[..., None]
    rewards = torch.randn(*shape, generator=g, dtype=torch.float64)
    return Trajectories(
        torch.randn(*shape, 3, generator=g, dtype=torch.float64) * scale,
        torch.randn(*shape, 2, generator=g, dtype=torch.float64),
        torch.where(alive, rewards, 0.0),
        alive,
    )


@plants(
    "reward of the next step",
    "rl.sampling:discounted",
    lambda right: lambda rewards, gamma: right(rewards, gamma).roll(-1, -1),
)
def test_discounted_sums() -> None:
    assert torch.equal(discounted(torch.tensor([[1.0, 2.0, 4.0]]), 0.5), torch.tensor([[3.0, 4.0, 4.0]]))


def test_advantages_equal_a_loop_with_early_ends() -> None:
    data = made()
    g = generator_for(0, "values")
    values = torch.randn(*data.rewards.shape, generator=g, dtype=torch.float64)  # behind an end, too: must not matter
    found = generalised_advantages(data.rewards, values, data.alive, GAMMA, LAM)
    for k, row in enumerate(ENDS):
        for n, length in enumerate(row):
            for t in range(data.rewards.shape[-1]):
                expected = 0.0
                for s in range(t, length):
                    after = values[k, n, s + 1] if s + 1 < length else 0.0
                    delta = data.rewards[k, n, s] + GAMMA * after - values[k, n, s]
                    expected += (GAMMA * LAM) ** (s - t) * delta
                assert float(found[k, n, t]) == pytest.approx(float(expected), abs=1e-12)


@plants(
    "λ left out",
    "rl.sampling:generalised_advantages",
    lambda right: lambda rewards, values, alive, gamma, lam: right(rewards, values, alive, gamma, 1.0),
)
def test_lambda_one_is_return_minus_value_and_zero_the_temporal_difference() -> None:
    data = made()
    v = torch.ones_like(data.rewards)
    one = generalised_advantages(data.rewards, v, data.alive, GAMMA, 1.0)
    assert torch.allclose(one, (discounted(data.rewards, GAMMA) - v) * data.alive)
    zero = generalised_advantages(data.rewards, v, data.alive, GAMMA, 0.0)
    assert float(zero[0, 0, 4]) == pytest.approx(float(data.rewards[0, 0, 4]) - 1)  # its last step
    assert float(zero[0, 0, 3]) == pytest.approx(float(data.rewards[0, 0, 3]) - 1 + GAMMA)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_baseline_equals_least_squares_on_the_living_steps_of_each_task(scale: float) -> None:
    """Catches padding in the fit, a fit shared by tasks, features that are not cut."""
    data = made(scale=scale)
    found = linear_baseline(data, GAMMA, ridge=1e-3)
    for k, row in enumerate(ENDS):
        x, y, at = [], [], []
        for n, length in enumerate(row):
            for t in range(length):
                o = np.clip(data.observations[k, n, t].numpy(), -10, 10)
                s = t / 100
                x.append(np.concatenate([o, o**2, [s, s**2, s**3, 1.0]]))
                y.append(sum(GAMMA ** (i - t) * float(data.rewards[k, n, i]) for i in range(t, length)))
                at.append((n, t))
        a = np.stack(x)
        # the ridge as so many more examples: another way than the normal equations
        long = np.concatenate([a, np.sqrt(1e-3) * np.eye(a.shape[1])])
        w = np.linalg.lstsq(long, np.concatenate([y, np.zeros(a.shape[1])]), rcond=None)[0]
        for (n, t), value in zip(at, a @ w, strict=True):
            assert float(found[k, n, t]) == pytest.approx(value, rel=1e-6, abs=1e-8)
    assert torch.equal(found != 0, data.alive)


def test_a_singular_fit_is_helped_by_the_ridge() -> None:
    data = made()
    same = Trajectories(torch.zeros_like(data.observations), data.actions, data.rewards, data.alive)
    assert bool(linear_baseline(same, GAMMA).isfinite().all())
    bad = Trajectories(data.observations, data.actions, data.rewards * float("nan"), data.alive)
    with pytest.raises(FloatingPointError, match=names("--inner.lr", "--later-lr", "--ppo.lr", "--policy.log-std")):
        linear_baseline(bad, GAMMA)


@plants(
    "advantages scaled over all tasks",
    "rl.sampling:normalised",
    lambda right: lambda a, alive: right(a.flatten(0, 1)[None], alive.flatten(0, 1)[None])[0].view_as(a),
)
def test_normalised_over_the_living_steps_of_each_task() -> None:
    data = made()
    a = torch.where(data.alive, data.rewards * 5 + 3, 0.0)
    found = normalised(a, data.alive)
    for k in range(len(ENDS)):
        living = found[k][data.alive[k]]
        assert float(living.mean()) == pytest.approx(0, abs=1e-9)
        assert float(living.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert not bool(found[~data.alive].any())


def test_float32_rewards_are_judged_in_float64() -> None:
    data = made()
    single = Trajectories(data.observations.float(), data.actions.float(), data.rewards.float(), data.alive)
    assert advantages(single, GAMMA, LAM).dtype == torch.float64
