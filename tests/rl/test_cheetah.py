"""The half-cheetahs: batched equals single, rewards by hand, tasks as values."""

import os
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium")
mujoco = pytest.importorskip("mujoco")

from innerloop.core.functional import slow_weights  # noqa: E402
from innerloop.core.random import generator_for  # noqa: E402
from innerloop.rl import cheetah  # noqa: E402
from innerloop.rl.cheetah import DIRECTION, VELOCITY, half_cheetah  # noqa: E402
from innerloop.rl.environment import TaskObserved  # noqa: E402
from innerloop.rl.mujoco import MujocoSimulator  # noqa: E402
from innerloop.rl.policy import gaussian_policy  # noqa: E402
from innerloop.rl.sampling import sample  # noqa: E402

FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def slow_step(goal: cheetah.Goal, task: np.ndarray, state: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, float]:
    """One control step of one cheetah, by MuJoCo's step function: state and reward."""
    model = cheetah.model()
    data, after = mujoco.MjData(model), np.empty(19)
    mujoco.mj_setState(model, data, state, FULL)
    data.ctrl[:] = cut = np.clip(action.astype(np.float64), -1, 1)
    mujoco.mj_step(model, data, 5)
    mujoco.mj_getState(model, data, after, FULL)
    return after, float(cheetah.reward(goal, task.astype(np.float64), state, after, cut))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("goal", ["direction", "velocity"])
def test_batched_equals_single_to_the_last_bit(goal: cheetah.Goal, threads: int) -> None:
    """100 control steps: any difference at all would have grown to order one (the motion is chaotic)."""
    sim = half_cheetah(goal, threads=threads)
    tasks = sim.sample_tasks(2, generator_for(0, "tasks"))
    state = sim.reset(tasks, 2, generator_for(0, "reset"))
    actions = torch.randn(100, 2, 2, 6, generator=generator_for(0, "actions")) * 1.5  # some are cut
    alone = {at: state[at].numpy() for at in ((0, 1), (1, 0))}
    for a in actions:
        step = sim.step(tasks, state, a)
        state = step.state
        assert not bool(step.ended.any())
        for at in alone:
            alone[at], reward = slow_step(goal, tasks[at[0]].numpy(), alone[at], a[at].numpy())
            assert np.array_equal(alone[at], state[at].numpy())
            assert reward == float(step.reward[at])


@pytest.mark.parametrize("own", [0, 3])
def test_while_it_works_pytorch_keeps_to_one_thread(own: int) -> None:
    """PyTorch's own threads spin between its calls, on the cores that MuJoCo's need."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        told = TaskObserved(half_cheetah("direction", threads=own))
        with told.session() as env:
            assert torch.get_num_threads() == 1
            assert isinstance(env.of, MujocoSimulator)
            assert env.of.threads == (own or 2)
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), told.session():
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_sampling_works_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before, inside = torch.get_num_threads(), []
    step = MujocoSimulator.step
    torch.set_num_threads(2)

    def seen(self: MujocoSimulator, *args: Any) -> Any:
        inside.append((torch.get_num_threads(), self.threads))
        return step(self, *args)

    monkeypatch.setattr(MujocoSimulator, "step", seen)
    sim = half_cheetah("direction", 2, 2)
    policy = gaussian_policy(sim.observation_size, sim.action_size, generator=generator_for(0))
    try:
        sample(policy, slow_weights(policy), {}, sim, torch.ones(1, 1), 2, generator_for(0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert inside == [(1, 2)] * 2


def test_the_model_is_gymnasiums() -> None:
    """Against the file as it is; MuJoCo's warning on its total mass goes to the error stream."""
    from pathlib import Path

    assert gymnasium.__file__ is not None
    file = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml"
    other, own = mujoco.MjModel.from_xml_path(str(file)), cheetah.model()
    for name in ("body_mass", "body_inertia", "dof_invweight0", "body_invweight0", "actuator_gear", "qpos0"):
        assert np.array_equal(getattr(own, name), getattr(other, name)), name
    assert own.opt.timestep * cheetah.SUBSTEPS == cheetah.SECONDS


def test_rewards_by_hand() -> None:
    before, after = np.zeros(19), np.zeros(19)
    after[1] = 0.1  # 2 m/s
    a = np.array([1.0, -0.5, 0.0, 0.0, 0.0, 0.0])
    cost = 0.05 * 1.25
    assert float(cheetah.reward("direction", np.array([-1.0]), before, after, a)) == pytest.approx(-2 - cost)
    assert float(cheetah.reward("velocity", np.array([0.5]), before, after, a)) == pytest.approx(-1.5 - cost)
    sim = half_cheetah("velocity", threads=1)
    state = sim.reset(torch.tensor([[0.5]]), 1, generator_for(0))
    big = sim.step(torch.tensor([[0.5]]), state, torch.full((1, 1, 6), 9.0))
    one = sim.step(torch.tensor([[0.5]]), state, torch.ones(1, 1, 6))
    assert torch.equal(big.reward, one.reward)  # the cost is of the action that was cut


def test_observation_is_state_without_x_and_the_torso() -> None:
    sim = half_cheetah("direction", threads=1)
    tasks = torch.ones(1, 1)
    state = sim.reset(tasks, 1, generator_for(0))
    for _ in range(3):
        state = sim.step(tasks, state, torch.ones(1, 1, 6)).state
    data = mujoco.MjData(cheetah.model())
    data.qpos[:], data.qvel[:] = state[0, 0, 1:10].numpy(), state[0, 0, 10:].numpy()
    mujoco.mj_kinematics(cheetah.model(), data)
    seen = sim.observe(tasks, state)[0, 0].numpy()
    torso = data.xpos[mujoco.mj_name2id(cheetah.model(), mujoco.mjtObj.mjOBJ_BODY, "torso")]
    assert np.array_equal(seen[:8], data.qpos[1:])
    assert np.array_equal(seen[8:17], data.qvel)
    assert seen[17:] == pytest.approx(torso, abs=1e-12)
    short = half_cheetah("direction", threads=1, torso=False)
    assert np.array_equal(short.observe(tasks, state)[0, 0].numpy(), seen[:17])
    assert (sim.observation_size, short.observation_size) == (20, 17)


def test_tasks_and_first_states() -> None:
    ways, speeds = (e.make(1, 1).sample_tasks(400, generator_for(1, "tasks")).numpy() for e in (DIRECTION, VELOCITY))
    assert set(ways.ravel().tolist()) == {-1.0, 1.0}
    assert abs(ways.mean()) < 0.15
    assert speeds.min() >= 0
    assert speeds.max() <= 2
    assert speeds.mean() == pytest.approx(1.0, abs=0.1)
    first = half_cheetah("direction", threads=1).reset(torch.ones(20, 1), 20, generator_for(0))
    assert first.shape == (20, 20, 19)
    assert not bool(first[..., 0].any())
    assert float(first[..., 1:10].abs().max()) <= 0.1
    assert float(first[..., 1:10].std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)
    assert float(first[..., 10:].std()) == pytest.approx(0.1, rel=0.05)


@pytest.mark.skipif("MUJOCO_GL" not in os.environ and "DISPLAY" not in os.environ, reason="no OpenGL is named")
def test_picture() -> None:
    assert DIRECTION.picture is not None
    state = half_cheetah("direction", threads=1).reset(torch.ones(1, 1), 1, generator_for(0))
    shown = DIRECTION.picture(torch.ones(1), state[0])
    assert shown.shape == (160, 240, 3)
    assert shown.std() > 10
