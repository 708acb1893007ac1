"""Gymnasium's environments, one by one or vectorised, as environments of ours.

ANT = from_gymnasium("ant", make=AntGoal, tasks=lambda n, rng: rng.uniform(-1, 1, (n, 2)),
                     set_task=lambda env, task: setattr(env.unwrapped, "goal", task))
"""

import inspect
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.rl.environment import Environment, Step
from innerloop.rl.optional import need

Tasks = Callable[[int, np.random.Generator], np.ndarray]
"""(n, generator) -> n tasks [n, size]"""


def from_gymnasium(
    name: str,
    make: Callable[..., Any],
    tasks: Tasks,
    set_task: Callable[[Any, np.ndarray], None],
    *,
    copies: int = 20,
    **more: Any,
) -> Environment:
    """An environment from one of Gymnasium's, of which `copies` are made in this process.

    `make` is its class or any function that gives a new one; for a film it is called with ``render_mode="rgb_array"``.
    `tasks` draws tasks, rows of numbers. `set_task` takes an environment and a task [size], before each reset. `more`
    are fields of `Environment`: horizon, title, settings, …

    Actions are cut to the bounds of the action space. A trajectory ends where the environment terminates or truncates
    it. The same seeds give the same trajectories if they do in the environment.
    """

    def vector() -> Any:
        return need("gymnasium").vector.SyncVectorEnv([make] * copies)

    def set_tasks(env: Any, rows: np.ndarray) -> None:
        for one, task in zip(env.envs, rows, strict=True):
            set_task(one, task)

    def film(task: np.ndarray) -> Any:
        parameters = inspect.signature(make).parameters.values()
        if not any(p.name == "render_mode" or p.kind == p.VAR_KEYWORD for p in parameters):
            return None
        env = make(render_mode="rgb_array")
        if "rgb_array" not in env.metadata.get("render_modes", ()):
            return None
        set_task(env, task)
        return need("gymnasium").wrappers.ClipAction(env)

    return from_vector(name, vector, tasks, set_tasks, film=film, **more)


def from_vector(
    name: str,
    make: Callable[[], Any],
    tasks: Tasks,
    set_tasks: Callable[[Any, np.ndarray], None],
    **more: Any,
) -> Environment:
    """An environment from a vectorised one of Gymnasium's, such as an AsyncVectorEnv; see `from_gymnasium`.

    `make` gives the vector environment, which runs as many rollouts at a time as it has environments: all rollouts of a
    task at once are a good number, or as many as there are cores. `set_tasks` takes it and the tasks [environments,
    size] before each reset: ``lambda env, tasks: env.set_attr("goal", list(tasks))``.
    """
    return Environment(name, lambda horizon, _threads: VectorSimulator(make, tasks, set_tasks, horizon), **more)


@dataclass(frozen=True, eq=False)
class VectorSimulator:
    """The simulator of `from_vector`. A state is a rollout's seed at the beginning, then its observation; the rest of
    it lies in the environments, so a rollout can continue from the latest state only."""

    make: Callable[[], Any]
    tasks: Tasks
    set_tasks: Callable[[Any, np.ndarray], None]
    horizon: int
    _latest: list[Tensor] = field(default_factory=list, repr=False)

    @cached_property
    def env(self) -> Any:
        """The vector environment, closed with this simulator."""
        made, box = self.make(), need("gymnasium").spaces.Box
        for what in ("observation", "action"):
            if not isinstance(space := getattr(made, f"single_{what}_space"), box):
                raise InnerloopError(
                    f"the {what}s of {made.spec.id if made.spec else type(made).__name__} are {space}, not a Box of "
                    "numbers; wrap the environment (gymnasium.wrappers.FlattenObservation)"
                )
        weakref.finalize(self, made.close)
        return made

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return int(np.prod(self.env.single_observation_space.shape))

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return int(np.prod(self.env.single_action_space.shape))

    @property
    def task_size(self) -> int:
        """Numbers in a task."""
        return self.sample_tasks(1, generator_for(0)).shape[1]

    @property
    def at_once(self) -> int:
        """The environments that there are."""
        return self.env.num_envs

    def sample_tasks(self, tasks: int, generator: torch.Generator) -> Float[Tensor, "tasks size"]:
        """As `tasks` draws them."""
        seed = int(torch.randint(2**62, (), generator=generator))
        rows = np.asarray(self.tasks(tasks, np.random.default_rng(seed)), np.float64)
        if rows.ndim != 2 or len(rows) != tasks or not np.isfinite(rows).all():
            raise InnerloopError(f"tasks({tasks}, …) must give finite numbers [{tasks}, size], not {rows.shape}")
        return torch.from_numpy(rows).float()

    def reset(self, tasks: Tensor, rollouts: int, generator: torch.Generator) -> Tensor:
        """Seeds [tasks, rollouts, 1], by which `observe` starts the environments."""
        return torch.randint(2**31 - 1, (len(tasks), rollouts, 1), generator=generator)

    def observe(self, tasks: Tensor, state: Tensor) -> Tensor:
        """[tasks, rollouts, observation]"""
        if state.is_floating_point():
            return state
        rows = tasks.double().repeat_interleave(state.shape[1], 0).numpy()
        self.set_tasks(self.env, self._filled(rows))
        seen, _ = self.env.reset(seed=self._filled(state.flatten().numpy()).tolist())
        self._latest[:] = [state]
        return self._rows(seen, state).flatten(2)

    def step(self, tasks: Tensor, state: Tensor, action: Tensor) -> Step:  # noqa: ARG002  the environments know theirs
        """Every environment takes its action; what comes after an end is another trajectory and counts nowhere."""
        if not self._latest or self._latest[0] is not state:
            raise InnerloopError("a rollout of a Gymnasium environment can only continue from its latest state")
        space = self.env.single_action_space
        rows = self._filled(action.flatten(0, 1).double().numpy()).reshape(-1, *space.shape)
        seen, reward, terminated, truncated, _ = self.env.step(np.clip(rows, space.low, space.high).astype(space.dtype))
        after = self._rows(seen, state).flatten(2)
        self._latest[:] = [after]
        ended = np.asarray(terminated) | np.asarray(truncated)
        return Step(after, self._rows(reward, state), self._rows(ended, state).bool())

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        """One row for each environment; those without a rollout do what the last one does."""
        return np.concatenate([rows, np.repeat(rows[-1:], self.at_once - len(rows), 0)])

    def _rows(self, values: np.ndarray, state: Tensor) -> Tensor:
        """[environments, …] -> [tasks, rollouts, …] in float64"""
        tasks, rollouts = state.shape[:2]
        found = torch.as_tensor(np.array(values[: tasks * rollouts], np.float64))
        return found.view(tasks, rollouts, *found.shape[1:])

    def session(self) -> AbstractContextManager[Self]:
        """Itself."""
        return nullcontext(self)
