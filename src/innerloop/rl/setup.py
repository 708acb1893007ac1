"""From a config to the things themselves: simulator, policy, learner."""

from typing import Any, get_args

import torch
from torch import nn

from innerloop.core.functional import Blocks
from innerloop.core.inner import InnerLoop
from innerloop.core.random import stream
from innerloop.errors import InnerloopError
from innerloop.rl.config import Config, EnvironmentName
from innerloop.rl.navigation import Navigation
from innerloop.rl.optional import need
from innerloop.rl.policy import gaussian_policy
from innerloop.rl.simulator import Simulator, Told
from innerloop.rl.surrogate import inner_loss
from innerloop.rl.trpo import Learner


def simulator(config: Config) -> Simulator:
    """The batched environment."""
    env = config.env
    match env.name:
        case "navigation":
            found: Simulator = Navigation(horizon=env.horizon)
        case "cheetah-direction" | "cheetah-velocity":
            from innerloop.rl.cheetah import HalfCheetah

            for package in ("mujoco", "gymnasium"):  # its file is Gymnasium's; said now, not after the first files
                need(package)
            found = HalfCheetah(
                goal="direction" if env.name == "cheetah-direction" else "velocity",
                horizon=env.horizon,
                torso=env.torso,
                threads=config.threads,
            )
        case _:
            raise InnerloopError(
                f"there is no environment {env.name!r}; there are {', '.join(get_args(EnvironmentName))}"
            )
    return Told(found) if config.method == "oracle" else found


def gymnasium_environment(config: Config) -> Any:
    """The Gymnasium form of the same environment, ready to draw pictures (needs the extra `rl`)."""
    need("gymnasium")
    match config.env.name:
        case "navigation":
            from innerloop.rl.gym_navigation import Navigation2D

            return Navigation2D(render_mode="rgb_array")
        case "cheetah-direction":
            from innerloop.rl.gym_cheetah import HalfCheetahDirection

            return HalfCheetahDirection(render_mode="rgb_array", torso=config.env.torso)
        case "cheetah-velocity":
            from innerloop.rl.gym_cheetah import HalfCheetahVelocity

            return HalfCheetahVelocity(render_mode="rgb_array", torso=config.env.torso)
        case name:
            raise InnerloopError(f"environment {name!r} has no Gymnasium form to draw pictures of")


def policy(config: Config, environment: Simulator) -> nn.Sequential:
    """The policy with its first weights."""
    found = gaussian_policy(
        environment.observation_size,
        environment.action_size,
        hidden=config.policy.hidden,
        activation=config.policy.activation,
        log_std=config.policy.log_std,
        generator=stream(config.seed, "init"),
    )
    return found.double() if config.precision == "float64" else found


def learner(config: Config, model: nn.Sequential, *, blocks: Blocks | None = None, lr: float | None = None) -> Learner:
    """The inner loop of the config; `blocks` and `lr` take the place of the method's."""
    own = config.inner_loop
    inner = InnerLoop(
        blocks=own.blocks if blocks is None else blocks,
        steps=own.steps,
        lr=own.lr if lr is None else lr,
        first_order=own.first_order,
    )
    log_std = dict(model.named_parameters())["head.log_std"]
    rates = None if config.inner.adapt_log_std else {"head.log_std": torch.zeros_like(log_std)}
    return Learner(model, inner, inner_loss(config.inner.loss), rates)
