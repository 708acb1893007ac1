"""What a batched environment is: all rollouts of all tasks take one step in one call.

A simulator is a value without state. What changes is a tensor that goes in and comes out, so that a rollout can be
continued from any point and two rollouts never touch.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What one step of all rollouts gives."""

    state: Float[Tensor, "tasks rollouts state"]
    reward: Float[Tensor, "tasks rollouts"]
    ended: Bool[Tensor, "tasks rollouts"]
    """whether the environment itself ended the rollout (the horizon does not count)"""


@runtime_checkable
class Simulator(Protocol):
    """An environment family: a task is a row of numbers, the environment of a task is that row and this simulator."""

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        ...

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        ...

    @property
    def task_size(self) -> int:
        """Numbers in a task."""
        ...

    @property
    def horizon(self) -> int:
        """Steps after which a rollout is cut."""
        ...

    def sample_tasks(self, tasks: int, generator: torch.Generator) -> Float[Tensor, "tasks size"]:
        """Draw tasks from the family's distribution."""
        ...

    def reset(
        self, tasks: Float[Tensor, "tasks size"], rollouts: int, generator: torch.Generator
    ) -> Float[Tensor, "tasks rollouts state"]:
        """The first state of `rollouts` rollouts of each task."""
        ...

    def observe(
        self, tasks: Float[Tensor, "tasks size"], state: Float[Tensor, "tasks rollouts state"]
    ) -> Float[Tensor, "tasks rollouts observation"]:
        """What the policy sees of a state."""
        ...

    def step(
        self,
        tasks: Float[Tensor, "tasks size"],
        state: Float[Tensor, "tasks rollouts state"],
        action: Float[Tensor, "tasks rollouts action"],
    ) -> Step:
        """Let every rollout take its action."""
        ...

    def working(self) -> "AbstractContextManager[Simulator]":
        """The simulator to take many steps with, in surroundings that suit it, such as PyTorch's number of threads."""
        ...


@dataclass(frozen=True)
class Told:
    """The same environments for an oracle: the task is appended to every observation."""

    of: Simulator

    @property
    def observation_size(self) -> int:
        """The observation and the task."""
        return self.of.observation_size + self.of.task_size

    @property
    def action_size(self) -> int:
        """As in the environment itself."""
        return self.of.action_size

    @property
    def task_size(self) -> int:
        """As in the environment itself."""
        return self.of.task_size

    @property
    def horizon(self) -> int:
        """As in the environment itself."""
        return self.of.horizon

    def sample_tasks(self, tasks: int, generator: torch.Generator) -> Tensor:
        """As in the environment itself."""
        return self.of.sample_tasks(tasks, generator)

    def reset(self, tasks: Tensor, rollouts: int, generator: torch.Generator) -> Tensor:
        """As in the environment itself."""
        return self.of.reset(tasks, rollouts, generator)

    def observe(self, tasks: Tensor, state: Tensor) -> Tensor:
        """[tasks, rollouts, observation + task]"""
        seen = self.of.observe(tasks, state)
        told = tasks.to(seen.dtype)[:, None].expand(-1, seen.shape[1], -1)
        return torch.cat([seen, told], -1)

    def step(self, tasks: Tensor, state: Tensor, action: Tensor) -> Step:
        """As in the environment itself."""
        return self.of.step(tasks, state, action)

    @contextmanager
    def working(self) -> Iterator[Self]:
        """As in the environment itself."""
        with self.of.working() as of:
            yield replace(self, of=of)
