"""The head's share of the squared support gradient, against its closed form."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.analysis import head_share
from innerloop.core.episodes import Episodes
from innerloop.core.functional import slow_weights
from innerloop.core.random import generator_for
from planting import plants

WAY, POINTS, INPUTS, FEATURES, TASKS = 3, 6, 4, 5, 4


def linear_net(scale: float = 1.0) -> nn.Sequential:
    """z = W B x, in float64."""
    g = generator_for(0, "share")
    body, head = nn.Linear(INPUTS, FEATURES, bias=False), nn.Linear(FEATURES, WAY, bias=False)
    with torch.no_grad():
        body.weight.copy_(torch.randn(FEATURES, INPUTS, generator=g))
        head.weight.copy_(scale * torch.randn(WAY, FEATURES, generator=g))
    return nn.Sequential(OrderedDict(body=body, head=head)).double()


def episodes() -> Episodes:
    g = generator_for(1, "share")
    x = torch.randn(TASKS, POINTS, INPUTS, generator=g, dtype=torch.float64)
    y = torch.arange(WAY).repeat(POINTS // WAY).expand(TASKS, -1)
    return Episodes(x, y, x, y)


def by_hand(model: nn.Sequential, e: Episodes) -> np.ndarray:
    """‖G_W‖² / (‖G_W‖² + ‖G_B‖²) with G_W = 1/n Σ (p − y) fᵀ and G_B = 1/n Σ Wᵀ (p − y) xᵀ."""
    b, w = (p.detach().numpy() for p in model.parameters())
    found = []
    for x, y in zip(e.support_x.numpy(), e.support_y.numpy(), strict=True):
        f = x @ b.T
        z = np.exp(f @ w.T)
        error = z / z.sum(1, keepdims=True) - np.eye(WAY)[y]
        head, body = error.T @ f / len(x), (error @ w).T @ x / len(x)
        found.append((head**2).sum() / ((head**2).sum() + (body**2).sum()))
    return np.array(found)


def without_body(right):
    return lambda *args, **more: type(right(*args, **more))(1.0, 0.0, TASKS)


@plants("the head's gradient alone", "innerloop.analysis.share:head_share", without_body)
@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_is_that_of_the_closed_form(chunk: int | None) -> None:
    model, e = linear_net(), episodes()
    found, hand = head_share(model, slow_weights(model), [e], task_chunk=chunk), by_hand(model, e)
    assert found.mean == pytest.approx(hand.mean(), rel=1e-12)
    assert found.ci95 == pytest.approx(1.96 * hand.std(ddof=1) / np.sqrt(TASKS), rel=1e-9)
    assert 0.1 < found.mean < 0.9


def test_goes_to_one_as_the_head_gets_small() -> None:
    """A head ε times as large: the body's part falls as ε²; with zeros nothing is left of it."""
    rest = [1 - head_share(m, slow_weights(m), [episodes()]).mean for m in map(linear_net, (1e-2, 1e-3, 0.0))]
    assert rest[0] / rest[1] == pytest.approx(100, rel=0.1)
    assert rest[2] == 0
