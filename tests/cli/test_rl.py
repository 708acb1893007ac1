"""`innerloop rl`: train, evaluate, render."""

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.cli import rl
from innerloop.core.random import generator_for
from innerloop.rl import pictures
from innerloop.rl.cheetah import DIRECTION
from innerloop.rl.navigation import NAVIGATION
from innerloop.rl.policy import gaussian_policy
from innerloop.rl.presets import PRESETS, preset
from innerloop.rl.sampling import Trajectories
from innerloop.runs import RunError, RunFolder, read_json

FLAGS = shlex.split("""
    --iterations 2 --meta-batch 2 --rollouts 3 --trpo.curvature-rollouts 2 --horizon 4 --policy.hidden 5
    --validation.every 1 --validation.tasks 2 --test.tasks 3 --test.rollouts 2 --test.steps 2 --threads 1
""")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert rl.run([]) == 0
    assert "train" in capsys.readouterr().out
    assert rl.run(["dance"]) == 2
    assert "'dance'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        rl.run(["train", "--help-all", "--preset", "cheetah-velocity-2020", "--method", "anil"])
    out = capsys.readouterr().out
    assert all(p.name in out and p.about in out for p in PRESETS)
    assert "(default: 64 64)" in out
    assert "(default: anil)" in out
    assert "(default: cheetah-velocity)" in out
    with pytest.raises(ValueError, match="did you mean 'navigation-2019'"):
        rl.run(["train", "--preset", "navigation-2018"])


