"""Trajectories of many tasks at once, and how they are sampled."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.functional import Weights
from innerloop.rl.environment import Simulator
from innerloop.rl.policy import acting, split_output


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
    parts = []
    with simulator.session() as env:
        for rows, columns in _parts(count, rollouts, simulator.at_once):
            act = acting(policy, slow, {n: w[rows] for n, w in fast.items()})
            own, here = tasks[rows], state[rows, columns]
            going = torch.ones(here.shape[:2], dtype=torch.bool, device=kind.device)
            seen, done, rewards, alive = [], [], [], []
            for drawn in noise[:, rows, columns]:
                observation = env.observe(own, here).to(kind.dtype)
                mean, log_std = split_output(act(observation))
                action = torch.addcmul(mean, torch.exp(log_std), drawn)
                step = env.step(own, here, action if action_scale == 1.0 else action * action_scale)
                seen.append(observation)
                done.append(action)
                rewards.append(step.reward)
                alive.append(going)
                going = going & ~step.ended
                here = step.state
                if not bool(going.any()):
                    break
            lived = torch.stack(alive, 2)
            earned = torch.where(lived, torch.stack(rewards, 2).to(kind.dtype), 0.0)
            parts.append(Trajectories(torch.stack(seen, 2), torch.stack(done, 2), earned, lived))
    return parts[0] if len(parts) == 1 else _joined(parts, rollouts)


def _parts(tasks: int, rollouts: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """Tasks and rollouts that fit into one call of the simulator: all (0), or whole tasks, or a part of one."""
    if not at_once or tasks * rollouts <= at_once:
        yield slice(None), slice(None)
        return
    rows, columns = max(1, at_once // rollouts), min(rollouts, at_once)
    for i in range(0, tasks, rows):
        for j in range(0, rollouts, columns):
            yield slice(i, i + rows), slice(j, j + columns)


def _joined(parts: list[Trajectories], rollouts: int) -> Trajectories:
    """The parts of `_parts`, filled up to the longest."""
    longest = max(p.alive.shape[2] for p in parts)

    def join(name: str) -> Tensor:
        filled = []
        for p in parts:
            value = getattr(p, name)
            lacking = longest - value.shape[2]
            filled.append(F.pad(value, (0, 0) * (value.dim() - 3) + (0, lacking)).flatten(0, 1))
        whole = torch.cat(filled)
        return whole.view(-1, rollouts, *whole.shape[1:])

    return Trajectories(*map(join, ("observations", "actions", "rewards", "alive")))
