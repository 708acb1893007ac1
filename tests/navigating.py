"""A meta-iteration of 2D-Navigation in small, in float64."""

import torch
from torch import Tensor

from innerloop.core.functional import forward, slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.random import generator_for
from innerloop.rl.navigation import Navigation
from innerloop.rl.policy import gaussian_policy
from innerloop.rl.sampling import Trajectories, advantages, batch, sample
from innerloop.rl.trpo import Batch, Learner, MetaBatch

NAV = Navigation(horizon=6, radius=0.15)  # some trajectories end early
TASKS = 3


def learner(blocks: str = "all", lr: float = 0.3, steps: int = 1, hidden: tuple[int, ...] = (4, 3)) -> Learner:
    policy = gaussian_policy(
        2, 2, hidden=hidden, activation="tanh", log_std=-1.0, generator=generator_for(0, "init")
    ).double()
    return Learner(policy, InnerLoop(blocks="all" if blocks == "all" else "head", steps=steps, lr=lr))


def examples(of: Learner, slow: dict, fast: dict, tasks: Tensor, phase: int) -> tuple[Batch, Trajectories]:
    found = sample(of.policy, slow, fast, NAV, tasks, 5, generator_for(0, "rollouts", phase))
    with torch.no_grad():
        out = forward(of.policy, slow, fast, found.observations.flatten(1, 2))
    return batch(found, out, advantages(found, 0.99, 1.0)), found


def meta_batch(of: Learner) -> tuple[dict[str, torch.nn.Parameter], MetaBatch]:
    slow = slow_weights(of.policy)
    tasks = NAV.sample_tasks(TASKS, generator_for(0, "tasks")).double()
    support: list[Batch] = []
    fast: dict[str, Tensor] = {}
    for m in range(of.inner.steps):
        data, found = examples(of, slow, fast, tasks, m)
        assert m or not bool(found.alive.all())
        support.append(data)
        with torch.no_grad():
            fast = of.adapt(slow, support)
    return slow, MetaBatch(support, examples(of, slow, fast, tasks, 9)[0])
