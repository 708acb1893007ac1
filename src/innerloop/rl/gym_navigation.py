"""2D-Navigation as a Gymnasium environment: `innerloop/Navigation2D-v0`.

The same arithmetic as the batched form, in the same order and in float32, and so the same trajectories to the last bit.
"""

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from innerloop.core.random import stream
from innerloop.errors import InnerloopError
from innerloop.rl.gym_checks import count, known, numbers
from innerloop.rl.navigation import Navigation

_PIXELS = 200


class Navigation2D(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point in the plane, a hidden goal; see `innerloop.rl.navigation.Navigation` for what happens.

    The task is the goal: given to the constructor or as ``reset(options={"task": goal})``, it stays until another is
    given. Without any, each reset draws one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  Gymnasium's form

    def __init__(self, task: Any = None, render_mode: str | None = None, *, squared: bool = False) -> None:
        if render_mode not in (None, "rgb_array"):
            raise InnerloopError(f"render_mode must be rgb_array or None, got {render_mode!r}")
        self.rules = Navigation(squared=squared)
        self.render_mode = render_mode
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = Box(-self.rules.longest, self.rules.longest, (2,), np.float32)
        self._fixed = None if task is None else self._goal(task)
        self.task = np.zeros(2, np.float32) if self._fixed is None else self._fixed
        self._longest = np.float32(self.rules.longest)
        self._place = np.zeros(2, np.float32)
        self._path = [self._place]

    @staticmethod
    def sample_tasks(tasks: int, seed: int) -> np.ndarray:
        """Goals [tasks, 2]; the same as the batched form draws from ``stream(seed, "tasks")``."""
        return Navigation().sample_tasks(count(tasks), stream(seed, "tasks")).numpy()

    @staticmethod
    def _goal(task: Any) -> np.ndarray:
        return numbers(task, 2, np.float32, "a task of 2D-Navigation is a goal (x, y)")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Back to the origin; ``options={"task": (x, y)}`` sets the goal."""
        super().reset(seed=seed)
        if "task" in (options := known(options, ("task",))):
            self._fixed = self._goal(options["task"])
        reach = self.rules.reach
        self.task = self.np_random.uniform(-reach, reach, 2).astype(np.float32) if self._fixed is None else self._fixed
        self._place = np.zeros(2, np.float32)
        self._path = [self._place]
        return self._place.copy(), {"task": self.task.copy()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move by the action, each coordinate cut to the longest step."""
        move = np.minimum(np.maximum(np.asarray(action, np.float32), -self._longest), self._longest)
        self._place = self._place + move
        self._path.append(self._place)
        away = self._place - self.task
        square = away[0] * away[0] + away[1] * away[1]
        reward = -square if self.rules.squared else -np.float32(math.sqrt(square))
        ended = bool((np.abs(away) < np.float32(self.rules.radius)).all())
        return self._place.copy(), float(reward), ended, False, {"task": self.task.copy()}

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The way so far (blue) and the goal (red), as an RGB picture of 200×200 pixels, ±1 in both coordinates."""
        if self.render_mode is None:
            return None
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (_PIXELS, _PIXELS), "white")
        draw = ImageDraw.Draw(picture)

        def at(p: np.ndarray) -> tuple[float, float]:
            return (float(p[0]) + 1) / 2 * (_PIXELS - 1), (1 - float(p[1])) / 2 * (_PIXELS - 1)

        def dot(p: np.ndarray, colour: str) -> None:
            x, y = at(p)
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)

        if len(self._path) > 1:
            draw.line([at(p) for p in self._path], fill="#0072b2", width=1)
        dot(self.task, "#d55e00")
        dot(self._place, "#0072b2")
        return np.asarray(picture)