def test_train_evaluate_render(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r"
    assert rl.run(["train", *FLAGS, "--method", "anil", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "trained 2 meta-iterations" in said
    assert "return ± ci95" in said
    assert RunFolder(out).finished
    (row,) = read_json(out / "eval.json")["evaluations"]
    assert (row["method"], row["tasks"], len(row["steps"]), row["checkpoint"]) == ("anil", 3, 3, "best")
    assert len(row["returns"]) == 3
    with pytest.raises(RunError, match="finished"):
        rl.run(["train", *FLAGS, "--method", "anil", "--out", str(out)])

    for more in (
        ["--adapt", "all"],
        ["--adapt", "hidden1", "head"],
        ["--which", "untrained"],
        ["--learner", "random-search"],
        ["--steps", "1", "--tasks", "2"],
        ["--steps", "1", "--tasks", "2"],  # the same again takes the other's place
    ):
        assert rl.run(["evaluate", str(out), *more]) == 0
    rows = read_json(out / "eval.json")["evaluations"]
    assert len(rows) == 6
    untrained = next(r for r in rows if r["checkpoint"] == "untrained")
    assert untrained["step"] == 0
    assert len(rows[-1]["steps"]) == 2
    searched = next(r for r in rows if r["learner"] == "random-search")
    assert searched["steps"][0]["mean"] == pytest.approx(row["steps"][0]["mean"], abs=1e-4)  # the same tasks and noise
    with pytest.raises(ValueError, match="random search"):
        rl.run(["evaluate", str(out), "--learner", "random-search", "--adapt", "head"])
    with pytest.raises(ValueError, match="--later-lr is a rate of gradient steps"):
        rl.run(["evaluate", str(out), "--learner", "random-search", "--later-lr", "1"])
    for names in (["all", "head"], ["hidden1", "none"], ["head", "body"]):
        with pytest.raises(ValueError, match=r"--adapt (all|none|body) stands alone"):
            rl.run(["evaluate", str(out), "--adapt", *names])
    with pytest.raises(ValueError, match=r"test\.steps must be at least 0, got -1"):
        rl.run(["evaluate", str(out), "--steps", "-1"])

    other = ["render", str(out), "--tasks", "2", "--which", "untrained", "--steps", "1"]
    assert rl.run(other) == 0
    assert {p.name for p in out.glob("*.gif")} == {"film-untrained-1-steps.gif"}
    assert rl.run(["render", str(out), "--tasks", "4"]) == 0
    for name in ("trajectories.png", "learning_curve.png", "film.gif"):
        with Image.open(out / name) as picture:
            assert picture.size[0] > 200
    with Image.open(out / "film.gif") as film:
        assert getattr(film, "n_frames", 1) > 1


def test_damaged_files_are_named(tmp_path: Path) -> None:
    """Not: a KeyError of the drawing, a TypeError of the comparison."""
    out = tmp_path / "r"
    assert rl.run(["train", *FLAGS, "--out", str(out)]) == 0
    metrics = (out / "metrics.jsonl").read_text()
    (out / "metrics.jsonl").write_text(metrics + '{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 3, has no number 'return_before'"):
        rl.run(["render", str(out), "--no-film"])
    (out / "metrics.jsonl").write_text(metrics)
    (out / "finished.json").unlink()
    for path in (out / "checkpoints").glob("*/state.json"):
        path.write_text(json.dumps({**read_json(path), "best": "x"}))
    with pytest.raises(RunError, match="has no good 'best'; train again"):
        rl.run(["train", *FLAGS, "--out", str(out), "--resume"])
    config = read_json(out / "config.json")
    (out / "config.json").write_text(json.dumps({**config, "horizon": "ten"}))
    with pytest.raises(RunError, match=r"config\.json: horizon must be an integer, got 'ten'"):
        rl.run(["evaluate", str(out)])


def test_more_rollouts_of_curvature_than_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rl.run(["train", "--rollouts", "4", "--out", str(tmp_path / "r")])
    err = " ".join(capsys.readouterr().err.split())
    assert "curvature_rollouts 5 is above rollouts 4" in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("tasks", [0, -3, 61])
def test_a_picture_of_no_or_too_many_tasks_is_refused(tasks: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"1 to 60 tasks, got --tasks {tasks}"):
        rl.run(["render", str(tmp_path), "--tasks", str(tasks)])


class Noted:
    """A stand-in for an environment that notes what it is told, and ends after three steps."""

    def __init__(self) -> None:
        self.actions: list[np.ndarray] = []

    def reset(self, *, seed: int) -> tuple[np.ndarray, dict[str, object]]:
        return np.full(2, 0.5 + seed, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        self.actions.append(action)
        return np.zeros(2, np.float32), 0.0, len(self.actions) == 3, False, {}

    def render(self) -> np.ndarray:
        return np.full((2, 2, 3), len(self.actions), np.uint8)


@pytest.mark.parametrize("method", ["maml", "oracle"])
def test_a_film_shows_the_mean_action_of_the_weights_given(method: str) -> None:
    config = replace(preset("navigation-cpu"), method=method, action_scale=0.5)
    task = torch.tensor([0.3, -0.2])
    seen = [[0.5, 0.5], [0.0, 0.0], [0.0, 0.0]]
    if method == "oracle":
        seen = [[*s, *task.tolist()] for s in seen]
    policy = gaussian_policy(len(seen[0]), 2, hidden=(4,), generator=generator_for(0, "init"))
    slow = {n: p.detach() for n, p in policy.named_parameters()}
    fast = {"head.bias": torch.tensor([[0.25, -0.5]])}
    for weights in ({}, fast):
        env = Noted()
        shown = pictures.film(env, task, policy, slow, weights, config)
        bias = weights["head.bias"][0] if weights else slow["head.bias"]
        mean = policy(torch.tensor(seen))[:, :2].detach() - slow["head.bias"] + bias
        assert np.stack(env.actions) == pytest.approx((0.5 * mean).numpy(), abs=1e-6)
        assert [int(p.max()) for p in shown] == [0, 1, 2, 3]


def test_the_film_is_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "r"
    assert rl.run(["train", *FLAGS, "--method", "anil", "--out", str(out)]) == 0
    given: list[set[str]] = []

    def film(_env: object, _task: object, _policy: object, _slow: object, fast: dict[str, torch.Tensor], *_: object):
        assert all(len(w) == 1 for w in fast.values())
        given.append(set(fast))
        return [np.zeros((2, 2, 3), np.uint8)]

    monkeypatch.setattr(pictures, "film", film)
    assert rl.run(["render", str(out)]) == 0
    assert given == [set(), {"head.weight", "head.bias", "head.log_std"}]
    for name in ("MUJOCO_GL", "DISPLAY"):  # as on a machine without a display
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    assert rl.run(["render", str(out), "--no-film"]) == 0
    assert "MUJOCO_GL" not in os.environ  # where there is no EGL, MuJoCo would not even be imported
    assert len(given) == 2
    assert rl.run(["render", str(out)]) == 0
    assert os.environ.get("MUJOCO_GL") == ("egl" if sys.platform == "linux" else None)


def test_many_cheetahs_are_drawn_in_rows() -> None:
    states = torch.randn(14, 2, 5, 20, generator=generator_for(0, "states"))
    found = Trajectories(states, states[..., :6], states[..., 0], torch.ones(14, 2, 5, dtype=torch.bool))
    figure = pictures.paths(DIRECTION, [found, found], torch.linspace(0, 2, 14)[:, None])
    assert tuple(figure.get_size_inches()) == pytest.approx((6 * 1.9, 3 * 2.2))
    drawn = [a for a in figure.axes if a.lines]
    assert [a.get_title() for a in drawn] == [f"task {float(x):.2g}" for x in torch.linspace(0, 2, 14)]
    assert drawn[13].lines[0].get_ydata() == pytest.approx(states[13, 0, :, 17].numpy())


def test_an_environment_without_a_drawing_shows_its_rewards() -> None:
    """Never another's drawing; a trajectory that ended stays where it was."""
    rewards = torch.tensor([[[1.0, 2.0, 4.0], [1.0, 0.0, 0.0]]])
    alive = torch.tensor([[[True, True, True], [True, False, False]]])
    found = Trajectories(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 1), rewards, alive)
    figure = pictures.paths(replace(NAVIGATION, name="other", draw=None), [found, found], torch.zeros(1, 7))
    (axes,) = (a for a in figure.axes if a.lines)
    assert [line.get_ydata().tolist() for line in axes.lines[:2]] == [[1, 3, 7], [1, 1, 1]]
    assert axes.get_title() == "4 → 4"


def test_without_adaptation_there_is_one_row_of_returns(tmp_path: Path) -> None:
    out = tmp_path / "r"
    assert rl.run(["train", *FLAGS, "--method", "multitask", "--out", str(out)]) == 0
    assert rl.run(["evaluate", str(out), "--adapt", "all"]) == 0  # fine-tuning of what was trained without it
    plain, tuned = read_json(out / "eval.json")["evaluations"]
    assert len(plain["steps"]) == 1
    assert len(tuned["steps"]) == 3
    assert plain["steps"][0] == tuned["steps"][0]
