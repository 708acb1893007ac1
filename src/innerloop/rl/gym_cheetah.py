"""The half-cheetahs as Gymnasium environments: `innerloop/HalfCheetahDirection-v0`, `innerloop/HalfCheetahVelocity-v0`.

The physics and the file are those of Gymnasium's HalfCheetah-v5. Two things differ, besides the reward: the control
cost is 0.05 |a|², and the constraint solver starts cold at each control step, so that MuJoCo's batched rollouts give
the same trajectories to the last bit.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from innerloop.core.random import stream
from innerloop.errors import InnerloopError
from innerloop.rl.cheetah import FASTEST, NOISE, SECONDS, SUBSTEPS, Goal, HalfCheetah, model, observation, reward
from innerloop.rl.gym_checks import count, known, numbers
from innerloop.rl.optional import need

mujoco = need("mujoco")
_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


class _Cheetah(gymnasium.Env[np.ndarray, np.ndarray]):
    """What both have in common.

    The task is a number: given to the constructor or as ``reset(options={"task": x})``, it stays until another is
    given. Without any, each reset draws one. ``options={"state": s}`` sets the whole first state (19 numbers).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / SECONDS)}  # noqa: RUF012  Gymnasium's form
    goal: Goal

    def __init__(
        self,
        task: Any = None,
        render_mode: str | None = None,
        *,
        torso: bool = True,
        width: int = 240,
        height: int = 160,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise InnerloopError(f"render_mode must be rgb_array or None, got {render_mode!r}")
        self.render_mode = render_mode
        self.torso = torso
        self._model = model()
        self._data = mujoco.MjData(self._model)
        self._size = (height, width)
        self._renderer: Any = None
        self.observation_space = Box(-np.inf, np.inf, (20 if torso else 17,), np.float64)
        self.action_space = Box(-1.0, 1.0, (6,), np.float32)
        self._fixed = None if task is None else self._checked(task)
        self.task = self._checked(1.0) if self._fixed is None else self._fixed

    @classmethod
    def sample_tasks(cls, tasks: int, seed: int) -> np.ndarray:
        """Tasks [tasks, 1]; the same as the batched form draws from ``stream(seed, "tasks")``."""
        return HalfCheetah(goal=cls.goal).sample_tasks(count(tasks), stream(seed, "tasks")).numpy()

    def _checked(self, task: Any) -> np.ndarray:
        what = "a direction, -1 or 1" if self.goal == "direction" else "a target velocity in m/s"
        said = f"a task of this half-cheetah is {what}"
        found = numbers(task, 1, np.float32, said)
        if self.goal == "direction" and found[0] not in (-1.0, 1.0):
            raise InnerloopError(f"{said}; got {task!r}")
        return found

    def _state(self) -> np.ndarray:
        state = np.empty(mujoco.mj_stateSize(self._model, _FULL))
        mujoco.mj_getState(self._model, self._data, state, _FULL)
        return state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Back to the start; ``options`` may hold "task" and "state"."""
        super().reset(seed=seed)
        options = known(options, ("task", "state"))
        if "task" in options:
            self._fixed = self._checked(options["task"])
        if self._fixed is not None:
            self.task = self._fixed
        else:
            u = self.np_random.uniform()
            self.task = self._checked((-1.0 if u < 0.5 else 1.0) if self.goal == "direction" else u * FASTEST)
        mujoco.mj_resetData(self._model, self._data)
        if "state" in options:
            size = mujoco.mj_stateSize(self._model, _FULL)
            state = numbers(options["state"], size, np.float64, f"a state of the half-cheetah has {size} numbers")
            mujoco.mj_setState(self._model, self._data, state, _FULL)
        else:
            n = self._model.nq
            self._data.qpos[:] = self._model.qpos0 + self.np_random.uniform(-NOISE, NOISE, n)
            self._data.qvel[:] = NOISE * self.np_random.standard_normal(n)
        mujoco.mj_forward(self._model, self._data)
        return observation(self._state(), self.torso), {"task": self.task.copy()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Five substeps with the torques `action`, each cut to ±1."""
        torques = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        before = self._state()
        self._data.ctrl[:] = torques
        self._data.qacc_warmstart[:] = 0
        mujoco.mj_step(self._model, self._data, SUBSTEPS)
        after = self._state()
        gained = reward(self.goal, self.task.astype(np.float64)[0], before, after, torques)
        info = {"task": self.task.copy(), "x_position": after[1], "x_velocity": (after[1] - before[1]) / SECONDS}
        return observation(after, self.torso), float(gained), False, False, info

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The cheetah from the side, as an RGB picture. Needs OpenGL (without a display: MUJOCO_GL=egl or osmesa)."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            try:
                self._renderer = mujoco.Renderer(self._model, *self._size)
            except Exception as error:
                raise InnerloopError(
                    "the half-cheetah cannot be drawn, since MuJoCo finds no OpenGL here "
                    f"({type(error).__name__}: {error}); without a display install EGL or OSMesa and set MUJOCO_GL=egl "
                    "or MUJOCO_GL=osmesa"
                ) from None
        self._renderer.update_scene(self._data, camera="track")
        return self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


class HalfCheetahDirection(_Cheetah):
    """Run forwards (task 1) or backwards (task −1)."""

    goal = "direction"


class HalfCheetahVelocity(_Cheetah):
    """Run at a target velocity, 0 to 2 m/s."""

    goal = "velocity"
