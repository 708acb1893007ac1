"""2D-Navigation: a point walks to a goal that it is not told (Finn et al. 2017, section 5.3 and appendix A.2)."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.rl.simulator import Step
from innerloop.validated import Count, NonNegative, Positive, Validated


@dataclass(frozen=True)
class Navigation(Validated):
    """The batched form, plain tensor arithmetic on any device.

    A task is a goal (x, y), uniform in the square ±`reach`; the state and the observation are the position, which
    starts at the origin. An action is a step, each coordinate cut to ±`longest`. The reward is minus the distance to
    the goal after the step, and a rollout ends within `radius` of the goal in both coordinates.

    The paper's text says minus the *squared* distance; both public code bases, and so the published numbers, take the
    distance. `squared` gives the text's.
    """

    horizon: Count = 100
    reach: Positive = 0.5
    longest: Positive = 0.1
    radius: NonNegative = 0.01
    squared: bool = False

    @property
    def observation_size(self) -> int:
        """x and y"""
        return 2

    @property
    def action_size(self) -> int:
        """A step in x and one in y."""
        return 2

    @property
    def task_size(self) -> int:
        """The goal's x and y."""
        return 2

    def sample_tasks(self, tasks: int, generator: torch.Generator) -> Float[Tensor, "tasks 2"]:
        """Goals, uniform in the square."""
        return (torch.rand(tasks, 2, generator=generator, device=generator.device) * 2 - 1) * self.reach

    def reset(
        self,
        tasks: Float[Tensor, "tasks 2"],
        rollouts: int,
        generator: torch.Generator,  # noqa: ARG002  every rollout starts at the origin
    ) -> Float[Tensor, "tasks rollouts 2"]:
        """All at the origin."""
        return tasks.new_zeros(len(tasks), rollouts, 2)

    def observe(
        self,
        tasks: Float[Tensor, "tasks 2"],  # noqa: ARG002  the goal is not seen
        state: Float[Tensor, "tasks rollouts 2"],
    ) -> Float[Tensor, "tasks rollouts 2"]:
        """The position."""
        return state

    def step(
        self,
        tasks: Float[Tensor, "tasks 2"],
        state: Float[Tensor, "tasks rollouts 2"],
        action: Float[Tensor, "tasks rollouts 2"],
    ) -> Step:
        """Move, then measure the distance that is left."""
        state = state + action.clamp(-self.longest, self.longest)
        away = state - tasks[:, None]
        x, y = away.unbind(-1)
        square = x * x + y * y  # in this order: the Gymnasium form rounds alike
        # PyTorch's and NumPy's float32 roots differ in the last bit; those of float64, rounded, agree
        reward = -square if self.squared else -square.double().sqrt().to(square.dtype)
        return Step(state, reward, (away.abs() < self.radius).all(-1))

    def working(self) -> AbstractContextManager[Self]:
        """Itself: its arithmetic is PyTorch's."""
        return nullcontext(self)
