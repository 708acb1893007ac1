"""The outer loop: the meta-gradient of a batch of tasks, and the step that it makes.

    L_meta(θ) = Σ_b L_target(θ_m^b)        θ ← θ − η ∇L_meta(θ)        (Raghu et al. 2020, section 3)

The default is the mean over the tasks (as the reference code does); Adam does not see the difference, clipping does.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, as_images_lie
from innerloop.core.losses import Loss, check_per_task, per_task
from innerloop.core.ranks import ALONE, Ranks
from innerloop.errors import InnerloopError, did_you_mean
from innerloop.validated import Count, OptimizerRate, Positive, Validated, at_least, at_most, checked

Predict = Callable[[Weights, Episodes], Tensor]
"""(meta-parameters, episodes) -> predictions for the query set [tasks, query, …]: a whole method in one function"""

Objective = Callable[[Weights, Episodes], tuple[Tensor, Tensor]]
"""(meta-parameters, episodes) -> (one loss a task [tasks], predictions for the query set): what the outer loop
minimises where that is not the loss of the predictions alone"""


@dataclass(frozen=True)
class OuterLoop(Validated, at="outer"):
    """How the slow weights are trained."""

    steps: Count = 1000
    """outer steps (the papers say iterations)"""
    meta_batch: Count = 4
    """tasks an outer step"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """what takes the outer step"""
    lr: OptimizerRate = 1e-3
    """its rate η at the start"""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """constant; cosine: down to `final_lr` over the steps; step: halved every `halve_every` steps"""
    final_lr: Annotated[float, at_least(0), at_most(1e30)] = 1e-5
    """where the cosine schedule ends"""
    halve_every: Count = 2000
    """for the step schedule"""
    clip: Literal["none", "value", "norm"] = "none"
    """clip the meta-gradient element by element, or by its norm over all parameters"""
    clip_at: Positive = 10.0
    """the bound of the clipping"""
    reduction: Literal["mean", "sum"] = "mean"
    """over the tasks of the meta-batch; sum is the paper's equation"""


@dataclass(frozen=True)
class MetaGradient:
    """What one meta-batch gives."""

    loss: float
    """L_meta, reduced over the tasks as asked"""
    score: Float[Tensor, " tasks"]
    """one number per task on its query set: accuracy, or the loss if there is no accuracy"""
    gradient: dict[str, Tensor]
    """∇L_meta with respect to each meta-parameter, in its shape"""


def meta_gradient(
    predict: Predict,
    parameters: Mapping[str, Tensor],
    episodes: Episodes,
    loss: Loss,
    score: Loss | None = None,
    *,
    task_chunk: int | None = None,
    reduction: Literal["mean", "sum"] = "mean",
) -> MetaGradient:
    """∇L_meta(θ), with at most `task_chunk` tasks in memory at once (None: all of them).

    The chunk changes memory and speed, never the result (up to rounding).
    """

    def objective(weights: Weights, chunk: Episodes) -> tuple[Tensor, Tensor]:
        prediction = predict(weights, chunk)
        return per_task(loss, prediction, chunk.query_y), prediction

    return objective_gradient(objective, parameters, episodes, score, task_chunk=task_chunk, reduction=reduction)


def objective_gradient(
    objective: Objective,
    parameters: Mapping[str, Tensor],
    episodes: Episodes,
    score: Loss | None = None,
    *,
    task_chunk: int | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    ranks: Ranks = ALONE,
) -> MetaGradient:
    """`meta_gradient` of any objective: the gradient of its losses, reduced over the tasks.

    Of several processes (`ranks`), each is given all `episodes`, computes its share, and gets the result for all.
    """
    if reduction not in ("mean", "sum"):
        raise InnerloopError(f"reduction must be mean or sum; got {reduction!r}")
    if 0 < len(episodes) < ranks.size:
        raise InnerloopError(
            f"{len(episodes)} tasks do not suffice for {ranks.size} processes; raise --outer.meta-batch, or start fewer"
        )
    parts = chunks(episodes[ranks.share(len(episodes))], task_chunk)
    weight = 1.0 / len(episodes) if reduction == "mean" else 1.0
    leaves = {n: p for n, p in parameters.items() if p.requires_grad}
    if not leaves:
        raise InnerloopError("no parameter requires a gradient, so there is nothing to train")
    total: list[Tensor] = [torch.zeros_like(p) for p in leaves.values()]
    value = 0.0
    scores: list[Tensor] = []
    for chunk in parts:
        losses, prediction = objective({n: as_images_lie(p) for n, p in parameters.items()}, chunk)
        check_per_task(losses, len(chunk), objective, differentiable=True)
        part = losses.sum() * weight
        grads = torch.autograd.grad(part, list(leaves.values()), allow_unused=True)
        for i, g in enumerate(grads):
            if g is not None:
                total[i] += g
        value += float(part.detach())
        scores.append((per_task(score, prediction, chunk.query_y) if score else losses).detach())
    found = MetaGradient(value, torch.cat(scores), dict(zip(leaves, total, strict=True)))
    return found if ranks.size == 1 else _summed(found, len(episodes), ranks)


