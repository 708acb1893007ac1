"""The half-cheetah that must find out which way, or how fast, to run (Finn et al. 2017, section 5.3, appendix A.2)."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.rl.optional import need
from innerloop.rl.simulator import Step
from innerloop.validated import Count, Threads, Validated

Goal = Literal["direction", "velocity"]
SUBSTEPS = 5
"""of 0.01 s a control step"""
SECONDS = 0.05
"""a control step"""
EFFORT = 0.05
"""cost of the squared torques (Gymnasium's own HalfCheetah-v5 takes 0.1)"""
FASTEST = 2.0
"""target velocities are uniform in 0..2 m/s"""
NOISE = 0.1
"""of the first state: positions uniform in ±, velocities normal times this"""
_MASS = 14.0
_TORSO = 0.7
"""height of the torso where the joint rootz is 0"""
_JOINTS = 9


@cache
def model() -> Any:
    """MuJoCo's half-cheetah, from the file that Gymnasium ships.

    The file sets the total mass by an attribute that MuJoCo warns it will drop; the functions that the warning names do
    the same here.
    """
    mujoco = need("mujoco")
    need("gymnasium")
    where = importlib.util.find_spec("gymnasium")
    assert where is not None
    assert where.origin is not None
    text = (Path(where.origin).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml").read_text()
    found = mujoco.MjModel.from_xml_string(text.replace('settotalmass="14"', ""))
    mujoco.mj_setTotalmass(found, _MASS)
    mujoco.mj_setConst(found, mujoco.MjData(found))
    return found


def observation(state: np.ndarray, torso: bool) -> np.ndarray:
    """Time, 9 positions and 9 velocities [..., 19] -> positions without the first, velocities, and the torso's x y z.

    17 numbers, with `torso` 20. The torso tells x, which the positions leave out.
    """
    seen = [state[..., 2 : 1 + _JOINTS], state[..., 1 + _JOINTS :]]
    if torso:
        x, z = state[..., 1:2], state[..., 2:3]
        seen += [x, np.zeros_like(x), z + _TORSO]
    return np.concatenate(seen, -1)


def reward(
    goal: Goal, task: np.ndarray | np.floating, before: np.ndarray, after: np.ndarray, action: np.ndarray
) -> np.ndarray | np.floating:
    """What a control step earns, from the states [..., 19] before and after it and the action [..., 6] as it was cut.

    Direction: ±v − 0.05 |a|². Velocity: −|v − v*| − 0.05 |a|². v is the mean velocity over the step.
    """
    v = (after[..., 1] - before[..., 1]) / SECONDS
    square = action * action
    cost = square[..., 0]
    for i in range(1, action.shape[-1]):  # in this order: one environment and many round alike
        cost = cost + square[..., i]
    gain = task * v if goal == "direction" else -np.abs(v - task)
    return gain - EFFORT * cost


@dataclass(frozen=True)
class HalfCheetah(Validated):
    """The batched form, on MuJoCo's own multi-threaded rollouts; on the CPU, states in float64.

    A task is one number: the direction, −1 or 1, each half of the time; or the target velocity in m/s. A trajectory
    never ends by itself. Each control step starts the constraint solver cold, as the Gymnasium form does, so that both
    give the same numbers to the last bit.
    """

    goal: Goal = "direction"
    horizon: Count = 200
    torso: bool = True
    """observe the torso's position too, as in the 2019 code bases"""
    threads: Threads = 0
    """0: as many as PyTorch takes"""

    @property
    def observation_size(self) -> int:
        """20, without the torso 17."""
        return 20 if self.torso else 17

    @property
    def action_size(self) -> int:
        """Six torques, each cut to ±1."""
        return 6

    @property
    def task_size(self) -> int:
        """A direction or a velocity."""
        return 1

    def sample_tasks(self, tasks: int, generator: torch.Generator) -> Float[Tensor, "tasks 1"]:
        """Directions or target velocities."""
        u = torch.rand(tasks, 1, generator=generator, device=generator.device)
        return torch.where(u < 0.5, -1.0, 1.0) if self.goal == "direction" else u * FASTEST

    def reset(self, tasks: Float[Tensor, "tasks 1"], rollouts: int, generator: torch.Generator) -> Tensor:
        """Lying still, with a little noise: [tasks, rollouts, 19] in float64."""
        shape = (len(tasks), rollouts, _JOINTS)
        kind = torch.float64
        place = (torch.rand(shape, generator=generator, dtype=kind) * 2 - 1) * NOISE
        speed = torch.randn(shape, generator=generator, dtype=kind) * NOISE
        start = torch.as_tensor(model().qpos0, dtype=kind)
        return torch.cat([torch.zeros(*shape[:2], 1, dtype=kind), place + start, speed], -1)

    def observe(self, tasks: Tensor, state: Tensor) -> Tensor:  # noqa: ARG002  the task is not seen
        """[tasks, rollouts, 20 or 17] in float64."""
        return torch.from_numpy(observation(state.numpy(), self.torso))

    def step(self, tasks: Tensor, state: Tensor, action: Tensor) -> Step:
        """Five substeps of every cheetah."""
        torques = action.double().clamp(-1.0, 1.0).numpy()
        before = state.numpy()
        n = before.shape[0] * before.shape[1]
        flat = np.ascontiguousarray(before.reshape(n, -1))
        control = np.ascontiguousarray(np.broadcast_to(torques.reshape(n, 1, -1), (n, SUBSTEPS, 6)))
        states = np.empty((n, SUBSTEPS, flat.shape[1]))
        sensors = np.empty((n, SUBSTEPS, 0))
        pool, data = _pool(self.threads)
        pool.rollout(
            [model()] * n, data, flat, control, nstep=SUBSTEPS, state=states, sensordata=sensors, skip_checks=True
        )
        after = states[:, -1].reshape(before.shape)
        task = tasks.double().numpy()
        gained = reward(self.goal, task, before, after, torques)
        ended = torch.zeros(before.shape[:2], dtype=torch.bool)
        return Step(torch.from_numpy(np.ascontiguousarray(after)), torch.as_tensor(gained), ended)

    @contextmanager
    def working(self) -> Iterator[Self]:
        """Itself, with PyTorch on one thread: its others would wait, spinning, on the cores that MuJoCo needs."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield replace(self, threads=self.threads or before)
        finally:
            torch.set_num_threads(before)


@cache
def _pool(threads: int) -> tuple[Any, list[Any]]:
    """MuJoCo's thread pool, and one working memory a thread."""
    mujoco = need("mujoco")
    count = threads or torch.get_num_threads()
    pool = need("mujoco.rollout").Rollout(nthread=count if count > 1 else 0)
    return pool, [mujoco.MjData(model()) for _ in range(count)]
