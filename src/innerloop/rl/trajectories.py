"""Trajectories of many tasks at once, and how they are sampled."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from innerloop.core.functional import Weights
from innerloop.rl.policy import acting, split_output
from innerloop.rl.simulator import Simulator


@dataclass(frozen=True)
class Trajectories:
    """Some trajectories of each task. What lies behind the end of one is not `alive`, and counts nowhere."""

    observations: Float[Tensor, "tasks rollouts time observation"]
    actions: Float[Tensor, "tasks rollouts time action"]
    """as the policy drew them, before scaling and cutting"""
    rewards: Float[Tensor, "tasks rollouts time"]
    """0 behind the end"""
    alive: Bool[Tensor, "tasks rollouts time"]

    @property
    def returns(self) -> Float[Tensor, "tasks rollouts"]:
        """Undiscounted sum of the rewards of each trajectory, which is what the papers report."""
        return self.rewards.sum(-1)


@torch.no_grad()
def sample(
    policy: nn.Sequential,
    slow: Weights,
    fast: Mapping[str, Tensor],
    simulator: Simulator,
    tasks: Float[Tensor, "tasks size"],
    rollouts: int,
    generator: torch.Generator,
    *,
    action_scale: float = 1.0,
) -> Trajectories:
    """Let each task's policy act in its environment. The result depends on the generator's state alone.

    `action_scale` multiplies the policy's action on its way to the environment (which cuts it to its bounds); the
    action that is kept, and whose probability counts, is the unscaled one.
    """
    kind = next(iter(slow.values()))
    count, horizon = len(tasks), simulator.horizon
    state = simulator.reset(tasks, rollouts, generator)
    noise = torch.randn(
        horizon, count, rollouts, simulator.action_size, generator=generator, device=generator.device, dtype=kind.dtype
    ).to(kind.device)
    going = torch.ones(count, rollouts, dtype=torch.bool, device=kind.device)
    act = acting(policy, slow, fast)
    seen, done, rewards, alive = [], [], [], []
    with simulator.working() as env:
        for drawn in noise:
            observation = env.observe(tasks, state).to(kind.dtype)
            mean, log_std = split_output(act(observation))
            action = torch.addcmul(mean, torch.exp(log_std), drawn)
            step = env.step(tasks, state, action if action_scale == 1.0 else action * action_scale)
            seen.append(observation)
            done.append(action)
            rewards.append(step.reward)
            alive.append(going)
            going = going & ~step.ended
            state = step.state
            if not bool(going.any()):
                break
    lived = torch.stack(alive, 2)
    earned = torch.where(lived, torch.stack(rewards, 2).to(kind.dtype), 0.0)
    return Trajectories(torch.stack(seen, 2), torch.stack(done, 2), earned, lived)