def _summed(found: MetaGradient, tasks: int, ranks: Ranks) -> MetaGradient:
    """The sum over the processes, in one message; each task's score is in one of them."""
    scores = found.score.new_zeros(tasks)
    scores[ranks.share(tasks)] = found.score
    whole = ranks.sum_all([*found.gradient.values(), scores, scores.new_tensor([found.loss])])
    return MetaGradient(float(whole[-1]), whole[-2], dict(zip(found.gradient, whole, strict=False)))


def chunks(episodes: Episodes, task_chunk: int | None) -> list[Episodes]:
    """The episodes, at most `task_chunk` tasks at a time (None: all of them)."""
    if not len(episodes):
        raise InnerloopError("no episodes: 0 tasks")
    step = checked(Count | None, task_chunk, "task_chunk") or len(episodes)
    return [episodes[i : i + step] for i in range(0, len(episodes), step)]


def outer_lr(outer: OuterLoop, step: int) -> float:
    """The optimizer's rate at outer step `step` (0 is the first)."""
    if outer.schedule == "cosine":
        progress = step / max(1, outer.steps - 1)
        return outer.final_lr + (outer.lr - outer.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    if outer.schedule == "step":
        return outer.lr * 0.5 ** (step // outer.halve_every)
    return outer.lr


def outer_step(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    outer: OuterLoop,
    step: int,
) -> float:
    """Clip the meta-gradient, set this step's rate, and let the optimizer step. Returns the norm before clipping.

    The schedule of `outer` multiplies the rate that each parameter group began with; with the constant schedule rates
    are left alone, so that a scheduler of `torch.optim.lr_scheduler` may set them. One group must have started at
    `outer.lr`, else the two would contradict one another.
    """
    _check_gradient(gradient, parameters)
    norm = float(torch.stack([g.double().square().sum() for g in gradient.values()]).sum().sqrt())
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"the meta-gradient at outer step {step} is not finite (norm {norm}); lower the inner or outer rate"
        )
    scale = min(1.0, outer.clip_at / (norm + 1e-12)) if outer.clip == "norm" else 1.0
    for name, g in gradient.items():
        if outer.clip == "value":
            g = g.clamp(-outer.clip_at, outer.clip_at)
        parameters[name].grad = g * scale if scale != 1.0 else g
    _set_rates(optimizer, outer, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _check_gradient(gradient: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> None:
    if not gradient:
        raise InnerloopError("there is no gradient of any parameter")
    for name, g in gradient.items():
        if name not in parameters:
            raise InnerloopError(f"a gradient names {name!r}, which is not a parameter{did_you_mean(name, parameters)}")
        if getattr(g, "shape", None) != parameters[name].shape:
            got = tuple(g.shape) if isinstance(g, Tensor) else type(g).__name__
            raise InnerloopError(
                f"the gradient of {name!r} must have its shape {tuple(parameters[name].shape)}, got {got}"
            )


def _set_rates(optimizer: torch.optim.Optimizer, outer: OuterLoop, step: int) -> None:
    groups = optimizer.param_groups
    initial = [float(g.setdefault("initial_lr", g["lr"])) for g in groups]
    if outer.lr not in initial:
        raise InnerloopError(
            f"the optimizer's lr is {', '.join(f'{r:g}' for r in initial)}, OuterLoop's {outer.lr:g}; make them equal"
        )
    if outer.schedule == "constant":
        return
    now = outer_lr(outer, step)
    for group, lr in zip(groups, initial, strict=True):
        if group["lr"] != group.get("scheduled_lr", lr):
            raise InnerloopError(
                f"something else has set the optimizer's rate to {group['lr']:g}; use one schedule: OuterLoop's "
                f"{outer.schedule!r}, or a torch scheduler with OuterLoop(schedule='constant')"
            )
        group["lr"] = group["scheduled_lr"] = now if lr == outer.lr else now * (lr / outer.lr)
