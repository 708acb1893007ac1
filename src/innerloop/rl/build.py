"""From a config to the things themselves: simulator, policy, learner."""

from dataclasses import replace

import torch
from torch import nn

from innerloop.core.functional import Blocks
from innerloop.core.random import generator_for
from innerloop.rl.catalogue import find
from innerloop.rl.config import Config
from innerloop.rl.environment import Environment, Simulator, TaskObserved
from innerloop.rl.methods import method
from innerloop.rl.policy import gaussian_policy
from innerloop.rl.trpo import Learner, inner_loss


def simulator(config: Config, environment: Environment | None = None) -> Simulator:
    """The batched simulator of the config's environment, or of the value that is meant by its name."""
    found = (environment or find(config.env)).make(config.horizon, config.threads)
    return TaskObserved(found) if method(config.method).observes_task else found


def policy(config: Config, environment: Simulator) -> nn.Sequential:
    """The policy with its first weights."""
    found = gaussian_policy(
        environment.observation_size,
        environment.action_size,
        hidden=config.policy.hidden,
        activation=config.policy.activation,
        log_std=config.policy.log_std,
        generator=generator_for(config.seed, "init"),
    )
    return found.double() if config.precision == "float64" else found


def learner(config: Config, model: nn.Sequential, *, blocks: Blocks | None = None, lr: float | None = None) -> Learner:
    """The inner loop of the config; `blocks` and `lr` take the place of the method's."""
    own = config.inner_loop
    inner = replace(own, blocks=own.blocks if blocks is None else blocks, lr=own.lr if lr is None else lr)
    log_std = dict(model.named_parameters())["head.log_std"]
    rates = None if config.inner.adapt_log_std else {"head.log_std": torch.zeros_like(log_std)}
    return Learner(model, inner, method(config.method).loss or inner_loss(config.inner.loss), rates)
