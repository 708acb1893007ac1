"""The losses of policy gradients, in the form that `innerloop.core.inner.adapt` takes."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core.losses import Loss
from innerloop.errors import InnerloopError, did_you_mean
from innerloop.rl.policy import divergence, log_probability
from innerloop.rl.trajectories import Trajectories

Form = Literal["ratio", "log_probability"]


@dataclass(frozen=True)
class Batch:
    """Trajectories as the examples of a task: what went in, what was done, and how good it was."""

    x: Float[Tensor, "tasks n observation"]
    y: Float[Tensor, "tasks n target"]
    """side by side: the action, its log-probability when it was drawn, its advantage, and 1 (or 0 behind an end)"""
    old: Float[Tensor, "tasks n twice"]
    """the policy's output when the action was drawn"""

    @property
    def weight(self) -> Float[Tensor, "tasks n"]:
        """1 for a step, 0 behind an end."""
        return self.y[..., -1]

    def first(self, n: int) -> "Batch":
        """The first `n` examples of each task."""
        return Batch(self.x[:, :n], self.y[:, :n], self.old[:, :n])

    def of_tasks(self, tasks: slice) -> "Batch":
        """Some of the tasks."""
        return Batch(self.x[tasks], self.y[tasks], self.old[tasks])


def batch(trajectories: Trajectories, output: Tensor, advantages: Tensor) -> Batch:
    """The examples of an inner step. `output` is the sampling policy's for the observations, [tasks, n, 2 × action]."""
    x = trajectories.observations.flatten(1, 2)
    action = trajectories.actions.flatten(1, 2)
    old = output.detach()
    columns = (
        action,
        log_probability(old, action)[..., None],
        advantages.flatten(1)[..., None].to(x.dtype),
        trajectories.alive.flatten(1)[..., None].to(x.dtype),
    )
    return Batch(x, torch.cat(columns, -1), old)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum(1) / weight.sum(1)


def ratio_loss(output: Float[Tensor, "tasks n twice"], y: Float[Tensor, "tasks n target"]) -> Float[Tensor, " tasks"]:
    """−mean of π(a) / π_old(a) · A over the steps of each task: REINFORCE in the likelihood-ratio form.

    Its first derivative at π_old is that of −mean log π(a) · A, its second derivative is not: only this form has the
    curvature of the expected return (Rothfuss et al. 2019, section 5; the low-variance curvature estimator), and MAML's
    meta-gradient needs it.
    """
    size = output.shape[-1] // 2
    ratio = torch.exp(log_probability(output, y[..., :size]) - y[..., size])
    return -_mean(ratio * y[..., size + 1], y[..., -1])


def clipped_loss(clip: float) -> Loss:
    """`ratio_loss` without the reward for leaving 1 − `clip` … 1 + `clip`: −mean of min(r A, clamp(r) A).

    The objective of PPO (Schulman et al. 2017, equation 7).
    """

    def loss(output: Float[Tensor, "tasks n twice"], y: Float[Tensor, "tasks n target"]) -> Float[Tensor, " tasks"]:
        size = output.shape[-1] // 2
        ratio = torch.exp(log_probability(output, y[..., :size]) - y[..., size])
        gain = y[..., size + 1]
        return -_mean(torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain), y[..., -1])

    return loss


def log_probability_loss(
    output: Float[Tensor, "tasks n twice"], y: Float[Tensor, "tasks n target"]
) -> Float[Tensor, " tasks"]:
    """−mean of log π(a) · A, as most public code has it. For parity only: the meta-gradient through it is wrong."""
    size = output.shape[-1] // 2
    return -_mean(log_probability(output, y[..., :size]) * y[..., size + 1], y[..., -1])


def inner_loss(form: Form) -> Loss:
    """The inner loop's loss by name."""
    table: dict[str, Loss] = {"ratio": ratio_loss, "log_probability": log_probability_loss}
    if form not in table:
        raise InnerloopError(
            f"the inner loss must be one of {', '.join(table)}; got {form!r}{did_you_mean(form, table)}"
        )
    return table[form]


def mean_divergence(output: Tensor, data: Batch) -> Float[Tensor, " tasks"]:
    """Mean KL(π_old ‖ π) over the steps of each task (nats)."""
    return _mean(divergence(data.old, output), data.weight)
