"""The outer loop: schedules, clipping, Adam's step, and what is refused."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import mean_squared_error
from innerloop.core.outer import OuterLoop, meta_gradient, objective_gradient, outer_lr, outer_step
from innerloop.errors import InnerloopError
from innerloop.methods.method import predictor
from naming import names
from planting import but, plants
from small import small_mlp, targets


def leaves() -> dict[str, Tensor]:
    return {
        "a": torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True),
        "b": torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True),
    }


GRADIENT = {"a": torch.tensor([3.0, -0.5], dtype=torch.float64), "b": torch.tensor([[-4.0]], dtype=torch.float64)}
NORM = math.sqrt(9 + 0.25 + 16)


def plain_step(outer: OuterLoop, step: int = 0) -> tuple[dict[str, Tensor], float]:
    """How far gradient descent moves the parameters, and the norm that is reported."""
    p = leaves()
    start = {n: t.detach().clone() for n, t in p.items()}
    norm = outer_step(torch.optim.SGD(p.values(), lr=outer.lr), p, GRADIENT, outer, step)
    assert all(t.grad is None for t in p.values())
    return {n: start[n] - t.detach() for n, t in p.items()}, norm


@plants(
    "clipped on one side",
    "core.outer:outer_step",
    lambda right: (
        lambda optimizer, parameters, gradient, outer, step: right(
            optimizer,
            parameters,
            {n: g.clamp(max=outer.clip_at) for n, g in gradient.items()},
            replace(outer, clip="none"),
            step,
        )
    ),
)
def test_clipping_by_value_clips_each_number() -> None:
    moved, norm = plain_step(OuterLoop(lr=0.1, clip="value", clip_at=2.0))
    torch.testing.assert_close(moved["a"], 0.1 * torch.tensor([2.0, -0.5], dtype=torch.float64))
    torch.testing.assert_close(moved["b"], 0.1 * torch.tensor([[-2.0]], dtype=torch.float64))
    assert norm == pytest.approx(NORM)


@plants(
    "norm clipped a tensor",
    "core.outer:outer_step",
    lambda right: (
        lambda optimizer, parameters, gradient, outer, step: right(
            optimizer,
            parameters,
            {n: g * min(1.0, outer.clip_at / float(g.norm())) for n, g in gradient.items()},
            replace(outer, clip="none"),
            step,
        )
    ),
)
def test_clipping_by_norm_keeps_the_direction_over_all_parameters() -> None:
    """Catches a norm per parameter, and a norm that is always set."""
    moved, norm = plain_step(OuterLoop(lr=0.1, clip="norm", clip_at=2.0))
    for n in GRADIENT:
        torch.testing.assert_close(moved[n], 0.1 * 2.0 / NORM * GRADIENT[n])
    assert norm == pytest.approx(NORM)
    for unclipped in (OuterLoop(lr=0.1, clip="norm", clip_at=6.0), OuterLoop(lr=0.1, clip="none", clip_at=0.1)):
        for n, m in plain_step(unclipped)[0].items():
            torch.testing.assert_close(m, 0.1 * GRADIENT[n])


@plants(
    "halving is gradual",
    "core.outer:outer_lr",
    lambda right: (
        lambda outer, step: (
            outer.lr * 0.5 ** (step / outer.halve_every) if outer.schedule == "step" else right(outer, step)
        )
    ),
)
@plants(
    "cosine ends a step late",
    "core.outer:outer_lr",
    lambda right: lambda outer, step: right(replace(outer, steps=outer.steps + 1), step),
)
def test_schedules() -> None:
    """Ends, middle and halvings; a step beyond the last stays at the end."""
    flat = OuterLoop(steps=11, lr=0.5)
    assert [outer_lr(flat, s) for s in (0, 5, 10, 99)] == [0.5] * 4
    cosine = OuterLoop(steps=11, lr=0.5, schedule="cosine", final_lr=0.1)
    assert outer_lr(cosine, 0) == pytest.approx(0.5)
    assert outer_lr(cosine, 5) == pytest.approx(0.3)
    assert outer_lr(cosine, 2) == pytest.approx(0.1 + 0.4 * (1 + math.cos(math.pi * 0.2)) / 2)
    assert outer_lr(cosine, 10) == outer_lr(cosine, 50) == pytest.approx(0.1)
    assert outer_lr(OuterLoop(steps=1, lr=0.5, schedule="cosine"), 0) == pytest.approx(0.5)
    halved = OuterLoop(lr=0.8, schedule="step", halve_every=3)
    assert [outer_lr(halved, s) for s in range(8)] == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.2] * 2)
    moved, _ = plain_step(halved, step=3)
    torch.testing.assert_close(moved["a"], 0.4 * GRADIENT["a"])


def test_adam_equals_the_formula() -> None:
    """Kingma & Ba, algorithm 1, three steps, with the rate of each step."""
    outer = OuterLoop(steps=3, lr=0.1, schedule="cosine", final_lr=0.02)
    p = leaves()
    optimizer = torch.optim.Adam(p.values(), lr=0.1)
    m = {n: torch.zeros_like(g) for n, g in GRADIENT.items()}
    v = {n: torch.zeros_like(g) for n, g in GRADIENT.items()}
    wanted = {n: t.detach().clone() for n, t in p.items()}
    for step in range(3):
        gradient = {n: g * (step + 1) for n, g in GRADIENT.items()}
        outer_step(optimizer, p, gradient, outer, step)
        for n, g in gradient.items():
            m[n] = 0.9 * m[n] + 0.1 * g
            v[n] = 0.999 * v[n] + 0.001 * g * g
            first, second = m[n] / (1 - 0.9 ** (step + 1)), v[n] / (1 - 0.999 ** (step + 1))
            wanted[n] = wanted[n] - outer_lr(outer, step) * first / (second.sqrt() + 1e-8)
    for n, t in p.items():
        torch.testing.assert_close(t.detach(), wanted[n])


@plants("infinity let through", "core.outer:math", lambda right: but(right, isfinite=lambda x: not right.isnan(x)))
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip", ["none", "value", "norm"])
def test_a_gradient_that_is_not_finite_stops_before_the_step(bad: float, clip: str) -> None:
    p = leaves()
    gradient = {**GRADIENT, "a": torch.tensor([1.0, bad], dtype=torch.float64)}
    outer = OuterLoop(clip="none" if clip == "none" else "value" if clip == "value" else "norm")
    with pytest.raises(FloatingPointError, match=names(7, bad)):
        outer_step(torch.optim.Adam(p.values()), p, gradient, outer, 7)
    for n, t in p.items():
        assert torch.equal(t, leaves()[n])


def test_a_misspelt_reduction_is_refused() -> None:
    model, episodes = small_mlp(), targets()
    predict = predictor(model, InnerLoop("none"), loss=mean_squared_error)
    with pytest.raises(InnerloopError, match=names("reduction", "avg", "mean", "sum")):
        inspect.unwrap(objective_gradient)(predict, slow_weights(model), episodes, reduction="avg")


def test_parameters_that_do_not_learn() -> None:
    """A frozen one is left out of the gradient; an unused one has a zero; none at all is an error."""
    model, episodes = small_mlp(), targets()
    frozen = {n: p.detach() if n.startswith("hidden1") else p for n, p in slow_weights(model).items()}
    spare = {**frozen, "rate:head": torch.full((2,), 0.1, dtype=torch.float64, requires_grad=True)}
    out = meta_gradient(
        predictor(model, InnerLoop("head", 1), loss=mean_squared_error), spare, episodes, mean_squared_error
    )
    assert set(out.gradient) == {n for n in spare if not n.startswith("hidden1")}
    assert out.gradient["rate:head"][0] != 0
    assert out.gradient["rate:head"][1] == 0
    nothing = {n: p.detach() for n, p in frozen.items()}
    with pytest.raises(InnerloopError, match=names("parameter", "gradient")):
        meta_gradient(
            predictor(model, InnerLoop("head", 1), loss=mean_squared_error), nothing, episodes, mean_squared_error
        )


@pytest.mark.parametrize("chunk", [1, 2, 3, None])
def test_scores_are_those_of_each_task(chunk: int | None) -> None:
    """A last, smaller chunk counts like the others; the score may be another function than the loss."""
    model, episodes = small_mlp(), targets(tasks=3)
    predict = predictor(model, InnerLoop("all", 2), loss=mean_squared_error)
    slow = slow_weights(model)

    def worst(prediction: Tensor, y: Tensor) -> Tensor:
        return (prediction - y).abs().flatten(1).amax(1)

    one = [worst(predict(slow, episodes[t : t + 1]), episodes.query_y[t : t + 1]) for t in range(3)]
    out = meta_gradient(predict, slow, episodes, mean_squared_error, worst, task_chunk=chunk)
    torch.testing.assert_close(out.score, torch.cat(one).detach())
    assert not out.score.requires_grad


def test_a_slice_of_episodes_is_those_tasks() -> None:
    episodes = targets(tasks=4)
    part = episodes[1:3]
    assert len(part) == 2
    for a, b in zip(part.__dict__.values(), episodes.__dict__.values(), strict=True):
        assert (a is None and b is None) or torch.equal(a, b[1:3])
    whole = Episodes(*(t[:, :3] for t in (part.support_x, part.support_y, part.query_x, part.query_y)))
    assert whole.to("cpu").support_x.shape == (2, 3, 1)


def test_gradients_that_share_memory_are_added_apart() -> None:
    """For y = a + b autograd gives both the same tensor, also expanded: adding chunks into it would corrupt both."""
    p = {n: torch.ones(2, dtype=torch.float64, requires_grad=True) for n in ("a", "b", "c")}

    def predict(parameters, episodes: Episodes) -> Tensor:
        return (parameters["a"] + parameters["b"] + parameters["c"].sum()) * episodes.query_x

    def plain(prediction: Tensor, y: Tensor) -> Tensor:
        return prediction.flatten(1).sum(1)

    episodes = targets(tasks=3)
    whole = meta_gradient(predict, p, episodes, plain).gradient
    for chunk in (1, 2):
        for n, g in meta_gradient(predict, p, episodes, plain, task_chunk=chunk).gradient.items():
            torch.testing.assert_close(g, whole[n])


def test_the_rates_of_parameter_groups_are_kept() -> None:
    """Catches one rate for all groups: each follows the schedule in proportion to where it began."""
    for outer, factors in (
        (OuterLoop(lr=0.1), [1.0, 1.0, 1.0]),
        (OuterLoop(lr=0.1, schedule="step", halve_every=1), [1.0, 0.5, 0.25]),
    ):
        p = leaves()
        optimizer = torch.optim.SGD([{"params": [p["a"]]}, {"params": [p["b"]], "lr": 0.02}], lr=0.1)
        for step, factor in enumerate(factors):
            before = {n: t.detach().clone() for n, t in p.items()}
            outer_step(optimizer, p, GRADIENT, outer, step)
            for name, lr in (("a", 0.1), ("b", 0.02)):
                torch.testing.assert_close(before[name] - p[name].detach(), factor * lr * GRADIENT[name])


def test_two_answers_to_one_rate_are_refused() -> None:
    """OuterLoop's and the optimizer's; a schedule of each. With the constant schedule a torch scheduler decides."""
    p = leaves()
    with pytest.raises(InnerloopError, match=names("lr", 9, 0.1)):
        outer_step(torch.optim.SGD(p.values(), lr=9.0), p, GRADIENT, OuterLoop(lr=0.1), 0)
    for schedule in ("constant", "cosine"):
        p = leaves()
        optimizer = torch.optim.SGD(p.values(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        outer = OuterLoop(lr=0.1, schedule=schedule)  # pyright: ignore[reportArgumentType]
        outer_step(optimizer, p, GRADIENT, outer, 0)
        scheduler.step()
        before = p["a"].detach().clone()
        if schedule == "constant":
            outer_step(optimizer, p, GRADIENT, outer, 1)
            torch.testing.assert_close(before - p["a"].detach(), 0.05 * GRADIENT["a"])
        else:
            with pytest.raises(InnerloopError, match=names(0.05, "cosine")):
                outer_step(optimizer, p, GRADIENT, outer, 1)
            assert torch.equal(p["a"], before)


@pytest.mark.parametrize(("chunk", "sizes"), [(2, [2, 2, 1]), (5, [5]), (9, [5]), (None, [5])])
def test_no_more_tasks_than_the_chunk_are_in_memory_at_once(chunk: int | None, sizes: list[int]) -> None:
    """Its result is the same without chunks; only this tells."""
    model, e, seen = small_mlp(), targets(tasks=5), []
    right = predictor(model, InnerLoop(steps=1), loss=mean_squared_error)

    def predict(weights: Weights, part: Episodes) -> Tensor:
        seen.append(len(part))
        return right(weights, part)

    meta_gradient(predict, slow_weights(model), e, mean_squared_error, task_chunk=chunk)
    assert seen == sizes
