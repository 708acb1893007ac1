"""An environment of your own: an ant that must find out in which direction to run.

innerloop rl train --env extend_environment:ANT --method anil     in this folder; a training as of our own
python examples/extend_environment.py                             two meta-iterations and a test, in Python
"""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from innerloop.core.functional import slow_weights
from innerloop.rl.config import MetaTest, Validation
from innerloop.rl.environment import Environment
from innerloop.rl.meta_test import meta_test
from innerloop.rl.mujoco import MujocoSimulator, gymnasium_model, mujoco_picture
from innerloop.rl.presets import own_settings
from innerloop.rl.train import load_run, train

SECONDS = 0.05  # a control step: 5 of 0.01 s


@functools.cache
def model() -> Any:
    """The ant that Gymnasium ships. A state is the time, x, y, z, a quaternion, 8 joints, and 14 velocities."""
    return mujoco.MjModel.from_xml_path(str(gymnasium_model("ant.xml")))


def directions(tasks: int, generator: torch.Generator) -> torch.Tensor:
    """Unit vectors [tasks, 2]."""
    angle = torch.rand(tasks, 1, generator=generator) * 2 * torch.pi
    return torch.cat([angle.cos(), angle.sin()], 1)


def reward(task: np.ndarray, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Velocity in the task's direction (m/s), 1 for each step on its feet, minus a cost of the torques."""
    velocity = (after[..., 1:3] - before[..., 1:3]) / SECONDS
    return (velocity * task).sum(-1) + 1.0 - 0.1 * np.square(action).sum(-1)


def fallen(state: np.ndarray) -> np.ndarray:
    """Whether the torso is too low or too high."""
    return (state[..., 3] < 0.2) | (state[..., 3] > 1.0)


def simulator(horizon: int, threads: int) -> MujocoSimulator:
    """Many ants at once. What they observe leaves out the time, x and y."""
    return MujocoSimulator(
        model, directions, lambda s: s[..., 3:], reward, ended=fallen, horizon=horizon, threads=threads
    )


ANT = Environment(
    "ant-direction",
    simulator,
    horizon=200,
    title="Ant-Direction",
    settings={"iterations": 300, "trpo": {"curvature_rollouts": 5}, "test": {"tasks": 40}},
    task="a direction (x, y)",
    action_limit=1.0,
    picture=mujoco_picture(model),
)

if __name__ == "__main__":
    small = MetaTest(tasks=4, rollouts=4, steps=1)
    config = replace(own_settings(ANT, "anil"), iterations=2, meta_batch=4, rollouts=5, horizon=20, test=small)
    config = replace(config, validation=Validation(every=2, tasks=4))
    with tempfile.TemporaryDirectory() as out:
        run = train(config, Path(out) / "ant", env=ANT)
        config, policy, environment = load_run(run.path, env=ANT)
    for step in meta_test(policy, slow_weights(policy), environment, config).to_json()["steps"]:
        print(f"return {step['mean']:.2f} ± {step['ci95']:.2f} (ci95 over tasks)")
