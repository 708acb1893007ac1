"""The outer step of MAML for reinforcement learning by gradients: PPO on the adapted policies.

The surrogate after adaptation, its ratios clipped, is minimised by a few steps of Adam on the same trajectories
(Schulman et al. 2017, section 3; around a meta-step: Rothfuss et al. 2019, algorithm 1). Each of them goes through the
inner step, which the changed weights take again on the trajectories before adaptation, reweighted by their ratios.
With one epoch the ratios are 1 and nothing is clipped: the policy gradient of the adapted policies, by Adam.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.rl.trpo import Learner, MetaBatch, Outcome, clipped_loss, judge, like, surrogate_gradient
from innerloop.validated import Count, OptimizerRate, Positive, Validated


@dataclass(frozen=True)
class Ppo(Validated, at="ppo"):
    """The outer step by Adam on the clipped surrogate."""

    lr: OptimizerRate = 1e-2
    """rate of Adam"""
    epochs: Count = 5
    """steps of Adam on the trajectories of a meta-iteration; 1: the plain policy gradient"""
    clip: Positive = 0.2
    """a ratio of probabilities counts up to this far from 1"""


def proximal_step(
    learner: Learner,
    slow: Mapping[str, Tensor],
    data: MetaBatch,
    settings: Ppo,
    optimizer: torch.optim.Optimizer,
    *,
    chunk: int = 0,
) -> Outcome:
    """Change the slow weights in place by `settings.epochs` steps of `optimizer`, which was made for them.

    `chunk` is the number of tasks in memory at once (0: all). Raises FloatingPointError where the surrogate or its
    gradient is not finite; the weights are then not to be used.
    """
    loss = clipped_loss(settings.clip)
    first: tuple[float, float] | None = None
    for _ in range(settings.epochs):
        value, g = surrogate_gradient(learner, slow, data, chunk, loss)
        norm = float(g.norm())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the outer surrogate is {value} and the norm of its gradient {norm}; lower --inner.lr or --ppo.lr"
            )
        first = first or (value, norm)
        for p, part in zip(slow.values(), like(g, list(slow.values())), strict=True):
            p.grad = part
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert first is not None
    after, kl = judge(learner, slow, data, chunk)
    if not (math.isfinite(after) and math.isfinite(kl)):
        raise FloatingPointError(
            f"after PPO's last step the outer surrogate is {after} and the divergence {kl}; lower --ppo.lr"
        )
    return Outcome(True, first[0], after, kl, settings.epochs, first[1])
