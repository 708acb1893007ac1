"""2D-Navigation: the batched form against a slow one in NumPy, tasks as values, pictures."""

import math

import numpy as np
import pytest
import torch

from innerloop.core.functional import slow_weights
from innerloop.core.random import generator_for
from innerloop.rl.environment import TaskObserved
from innerloop.rl.navigation import NAVIGATION, Navigation, picture
from innerloop.rl.policy import gaussian_policy
from innerloop.rl.sampling import sample


def slow_step(place: np.ndarray, goal: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
    """One step of one point, in float32: place, reward, end."""
    longest, radius = np.float32(0.1), np.float32(0.01)
    place = place + np.minimum(np.maximum(action, -longest), longest)
    x, y = place - goal
    return place, -np.float32(math.sqrt(x * x + y * y)), bool(abs(x) < radius and abs(y) < radius)


def test_same_trajectories_as_the_slow_form_to_the_last_bit() -> None:
    """Also catches: reward before the move, an end that is judged before the move, actions that are not cut."""
    nav = Navigation(horizon=40)
    policy = gaussian_policy(2, 2, generator=generator_for(0, "init"))
    goals = nav.sample_tasks(4, generator_for(5, "tasks"))
    found = sample(policy, slow_weights(policy), {}, nav, goals, 4, generator_for(0, "r"), action_scale=0.1)
    goals[3] = found.observations[3, 1, 6]  # a place that the walk comes by: there it will end
    found = sample(policy, slow_weights(policy), {}, nav, goals, 4, generator_for(0, "r"), action_scale=0.1)
    ended = 0
    for k in range(len(goals)):
        for n in range(4):
            place = np.zeros(2, np.float32)
            for t in range(found.alive.shape[-1]):
                assert np.array_equal(place, found.observations[k, n, t].numpy())
                place, reward, over = slow_step(place, goals[k].numpy(), (found.actions[k, n, t] * 0.1).numpy())
                assert reward == float(found.rewards[k, n, t])
                if over:
                    ended += 1
                    assert not bool(found.alive[k, n, t + 1 :].any())
                    assert not bool(found.rewards[k, n, t + 1 :].any())  # they would count in the return
                    break
                assert t + 1 == found.alive.shape[-1] or bool(found.alive[k, n, t + 1])
    assert ended


def test_by_hand() -> None:
    nav = Navigation()
    goal = torch.tensor([[0.3, -0.4]])
    step = nav.step(goal, torch.zeros(1, 1, 2), torch.tensor([[[5.0, -0.05]]]))
    assert torch.equal(step.state, torch.tensor([[[0.1, -0.05]]]))
    assert float(step.reward) == pytest.approx(-((0.2**2 + 0.35**2) ** 0.5))
    assert float(Navigation(squared=True).step(goal, step.state * 0, step.state * 0).reward) == pytest.approx(-0.25)
    near = nav.step(goal, torch.tensor([[[0.305, -0.395], [0.305, -0.38]]]), torch.zeros(1, 2, 2))
    assert near.ended.tolist() == [[True, False]]


def test_goals_are_uniform_in_the_square() -> None:
    goals = Navigation().sample_tasks(500, generator_for(3, "tasks")).numpy()
    assert np.abs(goals).max() <= 0.5
    assert np.abs(goals.mean(0)).max() < 0.06
    assert goals.std(0) == pytest.approx([12**-0.5] * 2, rel=0.1)
    assert NAVIGATION.make(7, 0) == Navigation(horizon=7)


def test_picture_shows_goal_and_way() -> None:
    shown = picture(torch.tensor([0.5, 0.5]), torch.tensor([[0.0, 0.0], [0.1, 0.1]]))
    assert shown.shape == (200, 200, 3)
    assert tuple(shown[50, 149]) == (0xD5, 0x5E, 0x00)  # the goal, up and to the right
    blue = (shown == (0x00, 0x72, 0xB2)).all(-1)
    assert bool(blue[89, 109])  # the point
    assert bool(blue[93:97, 102:106].any())  # its way


def test_samples_depend_on_the_generator_alone() -> None:
    nav = Navigation(horizon=5)
    policy = gaussian_policy(2, 2, generator=generator_for(0, "init"))
    goals = nav.sample_tasks(2, generator_for(0, "tasks"))
    slow = slow_weights(policy)
    one, same, other = (sample(policy, slow, {}, nav, goals, 3, generator_for(0, "r", i)) for i in (1, 1, 2))
    assert torch.equal(one.actions, same.actions)
    assert torch.equal(one.rewards, same.rewards)
    assert not torch.equal(one.actions, other.actions)
    assert not torch.equal(one.actions[0, 0], one.actions[0, 1])
    assert not torch.equal(one.actions[0, 0], one.actions[1, 0])


def test_each_task_acts_with_its_own_fast_weights() -> None:
    nav = Navigation(horizon=3)
    policy = gaussian_policy(2, 2, log_std=-20.0, generator=generator_for(0, "init"))
    slow = slow_weights(policy)
    fast = {"head.bias": torch.tensor([[0.01, 0.0], [0.0, 0.02]])}
    found = sample(policy, slow, fast, nav, torch.full((2, 2), 0.4), 2, generator_for(0, "r"))
    assert torch.allclose(found.actions[0, :, 0], torch.tensor([0.01, 0.0]), atol=1e-5)
    assert torch.allclose(found.actions[1, :, 0], torch.tensor([0.0, 0.02]), atol=1e-5)


def test_the_oracle_sees_its_task() -> None:
    nav = TaskObserved(Navigation())
    goals = nav.sample_tasks(2, generator_for(0, "tasks"))
    seen = nav.observe(goals, nav.reset(goals, 3, generator_for(0)))
    assert nav.observation_size == seen.shape[-1] == 4
    assert torch.equal(seen[:, 1, 2:], goals)


def test_the_spread_of_the_actions_is_the_policys() -> None:
    nav = Navigation(horizon=50, radius=0.0)
    policy = gaussian_policy(2, 2, log_std=0.7, generator=generator_for(0, "init"))
    slow = {n: torch.zeros_like(p) if "log_std" not in n else p for n, p in slow_weights(policy).items()}
    found = sample(policy, slow, {}, nav, nav.sample_tasks(4, generator_for(0, "t")), 50, generator_for(0, "r"))
    assert float(found.actions.std().log()) == pytest.approx(0.7, abs=0.02)
