"""What one meta-iteration samples: trajectories before each inner step, and those of the adapted policies."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core.functional import Weights, forward
from innerloop.core.random import stream
from innerloop.rl.advantage import advantages
from innerloop.rl.config import Config
from innerloop.rl.environment import Simulator
from innerloop.rl.surrogate import Batch, batch
from innerloop.rl.trajectories import Trajectories, sample
from innerloop.rl.trpo import Learner, MetaBatch


@torch.no_grad()
def examples(learner: Learner, slow: Weights, fast: Mapping[str, Tensor], found: Trajectories, config: Config) -> Batch:
    """Trajectories as examples, with advantages from a baseline fitted to them."""
    output = forward(learner.policy, slow, fast, found.observations.flatten(1, 2))
    return batch(found, output, advantages(found, config.gamma, config.lam))


@dataclass(frozen=True)
class Collected:
    """The data of a meta-iteration."""

    data: MetaBatch
    curvature: MetaBatch
    """the trajectories that the Fisher matrix is made from"""
    returns: list[Float[Tensor, " tasks"]]
    """mean return of each task before the first inner step, after it, …"""
    steps: int
    """environment steps taken, those behind an end not counted"""
    seconds_adapting: float
    """of the time that this took (wall clock), what baselines, advantages and inner steps did, not the sampling"""


@torch.no_grad()
def collect(
    learner: Learner,
    slow: Weights,
    environment: Simulator,
    tasks: Float[Tensor, "tasks size"],
    config: Config,
    iteration: int,
) -> Collected:
    """Sample, adapt, sample again, … It depends on the weights, the tasks, the seed and the iteration alone."""
    fast: dict[str, Tensor] = {}
    found: list[Batch] = []
    few: list[Batch] = []
    returns: list[Tensor] = []
    steps = 0
    adapting = 0.0
    rollouts = min(config.trpo.curvature_rollouts or config.rollouts, config.rollouts)
    for phase in range(learner.inner.steps + 1):
        trajectories = sample(
            learner.policy,
            slow,
            fast,
            environment,
            tasks,
            config.rollouts,
            stream(config.seed, "rollouts", iteration, phase),
            action_scale=config.action_scale,
        )
        sampled = time.perf_counter()
        found.append(examples(learner, slow, fast, trajectories, config))
        few.append(found[-1].first(rollouts * trajectories.alive.shape[-1]))
        returns.append(trajectories.returns.mean(1))
        steps += int(trajectories.alive.sum())
        if phase < learner.inner.steps:
            fast = learner.adapt(slow, found)
        adapting += time.perf_counter() - sampled
    return Collected(MetaBatch(found[:-1], found[-1]), MetaBatch(few[:-1], few[-1]), returns, steps, adapting)
