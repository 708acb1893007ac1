"""Gaussian policies against torch's own distributions."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from innerloop.core.functional import block_names
from innerloop.core.random import stream
from innerloop.rl.policy import LOWEST_LOG_STD, divergence, fisher_product, gaussian_policy, log_probability


def outputs(n: int = 5, action: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = stream(0, "outputs")
    return tuple(torch.randn(n, 2 * action, generator=g, dtype=torch.float64) * 0.5 for _ in range(2))  # pyright: ignore


def normal(output: torch.Tensor) -> Independent:
    mean, log_std = output.chunk(2, -1)
    return Independent(Normal(mean, log_std.exp()), 1)


def test_probability_and_divergence_sum_over_the_coordinates() -> None:
    """A mean over them would make the trust region and the inner gradient depend on the size of the action."""
    old, new = outputs()
    a = torch.randn(5, 3, generator=stream(0, "actions"), dtype=torch.float64)
    assert torch.allclose(log_probability(old, a), normal(old).log_prob(a))
    assert torch.allclose(divergence(old, new), kl_divergence(normal(old), normal(new)))
    assert torch.allclose(divergence(old, old), torch.zeros(5, dtype=torch.float64))


def test_fisher_is_the_hessian_of_the_divergence() -> None:
    old, v = outputs(1)
    hessian = torch.autograd.functional.hessian(lambda x: divergence(old[0], x), old[0])
    assert isinstance(hessian, torch.Tensor)
    assert torch.allclose(fisher_product(old[0], v[0]), hessian @ v[0])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_blocks_and_state_independent_log_std(activation: str) -> None:
    policy = gaussian_policy(
        4, 2, hidden=(6, 5), activation="relu" if activation == "relu" else "tanh", log_std=-0.5, generator=stream(0)
    )
    assert block_names(policy) == ("hidden1", "hidden2", "head")
    assert sum(p.numel() for p in policy.parameters()) == 4 * 6 + 6 + 6 * 5 + 5 + 5 * 2 + 2 + 2
    out = policy(torch.randn(7, 4, generator=stream(1)))
    assert torch.equal(out[:, 2:], torch.full((7, 2), -0.5))
    x = torch.randn(7, 4, generator=stream(1))
    w = dict(policy.named_parameters())
    f = torch.relu if activation == "relu" else torch.tanh
    h = f(f(x @ w["hidden1.weight"].T + w["hidden1.bias"]) @ w["hidden2.weight"].T + w["hidden2.bias"])
    assert torch.allclose(out[:, :2], h @ w["head.weight"].T + w["head.bias"], atol=1e-6)


def test_log_std_has_a_floor() -> None:
    policy = gaussian_policy(2, 1, log_std=-99.0, generator=stream(0))
    assert float(policy(torch.zeros(1, 2)).detach()[0, 1]) == pytest.approx(LOWEST_LOG_STD)


def test_the_generator_decides_the_weights() -> None:
    one, same, other = (gaussian_policy(2, 2, generator=stream(s, "init")) for s in (0, 0, 1))
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c)
