"""A quadratic has a closed form: w_K = c + (I − αA)^K (w₀ − c), and its meta-gradients are products of (I − αA)."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.inner import InnerLoop, adapt, adapt_path
from innerloop.core.outer import meta_gradient
from innerloop.core.random import generator_for
from innerloop.methods.method import predictor
from planting import plants

D, TASKS, STEPS, ALPHA = 4, 3, 3, 0.11


class Point(nn.Module):
    """Its output is its parameter, whatever the input."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(D, generator=generator_for(0, "w"), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), D)


def _positive(name: str) -> Tensor:
    m = torch.randn(D, D, generator=generator_for(0, name), dtype=torch.float64)
    return m @ m.T + torch.eye(D, dtype=torch.float64)


A, B = _positive("A"), _positive("B")
C, TARGET = (torch.randn(TASKS, D, generator=generator_for(0, n), dtype=torch.float64) for n in ("c", "d"))
EYE = torch.eye(D, dtype=torch.float64)


def _loss(matrix: Tensor):
    def loss(prediction: Tensor, y: Tensor) -> Tensor:
        r = (prediction - y)[:, 0]
        return 0.5 * torch.einsum("ti,ij,tj->t", r, matrix, r)

    return loss


def _setting() -> tuple[nn.Sequential, Episodes]:
    nothing = torch.zeros(TASKS, 1, 1, dtype=torch.float64)
    return nn.Sequential(OrderedDict(point=Point())), Episodes(nothing, C[:, None], nothing, TARGET[:, None])


def _path(w: Tensor, rates: Tensor) -> list[Tensor]:
    """w after 0, 1, … steps, a row a task; `rates` [steps, D]."""
    out = [w.expand(TASKS, D)]
    for rate in rates:
        out.append(C + (out[-1] - C) @ (EYE - rate[:, None] * A).T)
    return out


@plants(
    "mean over tasks in the inner loss",
    "core.inner:_support_gradient",
    lambda right: lambda *given, **more: {n: g / TASKS for n, g in right(*given, **more).items()},
)
@plants(
    "one step too few",
    "core.inner:adapt_path",
    lambda right: (
        lambda model, slow, x, y, inner, **more: right(model, slow, x, y, replace(inner, steps=inner.steps - 1), **more)
    ),
)
@plants("step uphill", "core.inner:_rate", lambda right: lambda *given: -right(*given))
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", [{}, {"first_order": True}, {"recompute": True}])
def test_fast_weights_after_each_step(grad: bool, options: dict[str, bool]) -> None:
    """Catches: the sign or the size of the step, a step too many or too few, the query's loss in the inner loop."""
    model, episodes = _setting()
    slow = dict(model.named_parameters())
    inner = InnerLoop(steps=STEPS, lr=ALPHA, **options)
    with torch.set_grad_enabled(grad):
        path = list(adapt_path(model, slow, episodes.support_x, episodes.support_y, inner, loss=_loss(A)))
        last = adapt(model, slow, episodes.support_x, episodes.support_y, inner, loss=_loss(A))
    expected = _path(slow["point.w"].detach(), torch.full((STEPS, D), ALPHA, dtype=torch.float64))
    assert len(path) == STEPS + 1
    for fast, w in zip(path, expected, strict=True):
        assert list(fast) == ["point.w"]
        torch.testing.assert_close(fast["point.w"].detach(), w)
    power = torch.linalg.matrix_power(EYE - ALPHA * A, STEPS)
    torch.testing.assert_close(last["point.w"].detach(), C + (slow["point.w"].detach() - C) @ power.T)
    assert last["point.w"].requires_grad == grad


def _gradient(inner: InnerLoop, rates: dict[str, Tensor], reduction: str = "mean") -> dict[str, Tensor]:
    model, episodes = _setting()
    parameters = {**dict(model.named_parameters()), **{f"rate:{n}": r for n, r in rates.items()}}
    out = meta_gradient(
        predictor(model, inner, loss=_loss(A)),
        parameters,
        episodes,
        _loss(B),
        reduction="sum" if reduction == "sum" else "mean",
    )
    w = _path(Point().w.detach(), _full(inner, rates))[-1]
    torch.testing.assert_close(out.score, _loss(B)(w[:, None], TARGET[:, None]))
    assert out.loss == pytest.approx(float(out.score.sum() if reduction == "sum" else out.score.mean()))
    return out.gradient


def _full(inner: InnerLoop, rates: dict[str, Tensor]) -> Tensor:
    """The rate of each step and coordinate, [steps, D]."""
    rows = torch.full((inner.steps, D), inner.lr, dtype=torch.float64)
    for r in rates.values():
        r = r.detach()
        rows = r.expand(inner.steps, D) if r.shape == (D,) else r.expand(inner.steps)[:, None].expand(inner.steps, D)
    return rows


