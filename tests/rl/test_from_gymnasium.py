"""A user's Gymnasium environments, one by one or vectorised, as ours."""

import functools
from typing import Any

import numpy as np
import pytest
import torch

from naming import names
from planting import but, plants

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.spaces import Box, Discrete  # noqa: E402
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv  # noqa: E402

from innerloop.core.functional import slow_weights  # noqa: E402
from innerloop.core.random import generator_for  # noqa: E402
from innerloop.errors import InnerloopError  # noqa: E402
from innerloop.rl.environment import Environment, TaskObserved  # noqa: E402
from innerloop.rl.from_gymnasium import VectorSimulator, from_gymnasium, from_vector  # noqa: E402
from innerloop.rl.policy import gaussian_policy  # noqa: E402
from innerloop.rl.sampling import Trajectories, sample  # noqa: E402


class Cart(gymnasium.Env[np.ndarray, np.ndarray]):
    """A number that starts at random and is pushed to a hidden goal; ends beyond 1.2, is cut after 9 steps."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = Box(-np.inf, np.inf, (1, 2), np.float32)
    action_space = Box(-0.5, 0.5, (1, 1), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.goal = np.zeros(1)
        self.given: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.steps = self.np_random.uniform(-1, 1), 0
        return self.seen, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.given.append(action)
        self.place, self.steps = self.place + float(action[0, 0]), self.steps + 1
        return self.seen, -abs(self.place - float(self.goal[0])), abs(self.place) > 1.2, self.steps == 9, {}

    def render(self) -> Any:
        return np.full((2, 2, 3), self.steps, np.uint8)

    @property
    def seen(self) -> np.ndarray:
        return np.array([[self.place, self.steps]], np.float32)


def goals(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (n, 1))


def set_goal(env: Any, task: np.ndarray) -> None:
    env.goal = task


def set_goals(env: Any, tasks: np.ndarray) -> None:
    env.set_attr("goal", list(tasks))


def cart(copies: int = 4) -> Environment:
    return from_gymnasium("cart", Cart, goals, set_goal, copies=copies, horizon=12)


def walked(environment: Environment, tasks: int = 3, rollouts: int = 4) -> tuple[torch.Tensor, Trajectories]:
    sim = environment.make(12, 1)
    policy = gaussian_policy(2, 1, generator=generator_for(0, "init"))
    where = sim.sample_tasks(tasks, generator_for(1, "tasks"))
    with torch.no_grad():
        fast = {"head.bias": torch.arange(tasks)[:, None] / 10}  # each task its own
        return where, sample(policy, slow_weights(policy), fast, sim, where, rollouts, generator_for(2, "rollouts"))


@plants(
    "actions are not cut to their bounds",
    "rl.from_gymnasium:np",
    lambda right: but(right, clip=lambda action, low, high: action),
)
@plants(
    "every rollout begins by one seed",
    "rl.from_gymnasium:VectorSimulator.reset",
    lambda right: lambda *given: torch.zeros_like(right(*given)),
)
@plants(
    "a trajectory continues beyond its end",
    "rl.from_gymnasium:Step",
    lambda right: lambda state, reward, ended: right(state, reward, torch.zeros_like(ended)),
)
def test_a_trajectory_is_that_of_the_environment_by_hand() -> None:
    tasks, found = walked(cart())
    assert 0 < int(found.alive.sum()) < found.alive.numel()
    first = set()
    for k in range(3):
        for n in range(4):
            place = float(found.observations[k, n, 0, 0])
            first.add(place)
            for t in range(9):
                assert bool(found.alive[k, n, t])
                assert found.observations[k, n, t].tolist() == pytest.approx([place, t], abs=1e-6)
                place += float(found.actions[k, n, t, 0].clamp(-0.5, 0.5))
                assert float(found.rewards[k, n, t]) == pytest.approx(-abs(place - float(tasks[k])), abs=1e-5)
                if abs(place) > 1.2 or t == 8:
                    assert not bool(found.alive[k, n, t + 1 :].any())
                    break
    assert len(first) == 12  # each rollout starts by a seed of its own


@plants(
    "a task goes to the environments of another",
    "rl.from_gymnasium:VectorSimulator.observe",
    lambda right: lambda self, tasks, state: right(self, tasks.flip(0), state),
)
@pytest.mark.parametrize("copies", [1, 3, 5, 8, 30])
def test_the_number_of_copies_changes_nothing(copies: int) -> None:
    """Whole tasks at a time, a part of one, more than there are rollouts."""
    (_, one), (_, other) = walked(cart(12)), walked(cart(copies))
    whole = one.alive
    assert torch.equal(other.alive, whole)
    for name in ("observations", "actions"):
        a, b = (getattr(t, name)[whole] for t in (one, other))
        assert torch.allclose(a, b, atol=1e-6), name
    assert torch.allclose(one.rewards, other.rewards, atol=1e-6)


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_vectorised_environments(kind: Any) -> None:
    """In processes of their own, too; the task is an attribute of each."""
    env = from_vector("carts", functools.partial(kind, [Cart] * 2), goals, set_goals, horizon=12)
    (_, one), (_, other) = walked(cart()), walked(env)
    assert torch.equal(one.alive, other.alive)
    assert torch.allclose(one.rewards, other.rewards, atol=1e-6)
    assert env.film is None


def test_the_oracle_sees_the_task() -> None:
    told = TaskObserved(cart().make(12, 1))
    tasks = told.sample_tasks(2, generator_for(0))
    assert (told.observation_size, told.task_size, told.action_size, told.at_once) == (3, 1, 1, 4)
    assert torch.equal(told.observe(tasks, told.reset(tasks, 2, generator_for(0)))[:, 1, 2].float(), tasks[:, 0])


def test_its_film_is_the_environments_own() -> None:
    film = cart().film
    assert film is not None
    env = film(np.array([0.3]))
    env.reset(seed=0)
    assert env.unwrapped.goal.tolist() == [0.3]
    env.step(np.array([[9.0]], np.float32))
    assert env.unwrapped.given[-1].tolist() == [[0.5]]
    assert env.render().max() == 1
    without = from_gymnasium("cart", lambda: Cart(), goals, set_goal).film
    assert without is not None
    assert without(np.zeros(1)) is None


def test_what_cannot_be_is_refused() -> None:
    sim = cart().make(12, 1)
    tasks = sim.sample_tasks(1, generator_for(0))
    state = sim.reset(tasks, 1, generator_for(0))
    with pytest.raises(InnerloopError, match=names("state")):
        sim.step(tasks, state, torch.zeros(1, 1, 1))  # before the first observation
    sim.observe(tasks, state)
    after = sim.step(tasks, state, torch.zeros(1, 1, 1)).state
    with pytest.raises(InnerloopError, match=names("state")):
        sim.step(tasks, state, torch.zeros(1, 1, 1))
    sim.step(tasks, after, torch.zeros(1, 1, 1))

    class Switch(Cart):
        action_space = Discrete(2)

    with pytest.raises(InnerloopError, match=names("SyncVectorEnv", "Discrete(2)")):
        _ = from_gymnasium("switch", Switch, goals, set_goal).make(5, 1).action_size
    for wrong in (np.zeros((2, 1)), np.zeros(1), np.full((1, 1), np.nan)):
        sim = VectorSimulator(lambda: None, lambda _n, _rng, w=wrong: w, set_goal, 5)
        with pytest.raises(InnerloopError, match=names("[1, size]")):
            sim.sample_tasks(1, generator_for(0))
