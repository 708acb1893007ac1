"""An environment as one of Gymnasium's; ours by name: ``make("innerloop.rl.as_gymnasium:innerloop/NAME-v0")``.

The module before the colon registers the names; after ``import innerloop.rl.as_gymnasium`` the part behind it is
enough. Gymnasium has no other way since 1.0: it no longer looks for entry points of installed packages.
"""

from typing import Any

import numpy as np
import torch

from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.rl.catalogue import ENVIRONMENTS, find
from innerloop.rl.environment import Environment
from innerloop.rl.optional import need

gymnasium = need("gymnasium")


class AsGymnasium(gymnasium.Env[np.ndarray, np.ndarray]):
    """One rollout of an environment (a value or a name): the batched simulator with one task and one rollout.

    The task is given to the constructor or as ``reset(options={"task": x})``, and stays until another is given. Without
    any, each reset draws one. ``options={"state": s}`` sets the whole first state.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  Gymnasium's form

    def __init__(self, environment: Environment | str, task: Any = None, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise InnerloopError(f"render_mode must be rgb_array or None, got {render_mode!r}")
        self.environment = find(environment) if isinstance(environment, str) else environment
        self.render_mode = render_mode
        self._simulator = self.environment.make(self.environment.horizon, 1)
        self._fixed = None if task is None else self._numbers(task, self._simulator.task_size, self._task)
        self._task_now = self._simulator.sample_tasks(1, generator_for(0))
        self._states = [self._simulator.reset(self._task_now, 1, generator_for(0))]
        limit, kind = self.environment.action_limit, self._observation().dtype.type
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._simulator.observation_size,), kind)
        self.action_space = gymnasium.spaces.Box(-limit, limit, (self._simulator.action_size,), np.float32)

    def sample_tasks(self, tasks: int, seed: int) -> np.ndarray:
        """Tasks [tasks, size]; the same as a run draws from ``generator_for(seed, "tasks")``."""
        if tasks < 1:
            raise InnerloopError(f"sample_tasks draws at least 1 task, got {tasks}")
        return self._simulator.sample_tasks(tasks, generator_for(seed, "tasks")).numpy()

    @property
    def task(self) -> np.ndarray:
        """The task of this trajectory [size]."""
        return self._task_now[0].numpy().copy()

    @property
    def _task(self) -> str:
        return f"a task of {self.environment.title} is {self.environment.task}"

    def _numbers(self, value: Any, size: int, what: str) -> torch.Tensor:
        """`value` as a tensor [size] of finite numbers; one number may stand without brackets, or with more of them."""
        try:
            found = np.array(value, np.float64)  # a copy: what the caller does to its own later changes nothing
        except (TypeError, ValueError):
            found = np.empty(0)
        if found.size == size == 1:
            found = found.reshape(1)
        if found.shape != (size,) or not np.isfinite(found).all():
            raise InnerloopError(f"{what} ({size} number{'' if size == 1 else 's'}); got {value!r}")
        return torch.from_numpy(found)

    def _observation(self) -> np.ndarray:
        return self._simulator.observe(self._task_now, self._states[-1])[0, 0].numpy().copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Back to the start; ``options`` may hold "task" and "state"."""
        super().reset(seed=seed)
        options = options or {}
        if unknown := [k for k in options if k not in ("task", "state")]:
            raise InnerloopError(f"reset knows the options task, state; got {', '.join(map(repr, unknown))}")
        if "task" in options:
            self._fixed = self._numbers(options["task"], self._simulator.task_size, self._task)
        generator = generator_for(int(self.np_random.integers(2**62)), "reset")
        drawn = self._simulator.sample_tasks(1, generator)
        self._task_now = drawn if self._fixed is None else self._fixed[None].to(drawn.dtype)
        first = self._simulator.reset(self._task_now, 1, generator)
        if "state" in options:
            what = f"a state of {self.environment.title} is a row of numbers"
            first = self._numbers(options["state"], first.shape[-1], what)[None, None].to(first.dtype)
        self._states = [first]
        return self._observation(), {"task": self.task}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; the simulator cuts the action to its bounds."""
        given = torch.as_tensor(np.asarray(action), dtype=torch.float32)[None, None]
        step = self._simulator.step(self._task_now, self._states[-1], given)
        self._states.append(step.state)
        return self._observation(), float(step.reward), bool(step.ended), False, {"task": self.task}

    def render(self) -> np.ndarray | None:
        """An RGB picture, where the environment has one."""
        if self.render_mode is None or self.environment.picture is None:
            return None
        return self.environment.picture(self._task_now[0], torch.cat(self._states)[:, 0])


def filmed(environment: Environment, task: np.ndarray) -> Any:
    """A Gymnasium environment with that task which draws itself; None where the environment cannot be drawn."""
    if environment.film is not None:
        return environment.film(task)
    return AsGymnasium(environment, task, "rgb_array") if environment.picture else None


for _own in ENVIRONMENTS:
    gymnasium.register(
        id=f"innerloop/{_own.name}-v0",
        entry_point="innerloop.rl.as_gymnasium:AsGymnasium",
        kwargs={"environment": _own.name},
        max_episode_steps=_own.horizon,
    )
