"""2D-Navigation: a point walks to a goal that it is not told (Finn et al. 2017, section 5.3 and appendix A.2)."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.rl.environment import AFTER, BEFORE, GOAL, Environment, Step
from innerloop.validated import Count, NonNegative, Positive, Validated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PIXELS = 200


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

    observation_size = action_size = task_size = 2
    """x and y: of the point, of a step, of the goal"""
    at_once = 0

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
        square = x * x + y * y  # in this order, also in the tests' slow form
        # PyTorch's and NumPy's float32 roots differ in the last bit; those of float64, rounded, agree
        reward = -square if self.squared else -square.double().sqrt().to(square.dtype)
        return Step(state, reward, (away.abs() < self.radius).all(-1))

    def session(self) -> AbstractContextManager[Self]:
        """Itself: its arithmetic is PyTorch's."""
        return nullcontext(self)


def draw(axes: "Axes", task: Tensor, before: Tensor, after: Tensor) -> None:
    """Some walks and the goal, a cross."""
    for walks, colour in ((before, BEFORE), (after, AFTER)):
        for path in walks[:5]:
            axes.plot(*path.T.numpy(), color=colour, linewidth=0.8, alpha=0.8)
    axes.plot(*task.tolist(), "x", color=GOAL, markersize=8, markeredgewidth=2)
    axes.set_xlim(-0.8, 0.8)
    axes.set_ylim(-0.8, 0.8)
    axes.set_aspect("equal")
    axes.set_xticks([-0.5, 0, 0.5])
    axes.set_yticks([-0.5, 0, 0.5])


def picture(task: Tensor, states: Tensor) -> np.ndarray:
    """The way so far (blue) and the goal (red), as an RGB picture of 200×200 pixels, ±1 in both coordinates."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (_PIXELS, _PIXELS), "white")
    drawing = ImageDraw.Draw(image)
    x, y = (torch.stack([states[:, 0] + 1, 1 - states[:, 1]]) / 2 * (_PIXELS - 1)).tolist()
    way, goal = list(zip(x, y, strict=True)), [(float(task[0]) + 1) / 2, (1 - float(task[1])) / 2]
    drawing.line(way, fill=AFTER, width=1)
    for (px, py), colour in (((goal[0] * (_PIXELS - 1), goal[1] * (_PIXELS - 1)), GOAL), (way[-1], AFTER)):
        drawing.ellipse((px - 3, py - 3, px + 3, py + 3), fill=colour)
    return np.asarray(image)


NAVIGATION = Environment(
    "navigation",
    lambda horizon, threads: Navigation(horizon=horizon),  # noqa: ARG005  PyTorch's
    title="2D-Navigation",
    settings={"trpo": {"curvature_rollouts": 5}},
    task="a goal (x, y)",
    action_limit=0.1,
    draw=draw,
    picture=picture,
    published={"maml": "-20.3 ± 3.2", "anil": "-20.1 ± 2.3"},  # Raghu et al. 2020, table 2
)
