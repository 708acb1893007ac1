"""What the outer loop minimises where that is not the query loss after the last inner step: MAML++'s loss after every
step, Reptile's and iMAML's gradients."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, forward
from innerloop.core.inner import InnerLoop, adapt, adapted_parameters, check_twice_differentiable
from innerloop.core.losses import Loss, cross_entropy, per_task
from innerloop.core.outer import Objective
from innerloop.errors import InnerloopError
from innerloop.methods.gradient import StatisticsOf, own_weights, step_predictions


def step_shares(steps: int, anneal: float) -> list[float]:
    """The weight of the query loss after each of `steps` inner steps: MAML++ (Antoniou et al. 2019, section 4).

    `anneal` goes from 0, where all are 1 / steps, to 1, where only the last counts; they always sum to 1.
    """
    if not 0 <= anneal <= 1:
        raise InnerloopError(f"anneal must be 0 to 1, got {anneal}")
    early = (1 - anneal) / steps
    return [early] * (steps - 1) + [1 - early * (steps - 1)]


def multi_step(
    model: nn.Sequential,
    inner: InnerLoop,
    *,
    anneal: float,
    loss: Loss = cross_entropy,
    statistics: StatisticsOf = "batch",
) -> Objective:
    """Σ_m v_m L_query(θ_m) over the steps m = 1, …, with the shares v of `step_shares`."""
    if inner.steps < 1:
        raise InnerloopError("a loss after each inner step needs at least one")
    shares = step_shares(inner.steps, anneal)

    def objective(parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
        total: Tensor | None = None
        output: Tensor | None = None
        outputs = step_predictions(model, parameters, episodes, inner, loss=loss, statistics=statistics)
        next(outputs)  # before any step: no share in it
        for share, output in zip(shares, outputs, strict=True):
            if share:
                part = share * per_task(loss, output, episodes.query_y)
                total = part if total is None else total + part
        assert total is not None
        assert output is not None
        return total, output

    return objective


def reptile(model: nn.Sequential, inner: InnerLoop, *, loss: Loss = cross_entropy) -> Objective:
    """The gradient θ − θ_m, averaged over the tasks: Nichol et al. 2018, algorithm 2.

    A task is learned from all its images, support and query together, as theirs has one training set. Each inner step
    takes another batch of them (`batches`): it is the inner product of the gradients of different batches that makes
    Reptile more than joint training (their section 5). With the outer optimizer sgd and rate ε this is
    θ ← θ + ε (θ_m − θ). The loss reported is that on the query images afterwards, which have been learned from: it is
    no test.
    """
    one_step = replace(inner, steps=1)

    def objective(parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
        slow = own_weights(parameters)
        x = torch.cat([episodes.support_x, episodes.query_x], 1)
        y = torch.cat([episodes.support_y, episodes.query_y], 1)
        with torch.no_grad():
            fast = adapt(model, slow, x, y, replace(inner, steps=0), loss=loss)
            for own_x, own_y in batches(x, y, inner.steps):
                fast = adapt(model, slow, own_x, own_y, one_step, loss=loss, start=fast)
            output = forward(model, slow, fast, episodes.query_x)
            value = per_task(loss, output, episodes.query_y)
            direction = {n: slow[n] - w for n, w in fast.items()}
        return _with_gradient(value, slow, direction), output

    return objective


def batches(x: Tensor, y: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One batch of each task's images [tasks, n, …] for each of `steps` inner steps.

    The images, class by class, are dealt out one at a time until none is left, into a batch for each step, or as many
    as a class has images on average if that is less; further steps take the batches in turn again.
    """
    n, classes, least = x.shape[1], None, 1
    if y.ndim == 2 and not y.is_floating_point():
        classes, least = y.argsort(dim=1, stable=True), int(y[0].unique().numel())
    piles = max(1, min(steps, n // least))
    rows = torch.arange(len(x), device=x.device)[:, None]
    for step in range(steps):
        mine = slice(step % piles, None, piles)
        if classes is None:
            yield x[:, mine], y[:, mine]
        else:
            yield x[rows, classes[:, mine]], y[rows, classes[:, mine]]


def implicit(model: nn.Sequential, inner: InnerLoop, *, iterations: int = 5, loss: Loss = cross_entropy) -> Objective:
    """iMAML's meta-gradient (I + H / λ)⁻¹ ∇L_query(φ): Rajeswaran et al. 2019, equation 6, algorithm 2.

    φ are the fast weights, an approximate minimum of L_support(φ) + λ/2 ‖φ − θ‖² (`inner.proximal` is λ), H the second
    derivative of L_support at φ. The system is solved by `iterations` of conjugate gradients, each task its own; the
    path to φ is not differentiated. All parameters must adapt, since others' gradients would need another term.
    """
    names = adapted_parameters(model, inner)
    if left := [n for n, _ in model.named_parameters() if n not in names]:
        raise InnerloopError(f"the implicit gradient needs every parameter to adapt; {left[0]!r} does not")
    if not inner.proximal:
        raise InnerloopError("the implicit gradient needs inner.proximal λ above 0")

    def objective(parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
        slow = own_weights(parameters)
        with torch.no_grad():
            fast = adapt(model, slow, episodes.support_x, episodes.support_y, inner, loss=loss)
        leaves = {n: w.detach().requires_grad_() for n, w in fast.items()}
        held = {n: w.detach() for n, w in slow.items()}
        with torch.enable_grad():
            output = forward(model, held, leaves, episodes.query_x)
            value = per_task(loss, output, episodes.query_y)
            right = torch.autograd.grad(value.sum(), list(leaves.values()))
            again = forward(model, held, leaves, episodes.support_x, create_graph=True)
            support = per_task(loss, again, episodes.support_y).sum()
            slope = torch.autograd.grad(support, list(leaves.values()), create_graph=True)
            check_twice_differentiable(dict(zip(leaves, slope, strict=True)), leaves.values())

        def curved(v: list[Tensor]) -> list[Tensor]:
            second = torch.autograd.grad(slope, list(leaves.values()), v, retain_graph=True)
            return [a + h / inner.proximal for a, h in zip(v, second, strict=True)]

        found = conjugate_gradients(curved, list(right), iterations)
        return _with_gradient(value.detach(), slow, dict(zip(leaves, found, strict=True))), output.detach()

    return objective


def conjugate_gradients(apply, right: list[Tensor], iterations: int) -> list[Tensor]:
    """An approximate x of A x = b, `apply` being A (symmetric), each task's system its own.

    The tensors of `right` have a leading task axis. It begins at b, the solution for A = I, and a direction of
    curvature that is not positive ends a task's search, where the equation has no minimum to go to.
    """

    def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
        return torch.stack([(u * v).reshape(len(u), -1).sum(1) for u, v in zip(a, b, strict=True)]).sum(0)

    def along(a: list[Tensor], scale: Tensor, b: list[Tensor]) -> list[Tensor]:
        return [u + scale.view(-1, *[1] * (u.ndim - 1)) * v for u, v in zip(a, b, strict=True)]

    x = [b.clone() for b in right]
    residual = [b - a for b, a in zip(right, apply(x), strict=True)]
    direction, size = residual, dot(residual, residual)
    live = torch.ones_like(size, dtype=torch.bool)
    for _ in range(iterations):
        image = apply(direction)
        curvature = dot(direction, image)
        live = live & (curvature > 0) & (size > 0)
        step = torch.where(live, size / torch.where(live, curvature, 1.0), 0.0)
        x = along(x, step, direction)
        residual = along(residual, -step, image)
        size, before = dot(residual, residual), size
        direction = along(residual, torch.where(live, size / torch.where(live, before, 1.0), 0.0), direction)
    return x


def _with_gradient(value: Tensor, slow: Weights, direction: Mapping[str, Tensor]) -> Tensor:
    """`value` [tasks], made such that its gradient with respect to each slow weight is `direction` [tasks, *shape]."""
    total = value.detach()
    for n, d in direction.items():
        reach = (d.detach() * slow[n]).reshape(len(d), -1).sum(1)  # a parameter may be a number
        total = total + reach - reach.detach()
    return total
