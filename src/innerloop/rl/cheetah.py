"""The half-cheetah that must find out which way, or how fast, to run (Finn et al. 2017, section 5.3, appendix A.2)."""

from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.rl.environment import AFTER, BEFORE, Environment
from innerloop.rl.mujoco import MujocoSimulator, gymnasium_model, mujoco_picture
from innerloop.rl.optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Goal = Literal["direction", "velocity"]
SUBSTEPS = 5
"""of 0.01 s a control step"""
SECONDS = 0.05
"""a control step"""
EFFORT = 0.05
"""cost of the squared torques (Gymnasium's own HalfCheetah-v5 takes 0.1)"""
FASTEST = 2.0
"""target velocities are uniform in 0..2 m/s"""
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
    text = gymnasium_model("half_cheetah.xml").read_text()
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
    goal: Goal, task: np.ndarray, before: np.ndarray, after: np.ndarray, action: np.ndarray
) -> np.ndarray | np.floating:
    """What a control step earns, from the states [..., 19] before and after it and the action [..., 6] as it was cut.

    Direction: ±v − 0.05 |a|². Velocity: −|v − v*| − 0.05 |a|². v is the mean velocity over the step, `task` [..., 1].
    """
    v = (after[..., 1] - before[..., 1]) / SECONDS
    square = action * action
    cost = square[..., 0]
    for i in range(1, action.shape[-1]):  # in this order: one environment and many round alike
        cost = cost + square[..., i]
    gain = task[..., 0] * v if goal == "direction" else -np.abs(v - task[..., 0])
    return gain - EFFORT * cost


def tasks(goal: Goal, count: int, generator: torch.Generator) -> Float[Tensor, "tasks 1"]:
    """Directions, −1 or 1, each half of the time; or target velocities in m/s."""
    u = torch.rand(count, 1, generator=generator, device=generator.device)
    return torch.where(u < 0.5, -1.0, 1.0) if goal == "direction" else u * FASTEST


def half_cheetah(goal: Goal, horizon: int = 200, threads: int = 0, *, torso: bool = True) -> MujocoSimulator:
    """The batched form. A trajectory never ends by itself; without `torso` its place is not observed."""
    need("gymnasium")  # said now, not after the first files
    return MujocoSimulator(
        model=model,
        tasks=partial(tasks, goal),
        observation=partial(observation, torso=torso),
        reward=partial(reward, goal),
        substeps=SUBSTEPS,
        horizon=horizon,
        threads=threads,
    )


def draw(axes: "Axes", task: Tensor, before: Tensor, after: Tensor) -> None:
    """How far the cheetahs have run over time; where x is not seen, the sum of the velocities takes its place."""
    for seen, colour in ((before, BEFORE), (after, AFTER)):
        way = seen[..., 17] if seen.shape[-1] > 17 else seen[..., 8].cumsum(-1) * SECONDS
        axes.plot(way.numpy().T, color=colour, linewidth=0.7, alpha=0.7)
    axes.set_title(f"task {float(task):.2g}", fontsize=9)
    axes.set_xlabel("step")
    axes.set_ylabel("distance (m)")


def _environment(goal: Goal, task: str, *, torso: bool = True, **published: str) -> Environment:
    short = "" if torso else "-17"
    return Environment(
        f"cheetah-{goal}{short}",
        partial(half_cheetah, goal, torso=torso),
        horizon=200,
        title=f"HalfCheetah-{goal.title()}{short}",
        settings={
            "iterations": 300,
            "trpo": {"curvature_rollouts": 5},
            "validation": {"tasks": 20},
            "test": {"tasks": 40},
        },
        task=task,
        action_limit=1.0,
        draw=draw,
        picture=mujoco_picture(model),
        published=published,
    )


_WAY, _SPEED = "a direction, -1 or 1", "a target velocity in m/s"
DIRECTION = _environment("direction", _WAY, maml="170.4 ± 21.0", anil="363.2 ± 14.8")
VELOCITY = _environment("velocity", _SPEED, maml="-139.0 ± 18.9", anil="-120.9 ± 6.3")
"""published: Raghu et al. 2020, table 2"""
DIRECTION_17 = _environment("direction", _WAY, torso=False)
VELOCITY_17 = _environment("velocity", _SPEED, torso=False)
