"""Environments as Gymnasium's: names, its own checker, the batched form's numbers, tasks and states."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from naming import names

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from innerloop.core.random import generator_for  # noqa: E402
from innerloop.errors import InnerloopError  # noqa: E402
from innerloop.rl.as_gymnasium import AsGymnasium, filmed  # noqa: E402
from innerloop.rl.catalogue import ENVIRONMENTS  # noqa: E402
from innerloop.rl.environment import Environment  # noqa: E402
from innerloop.rl.navigation import NAVIGATION  # noqa: E402

EACH = pytest.mark.parametrize("own", ENVIRONMENTS, ids=lambda e: e.name)


@EACH
def test_passes_gymnasiums_checker(own: Environment) -> None:
    env = gymnasium.make(f"innerloop.rl.as_gymnasium:innerloop/{own.name}-v0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it would rather have bounded observations
        check_env(env.unwrapped, skip_render_check=True)
    assert env.spec is not None
    assert env.spec.max_episode_steps == own.horizon


@EACH
def test_its_numbers_are_those_of_the_batched_form(own: Environment) -> None:
    sim = own.make(10, 1)
    tasks = sim.sample_tasks(2, generator_for(0, "tasks"))
    state = sim.reset(tasks, 3, generator_for(0, "reset"))
    actions = torch.randn(10, 2, 3, sim.action_size, generator=generator_for(0, "actions"))
    env = AsGymnasium(own)
    seen, info = env.reset(options={"task": tasks[1].numpy(), "state": state[1, 2].numpy()})
    assert np.array_equal(info["task"], tasks[1].numpy())
    for a in actions:
        assert np.array_equal(seen, sim.observe(tasks, state)[1, 2].numpy())
        step = sim.step(tasks, state, a)
        seen, reward, over, cut, _ = env.step(a[1, 2].numpy())
        assert (reward, over, cut) == (float(step.reward[1, 2]), bool(step.ended[1, 2]), False)
        state = step.state
    assert np.array_equal(env.sample_tasks(5, 3), sim.sample_tasks(5, generator_for(3, "tasks")).numpy())


def test_a_straight_walk_has_the_return_of_a_sum() -> None:
    env = AsGymnasium("navigation", task=(0.5, 0.0))
    env.reset(seed=0)
    rewards, over = [], False
    while not over:
        _, r, over, _, _ = env.step(np.array([1.0, 0.0], np.float32))
        rewards.append(r)
    assert rewards == pytest.approx([-0.4, -0.3, -0.2, -0.1, 0.0], abs=1e-6)


def test_tasks_are_drawn_by_the_seed_or_given_and_stay() -> None:
    env = AsGymnasium(NAVIGATION)
    drawn = [env.reset(seed=s)[1]["task"] for s in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    goal = np.array([0.1, 0.2])
    env.reset(options={"task": goal})
    goal[:] = 0.4  # the caller's own
    assert env.reset()[1]["task"] == pytest.approx([0.1, 0.2])
    runner = AsGymnasium("cheetah-direction")
    for task in (-1, [-1.0], np.array([[-1.0]])):
        assert runner.reset(options={"task": task})[1]["task"].tolist() == [-1.0]


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        *(
            (lambda e, v=v: e.reset(options={"task": v}), ("task", "(x, y)", v))
            for v in ([0.1], [np.nan, 0.0], "x", None, [[1], [2]])
        ),
        *((lambda e, v=v: e.reset(options={"state": v}), ("state", v)) for v in ([1, 2, 3], [np.inf, 0], "x")),
        (lambda e: e.reset(options={"goal": [0.1, 0.2]}), ("'goal'", "task", "state")),
        (lambda e: e.sample_tasks(-1, 0), ("-1", 1)),
        (lambda _: AsGymnasium("navigation", render_mode="human"), ("render_mode", "'human'", "rgb_array")),
        (lambda _: AsGymnasium("navigatoin"), ("'navigatoin'", "'navigation'")),
    ],
)
def test_what_is_no_task_and_no_state_is_refused(mistake: Callable[[Any], Any], named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        mistake(AsGymnasium(NAVIGATION))


def test_it_is_drawn_if_the_environment_says_how() -> None:
    env = filmed(NAVIGATION, np.array([0.5, 0.5]))
    env.reset(seed=0)
    env.step(np.array([0.1, 0.1], np.float32))
    assert env.render().shape == (200, 200, 3)
    assert AsGymnasium(NAVIGATION).render() is None
    assert filmed(replace(NAVIGATION, picture=None), np.zeros(2)) is None
