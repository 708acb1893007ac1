"""Any MuJoCo model as a batched simulator, on MuJoCo's own multi-threaded rollouts."""

import atexit
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InnerloopError
from innerloop.rl.environment import Step
from innerloop.rl.optional import need

Array = np.ndarray


def gymnasium_model(file: str) -> Path:
    """The path of a model that Gymnasium ships, such as ant.xml."""
    need("gymnasium")
    where = importlib.util.find_spec("gymnasium")
    assert where is not None
    assert where.origin is not None
    return Path(where.origin).parent / "envs" / "mujoco" / "assets" / file


@dataclass(frozen=True, eq=False)
class MujocoSimulator:
    """Many copies of a model, on the CPU, states in float64.

    A state is MuJoCo's whole one: time, positions, velocities (and activations of muscles), in this order. Rollouts
    start at the model's first positions, each plus a number uniform in ± `noise`, with velocities normal times `noise`.
    Each control step starts the constraint solver cold: the next state depends on state and action alone.
    """

    model: Callable[[], Any]
    """gives the mujoco.MjModel, always the same one (decorate it with functools.cache)"""
    tasks: Callable[[int, torch.Generator], Tensor]
    """draws so many tasks [tasks, size]"""
    observation: Callable[[Array], Array]
    """states [..., state] -> [..., observation]"""
    reward: Callable[[Array, Array, Array, Array], Any]
    """(tasks [tasks, 1, size], states before, after [tasks, rollouts, state], actions as they were cut [tasks,
    rollouts, action]) -> [tasks, rollouts]"""
    ended: Callable[[Array], Array] | None = None
    """states [tasks, rollouts, state] -> whether the rollout ends there; None: none does"""
    substeps: int = 5
    """of the model's time step, a control step"""
    noise: float = 0.1
    horizon: int = 200
    threads: int = 0
    """0: as many as PyTorch takes"""
    at_once = 0

    def __post_init__(self) -> None:
        need("mujoco")

    @property
    def observation_size(self) -> int:
        """As `observation` makes it."""
        return self.observation(np.zeros(self._state_size)).shape[-1]

    @property
    def action_size(self) -> int:
        """The model's actuators."""
        return self.model().nu

    @property
    def task_size(self) -> int:
        """As `tasks` makes it."""
        return self.tasks(1, torch.Generator()).shape[-1]

    @property
    def _state_size(self) -> int:
        return state_size(self.model())

    def sample_tasks(self, tasks: int, generator: torch.Generator) -> Float[Tensor, "tasks size"]:
        """As `tasks` draws them."""
        return self.tasks(tasks, generator)

    def reset(self, tasks: Tensor, rollouts: int, generator: torch.Generator) -> Tensor:
        """The first states [tasks, rollouts, state]."""
        model, kind = self.model(), torch.float64
        shape = (len(tasks), rollouts)
        place = (torch.rand((*shape, model.nq), generator=generator, dtype=kind) * 2 - 1) * self.noise
        speed = torch.randn((*shape, model.nv), generator=generator, dtype=kind) * self.noise
        start = torch.as_tensor(model.qpos0, dtype=kind)
        rest = torch.zeros(*shape, self._state_size - 1 - model.nq - model.nv, dtype=kind)
        return torch.cat([torch.zeros(*shape, 1, dtype=kind), place + start, speed, rest], -1)

    def observe(self, tasks: Tensor, state: Tensor) -> Tensor:  # noqa: ARG002  the task is not seen
        """[tasks, rollouts, observation] in float64."""
        return torch.from_numpy(self.observation(state.numpy()))

    def step(self, tasks: Tensor, state: Tensor, action: Tensor) -> Step:
        """One control step of every copy, the actions cut to the range of the actuators."""
        model = self.model()
        low, high = np.where(model.actuator_ctrllimited, model.actuator_ctrlrange.T, [[-np.inf], [np.inf]])
        cut = np.clip(action.double().numpy(), low, high)
        before = state.numpy()
        n = before.shape[0] * before.shape[1]
        flat = np.ascontiguousarray(before.reshape(n, -1))
        control = np.ascontiguousarray(np.broadcast_to(cut.reshape(n, 1, -1), (n, self.substeps, cut.shape[-1])))
        states = np.empty((n, self.substeps, flat.shape[1]))
        sensors = np.empty((n, self.substeps, model.nsensordata))
        pool, data = _pool(self.model, self.threads or torch.get_num_threads())
        pool.rollout(
            [model] * n, data, flat, control, nstep=self.substeps, state=states, sensordata=sensors, skip_checks=True
        )
        after = np.ascontiguousarray(states[:, -1].reshape(before.shape))
        gained = self.reward(tasks.double().numpy()[:, None], before, after, cut)
        ended = np.zeros(before.shape[:2], bool) if self.ended is None else self.ended(after)
        return Step(torch.from_numpy(after), torch.as_tensor(gained), torch.as_tensor(ended))

    @contextmanager
    def session(self) -> Iterator[Self]:
        """Itself, with PyTorch on one thread: its others would wait, spinning, on the cores that MuJoCo needs."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield replace(self, threads=self.threads or before)
        finally:
            torch.set_num_threads(before)


def state_size(model: Any) -> int:
    """Numbers in a state of the model."""
    mujoco = need("mujoco")
    return mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)


@cache
def _pool(model: Callable[[], Any], threads: int) -> tuple[Any, list[Any]]:
    """MuJoCo's thread pool, and one working memory a thread."""
    mujoco = need("mujoco")
    pool = need("mujoco.rollout").Rollout(nthread=threads if threads > 1 else 0)
    return pool, [mujoco.MjData(model()) for _ in range(threads)]


def mujoco_picture(
    model: Callable[[], Any], camera: str = "track", width: int = 240, height: int = 160
) -> Callable[[Tensor, Tensor], np.ndarray]:
    """For `Environment.picture`: the latest state, seen by a camera of the model. Needs OpenGL (without a display:
    MUJOCO_GL=egl or osmesa)."""

    def picture(task: Tensor, states: Tensor) -> np.ndarray:  # noqa: ARG001  the task is not seen
        mujoco = need("mujoco")
        renderer, data = _renderer(model, width, height)
        mujoco.mj_setState(model(), data, states[-1].numpy(), mujoco.mjtState.mjSTATE_FULLPHYSICS)
        mujoco.mj_forward(model(), data)
        renderer.update_scene(data, camera=camera)
        return renderer.render()

    return picture


@cache
def _renderer(model: Callable[[], Any], width: int, height: int) -> tuple[Any, Any]:
    mujoco = need("mujoco")
    try:
        made = mujoco.Renderer(model(), height, width)
    except Exception as error:
        raise InnerloopError(
            f"there is no film, since MuJoCo finds no OpenGL here ({type(error).__name__}: {error}); without a display "
            "install EGL or OSMesa and set MUJOCO_GL=egl or MUJOCO_GL=osmesa"
        ) from None
    atexit.register(made.close)
    return made, mujoco.MjData(model())