@plants(
    "sum and mean exchanged",
    "core.outer:objective_gradient",
    lambda right: (
        lambda *given, reduction="mean", **more: right(
            *given, reduction={"mean": "sum", "sum": "mean"}[reduction], **more
        )
    ),
)
@plants(
    "each step cuts the graph",
    "core.inner:_second_order_step",
    lambda right: lambda rest, own, fast, *more: right(rest, own, {n: w.detach() for n, w in fast.items()}, *more),
)
@plants(
    "second order forgets create_graph",
    "core.inner:_support_gradient",
    lambda right: lambda *given, create_graph: right(*given, create_graph=False),
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("recompute", [False, True])
def test_second_order_meta_gradient(recompute: bool, reduction: str) -> None:
    """Mean over tasks of (I − αA)^K B (w_K − d). Catches: no second order, a wrong reduction."""
    inner = InnerLoop(steps=STEPS, lr=ALPHA, recompute=recompute)
    found = _gradient(inner, {}, reduction)["point.w"]
    w = _path(Point().w.detach(), _full(inner, {}))[-1]
    each = (w - TARGET) @ B.T @ torch.linalg.matrix_power(EYE - ALPHA * A, STEPS)
    torch.testing.assert_close(found, each.sum(0) if reduction == "sum" else each.mean(0))


@plants(
    "first order keeps the second",
    "core.inner:adapt_path",
    lambda right: (
        lambda model, slow, x, y, inner, **more: right(model, slow, x, y, replace(inner, first_order=False), **more)
    ),
)
def test_first_order_meta_gradient() -> None:
    """Mean over tasks of B (w_K − d): the Jacobian of the inner loop is taken for the identity."""
    inner = InnerLoop(steps=STEPS, lr=ALPHA, first_order=True)
    w = _path(Point().w.detach(), _full(inner, {}))[-1]
    torch.testing.assert_close(_gradient(inner, {})["point.w"], ((w - TARGET) @ B.T).mean(0))


@plants(
    "learned rates of blocks ignored",
    "core.inner:_rate",
    lambda right: (
        lambda name, step, inner, rates: right(name, step, inner, {n: r for n, r in rates.items() if n == name})
    ),
)
@plants(
    "the next step's learned rate",
    "core.inner:_rate",
    lambda right: lambda name, step, *more: right(name, step + 1, *more),
)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["parameter", "steps", "number"])
def test_learned_rates(kind: str, recompute: bool) -> None:
    """∂L/∂α_k = −A(w_k − c) ⊙ Π_{j>k}(I − α_j A)ᵀ B(w_K − d). Catches: the rate of another step, a rate left out."""
    g = generator_for(0, "rates")
    shape = {"parameter": (D,), "steps": (STEPS,), "number": ()}[kind]
    rate = (0.05 + 0.1 * torch.rand(shape, generator=g, dtype=torch.float64)).requires_grad_()
    key = "point.w" if kind == "parameter" else "point"
    inner = InnerLoop(steps=STEPS, lr=ALPHA, recompute=recompute)
    found = _gradient(inner, {key: rate})
    rows = _full(inner, {key: rate})
    path = _path(Point().w.detach(), rows)
    back = (path[-1] - TARGET) @ B.T  # one row a task
    by_step = []
    for k in reversed(range(STEPS)):
        by_step.append((-((path[k] - C) @ A.T) * back).mean(0))
        back = back @ (EYE - rows[k][:, None] * A)
    steps = torch.stack(by_step[::-1])  # [steps, D]
    expected = {"parameter": steps.sum(0), "steps": steps.sum(1), "number": steps.sum()}[kind]
    torch.testing.assert_close(found[f"rate:{key}"], expected)
    torch.testing.assert_close(found["point.w"], back.mean(0))


def test_the_last_learned_rate_serves_further_steps() -> None:
    """Evaluation may take more steps than training learned rates for."""
    model, episodes = _setting()
    slow = dict(model.named_parameters())
    rate = torch.tensor([0.1, 0.03], dtype=torch.float64)
    inner = InnerLoop(steps=4, lr=ALPHA)
    args = (model, slow, episodes.support_x, episodes.support_y, inner)
    fast = adapt(*args, loss=_loss(A), rates={"point": rate})
    rows = torch.tensor([0.1, 0.03, 0.03, 0.03], dtype=torch.float64)[:, None].expand(4, D)
    torch.testing.assert_close(fast["point.w"], _path(slow["point.w"], rows)[-1])


def test_no_steps_and_a_rate_of_zero_leave_the_weights() -> None:
    """steps = 0 and α = 0 give the slow weights and the plain gradient in either order; α → 0 tends to it."""
    plain = ((Point().w.detach() - TARGET) @ B.T).mean(0)
    for options in ({}, {"first_order": True}, {"recompute": True}):
        for inner in (InnerLoop(steps=0, lr=ALPHA, **options), InnerLoop(steps=STEPS, lr=0.0, **options)):
            torch.testing.assert_close(_gradient(inner, {})["point.w"], plain)
        near = _gradient(InnerLoop(steps=STEPS, lr=1e-7, **options), {})["point.w"]
        torch.testing.assert_close(near, plain, atol=1e-4, rtol=0)
