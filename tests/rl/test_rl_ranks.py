"""Several processes meta-train one policy: their shares of the tasks add up to what one process does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forks import RL, together
from innerloop import cli
from innerloop.core.functional import slow_weights
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks
from innerloop.errors import InnerloopError
from innerloop.rl import build
from innerloop.rl.config import Config, MetaTest, Policy, Validation
from innerloop.rl.meta_test import meta_test
from innerloop.rl.sampling import collect, noise_of, sample
from innerloop.rl.train import train
from innerloop.rl.trpo import FisherProduct, Trpo, judge, surrogate_gradient
from innerloop.runs import RunFolder
from planting import plants

CONFIG = Config(
    horizon=5,
    policy=Policy(hidden=(6, 5)),
    iterations=3,
    meta_batch=5,
    rollouts=4,
    trpo=Trpo(curvature_rollouts=2, cg_iterations=4),
    validation=Validation(every=1, tasks=2),
    test=MetaTest(tasks=4, rollouts=3, steps=2),
    precision="float64",
    threads=1,
)


@plants(
    "each process draws noise of its own",
    "rl.sampling:sample",
    lambda right: lambda *a, share=slice(None), **k: right(*a[:4], a[4][share], *a[5:], **k),
)
def test_a_task_does_the_same_in_a_share_as_among_all() -> None:
    simulator = build.simulator(CONFIG)
    policy = build.policy(CONFIG, simulator)
    slow = slow_weights(policy)
    tasks = simulator.sample_tasks(5, generator_for(0, "tasks")).double()
    whole = sample(policy, slow, {}, simulator, tasks, 4, generator_for(0, "noise"))
    for share in (slice(0, 2), slice(2, 5), slice(4, 5)):
        part = sample(policy, slow, {}, simulator, tasks, 4, generator_for(0, "noise"), share=share)
        for name in ("observations", "actions", "rewards", "alive"):
            own = getattr(whole, name)[share][:, :, : part.alive.shape[2]]
            torch.testing.assert_close(getattr(part, name), own, rtol=1e-12, atol=1e-12)  # a matrix product's rounding


def test_gradient_curvature_and_divergence_of_three_processes_are_those_of_one(tmp_path: Path) -> None:
    """Five tasks do not divide by three. Catches a mean over the share's own tasks, and a sum that is left out."""

    def measured(ranks: Ranks) -> list[torch.Tensor]:
        simulator = build.simulator(CONFIG)
        policy = build.policy(CONFIG, simulator)
        learner, slow = build.learner(CONFIG, policy), slow_weights(policy)
        tasks = simulator.sample_tasks(5, generator_for(0, "tasks")).double()
        found = collect(learner, slow, simulator, tasks, CONFIG, noise_of(CONFIG, 0), ranks)
        value, gradient = surrogate_gradient(learner, slow, found.data, chunk=1)
        other = {n: p.detach() + 0.01 for n, p in slow.items()}
        product = FisherProduct(learner, slow, found.curvature, damping=0.5)
        numbers = torch.tensor([value, *judge(learner, other, found.data), float(found.steps)], dtype=torch.float64)
        return [numbers, gradient, product(gradient), *found.returns]

    alone = measured(ALONE)

    def work() -> int:
        from innerloop.core.ranks import joined

        with joined() as ranks:
            for mine, whole in zip(measured(ranks), alone, strict=True):
                torch.testing.assert_close(mine, whole, rtol=1e-9, atol=1e-12)
        return 0

    assert together(3, tmp_path / "three", work) == [0, 0, 0], [f.read_text() for f in tmp_path.glob("three/*.log")]


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_two_processes_train_and_validate_as_one(outer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, outer=outer)
    train(config, tmp_path / "one")

    def work() -> int:
        train(config, Path("run"))
        return 0

    assert together(2, tmp_path / "two", work) == [0, 0], [f.read_text() for f in tmp_path.glob("two/*.log")]
    one, two = (RunFolder(tmp_path / n) for n in ("one", "two/run"))
    for name, w in one.load("last").weights.items():
        torch.testing.assert_close(two.load("last").weights[name], w, rtol=1e-9, atol=1e-12)
    for mine, other in zip(two.metrics, one.metrics, strict=True):
        for key in ("return_before", "return_after", "loss_after", "kl", "environment_steps", "validation"):
            assert mine[key] == pytest.approx(other[key], rel=1e-9), key


def test_more_processes_than_test_tasks_give_the_returns_of_one(tmp_path: Path) -> None:
    simulator = build.simulator(CONFIG)
    policy = build.policy(CONFIG, simulator)
    settings = replace(CONFIG.test, tasks=2)
    alone = meta_test(policy, slow_weights(policy), simulator, CONFIG, settings=settings).values

    def work() -> int:
        from innerloop.core.ranks import joined

        with joined() as ranks:
            own = meta_test(policy, slow_weights(policy), simulator, CONFIG, settings=settings, ranks=ranks).values
        torch.testing.assert_close(own, alone, rtol=1e-9, atol=1e-12)
        return 0

    assert together(3, tmp_path / "three", work) == [0, 0, 0], [f.read_text() for f in tmp_path.glob("three/*.log")]


def test_the_command_writes_once_and_refuses_too_few_tasks(tmp_path: Path) -> None:
    def command(*more: str) -> Callable[[], int]:
        return lambda: cli.run(["rl", "train", *RL, *more, "--out", "run"])

    assert together(2, tmp_path / "two", command()) == [0, 0], [f.read_text() for f in tmp_path.glob("two/*.log")]
    (row,) = RunFolder(tmp_path / "two" / "run").evaluations
    assert row["tasks"] == 3
    assert "return" in (tmp_path / "two" / "0.log").read_text()
    assert (tmp_path / "two" / "1.log").read_text() == ""
    assert together(2, tmp_path / "two", command()) == [1, 1]
    assert "finished run" in (tmp_path / "two" / "0.log").read_text()

    def few() -> int:
        try:
            train(CONFIG, Path("run"))
        except InnerloopError as error:
            return 3 if "5 tasks" in str(error) and "6 processes" in str(error) else 4
        return 0

    assert together(6, tmp_path / "six", few) == [3] * 6
