"""What an environment is: a family of tasks, and a simulator in which all rollouts of all tasks step in one call.

Ours (`catalogue`) and a user's own are the same kind of value:

    ANT = Environment("ant-direction", simulator, horizon=200)        innerloop rl train --env my_file:ANT

`mujoco.MujocoSimulator` makes the simulator from a MuJoCo model; `from_gymnasium` and `from_vector` make the whole
environment from one of Gymnasium's.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop.errors import InnerloopError, quoted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER, GOAL = "#8a8a8a", "#0072b2", "#d55e00"
"""colours of what happens before and after adaptation, and of the goal"""


@dataclass(frozen=True)
class Step:
    """What one step of all rollouts gives."""

    state: Float[Tensor, "tasks rollouts state"]
    reward: Float[Tensor, "tasks rollouts"]
    ended: Bool[Tensor, "tasks rollouts"]
    """whether the environment itself ended the rollout (the horizon does not count)"""


@runtime_checkable
class Simulator(Protocol):
    """A task is a row of numbers; the environment of a task is that row and this simulator.

    A simulator has no state of its own. What changes is a tensor that goes in and comes out, so that two rollouts never
    touch. (Those of `from_vector` have: their rollouts can continue from the latest state only.)
    """

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

    @property
    def at_once(self) -> int:
        """The largest number of rollouts in a call; 0: any."""
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

    def session(self) -> "AbstractContextManager[Simulator]":
        """The simulator to take many steps with, in surroundings that suit it, such as PyTorch's number of threads."""
        ...


@dataclass(frozen=True, eq=False)
class Environment:
    """An environment of meta-reinforcement learning."""

    name: str
    """of files and in tables: letters, digits, dots, - and _"""
    make: Callable[[int, int], Simulator]
    """(horizon, threads) -> simulator; threads 0 leaves their number to it"""
    horizon: int = 100
    """steps after which a trajectory is cut, where no other number is asked for"""
    title: str = ""
    """in tables and figures; "": the name"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """of a training on a CPU: fields of `rl.config.Config` by name, {"iterations": 300, "test": {"tasks": 40}}"""
    task: str = "a row of numbers"
    """what a task is, as text"""
    action_limit: float = float("inf")
    """the simulator cuts each number of an action to ± this"""
    draw: "Callable[[Axes, Tensor, Tensor, Tensor], None] | None" = None
    """(axes, task [size], before, after adaptation) of one task's trajectories, [rollouts, time, observation] each and
    NaN behind an end; None: the rewards so far are drawn"""
    picture: Callable[[Tensor, Tensor], np.ndarray] | None = None
    """(task [size], states so far [time, state]) -> RGB; None: there is no film"""
    film: Callable[[np.ndarray], Any] | None = None
    """task [size] -> a Gymnasium environment that draws itself, where that is easier than `picture`; None where it
    cannot"""
    published: Mapping[str, str] = field(default_factory=dict)
    """returns after one inner step by method, as printed"""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[\w.-]*\w", self.name):
            raise InnerloopError(f"an environment's name has letters, digits, dots, - and _; got {quoted(self.name)}")
        object.__setattr__(self, "title", self.title or self.name)


@dataclass(frozen=True)
class TaskObserved:
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

    @property
    def at_once(self) -> int:
        """As in the environment itself."""
        return self.of.at_once

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
    def session(self) -> Iterator[Self]:
        """As in the environment itself."""
        with self.of.session() as of:
            yield replace(self, of=of)
