"""Gaussian policies against torch's own distributions."""

from collections import OrderedDict

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from innerloop.core.functional import block_names, forward, slow_weights
from innerloop.core.random import generator_for
from innerloop.rl.policy import (
    LOWEST_LOG_STD,
    Activation,
    acting,
    divergence,
    fisher_product,
    gaussian_policy,
    log_probability,
)
from planting import plants


def outputs(n: int = 5, action: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator_for(0, "outputs")
    return tuple(torch.randn(n, 2 * action, generator=g, dtype=torch.float64) * 0.5 for _ in range(2))  # pyright: ignore


def normal(output: torch.Tensor) -> Independent:
    mean, log_std = output.chunk(2, -1)
    return Independent(Normal(mean, log_std.exp()), 1)


@plants(
    "KL of two policies the other way round", "rl.policy:divergence", lambda right: lambda old, new: right(new, old)
)
def test_probability_and_divergence_sum_over_the_coordinates() -> None:
    """A mean over them would make the trust region and the inner gradient depend on the size of the action."""
    old, new = outputs()
    a = torch.randn(5, 3, generator=generator_for(0, "actions"), dtype=torch.float64)
    assert torch.allclose(log_probability(old, a), normal(old).log_prob(a))
    assert torch.allclose(divergence(old, new), kl_divergence(normal(old), normal(new)))
    assert torch.allclose(divergence(old, old), torch.zeros(5, dtype=torch.float64))


@plants(
    "Fisher information without that of the variance",
    "rl.policy:fisher_product",
    lambda right: (
        lambda out, v: right(out, v) * torch.cat([torch.ones(v.shape[-1] // 2), torch.zeros(v.shape[-1] // 2)])
    ),
)
def test_fisher_is_the_hessian_of_the_divergence() -> None:
    old, v = outputs(1)
    hessian = torch.autograd.functional.hessian(lambda x: divergence(old[0], x), old[0])
    assert isinstance(hessian, torch.Tensor)
    assert torch.allclose(fisher_product(old[0], v[0]), hessian @ v[0])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_blocks_and_state_independent_log_std(activation: str) -> None:
    policy = gaussian_policy(
        4,
        2,
        hidden=(6, 5),
        activation="relu" if activation == "relu" else "tanh",
        log_std=-0.5,
        generator=generator_for(0),
    )
    assert block_names(policy) == ("hidden1", "hidden2", "head")
    assert sum(p.numel() for p in policy.parameters()) == 4 * 6 + 6 + 6 * 5 + 5 + 5 * 2 + 2 + 2
    out = policy(torch.randn(7, 4, generator=generator_for(1)))
    assert torch.equal(out[:, 2:], torch.full((7, 2), -0.5))
    x = torch.randn(7, 4, generator=generator_for(1))
    w = dict(policy.named_parameters())
    f = torch.relu if activation == "relu" else torch.tanh
    h = f(f(x @ w["hidden1.weight"].T + w["hidden1.bias"]) @ w["hidden2.weight"].T + w["hidden2.bias"])
    assert torch.allclose(out[:, :2], h @ w["head.weight"].T + w["head.bias"], atol=1e-6)


def test_log_std_has_a_floor() -> None:
    policy = gaussian_policy(2, 1, log_std=-99.0, generator=generator_for(0))
    assert float(policy(torch.zeros(1, 2)).detach()[0, 1]) == pytest.approx(LOWEST_LOG_STD)


def test_the_generator_decides_the_weights() -> None:
    one, same, other = (gaussian_policy(2, 2, generator=generator_for(s, "init")) for s in (0, 0, 1))
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c)


@plants(
    "acting policies are not adapted",
    "rl.policy:acting",
    lambda right: lambda policy, slow, fast: right(policy, slow, {}),
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    "adapted",
    [
        (),
        ("hidden1", "hidden2", "head"),
        ("head",),
        ("hidden1",),
        ("hidden2.weight",),
        ("hidden1.bias", "head.bias"),
        ("head.log_std",),
    ],
)
def test_acting_is_forward(activation: Activation, adapted: tuple[str, ...]) -> None:
    """The shortcut for sampling, with each kind of weights once common to all tasks and once each task's own."""
    policy = gaussian_policy(3, 2, hidden=(6, 5), activation=activation, generator=generator_for(0)).double()
    g = generator_for(1)
    slow = {k: v.detach() + 0.3 * torch.randn(v.shape, generator=g) for k, v in slow_weights(policy).items()}
    fast = {
        k: v + torch.randn(4, *v.shape, generator=g, dtype=v.dtype)
        for k, v in slow.items()
        if k.startswith(adapted or "none")
    }
    assert bool(fast) == bool(adapted)
    x = torch.randn(4, 7, 3, generator=g, dtype=torch.float64)
    kept = x.clone()
    act = acting(policy, slow, fast)
    wanted = forward(policy, slow, fast, x)
    for _ in range(2):  # a buffer written to in the first call would be seen in the second
        assert torch.allclose(act(x), wanted, rtol=1e-12)
    assert torch.equal(x, kept)
    assert not act(x).requires_grad


def test_acting_keeps_the_floor_of_log_std() -> None:
    policy = gaussian_policy(2, 1, log_std=-99.0, generator=generator_for(0))
    assert float(acting(policy, slow_weights(policy), {})(torch.zeros(1, 1, 2))[0, 0, 1]) == pytest.approx(
        LOWEST_LOG_STD
    )


def test_a_policy_of_ones_own_acts_through_forward() -> None:
    """Only the exact layers may take the shortcut: a subclass may do anything in its forward pass."""

    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x @ self.weight

    blocks: OrderedDict[str, torch.nn.Module] = OrderedDict(hidden1=Doubled())
    blocks.update(gaussian_policy(2, 1, hidden=()).named_children())
    policy = torch.nn.Sequential(blocks)
    slow = slow_weights(policy)
    x = torch.randn(3, 5, 2, generator=generator_for(0))
    assert torch.equal(acting(policy, slow, {})(x), forward(policy, slow, {}, x))
