"""Several processes train as one: the same weights, metrics and tests, stopped or killed anywhere."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forks import together
from innerloop import cli
from innerloop.core.outer import objective_gradient
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks, joined
from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder
from innerloop.training import Config, Interrupted, Progress, train
from planting import plants
from tiny import CONFIG, FLAGS

pytestmark = pytest.mark.usefixtures("made_images")


def trained(config: Config, resume: bool = False) -> Callable[[], int]:
    def work() -> int:
        train(config, "run", resume=resume)
        return 0

    return work


def weights(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return RunFolder(folder).load(which).weights


def assert_close(a: Path, b: Path) -> None:
    """The same run to rounding: weights, moments, metrics."""
    for kind in ("weights", "optimizer"):
        x, y = (getattr(RunFolder(f).load("last"), kind) for f in (a, b))
        assert x.keys() == y.keys()
        for name in x:
            torch.testing.assert_close(x[name], y[name], rtol=1e-4, atol=1e-5)
    for mine, other in zip(RunFolder(a).metrics, RunFolder(b).metrics, strict=True):
        assert {k: pytest.approx(v, rel=1e-4) for k, v in mine.items() if k != "seconds"} == {
            k: v for k, v in other.items() if k != "seconds"
        }


@plants("each process takes all tasks", "core.ranks:Ranks.share", lambda right: lambda self, tasks: slice(0, tasks))
@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 25])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_each_task_once_and_even(size: int, tasks: int) -> None:
    shares = [list(range(tasks))[Ranks(r, size).share(tasks)] for r in range(size)]
    assert [t for s in shares for t in s] == list(range(tasks))
    lengths = [len(s) for s in shares]
    assert max(lengths) - min(lengths) <= 1
    assert lengths[0] >= 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_of_three_processes_is_that_of_one(tmp_path: Path, reduction) -> None:
    """Five tasks do not divide by three; a closed form, in float64: loss_b = ½‖w − c_b‖² x_b."""
    g = generator_for(0, "ranks")
    from innerloop.core.episodes import Episodes

    centre = torch.randn(5, 1, 4, generator=g, dtype=torch.float64)
    episodes = Episodes(centre, centre[..., 0], centre, centre[..., 0])
    w = torch.randn(4, generator=g, dtype=torch.float64, requires_grad=True)

    def objective(parameters, chunk):
        return 0.5 * (parameters["w"] - chunk.query_x[:, 0]).square().sum(-1), chunk.query_x

    def work() -> int:
        with joined() as ranks:
            assert ranks.size == 3
            found = objective_gradient(
                objective, {"w": w}, episodes, lambda x, _: x[:, 0, 0], task_chunk=1, reduction=reduction, ranks=ranks
            )
            share = 5 if reduction == "mean" else 1
            torch.testing.assert_close(found.gradient["w"], ((w - centre[:, 0]).sum(0) / share).detach())
            assert torch.equal(found.score, centre[:, 0, 0])
            assert abs(found.loss - 0.5 * float((w.detach() - centre[:, 0]).square().sum()) / share) < 1e-12
        return 0

    assert together(3, tmp_path / "three", work) == [0, 0, 0]


@plants("no sum over the processes", "core.ranks:Ranks.sum", lambda right: lambda self, tensor: tensor)
@plants("a step stops one process alone", "core.ranks:Ranks.any", lambda right: lambda self, flag: flag)
def test_two_processes_train_as_one_also_when_they_are_stopped(tmp_path: Path) -> None:
    """Catches lost tasks, files that both write, a stop at different steps, and a resume that needs as many."""
    config = replace(CONFIG, outer=replace(CONFIG.outer, meta_batch=3), task_chunk=1)
    train(config, tmp_path / "one")

    def cut() -> int:
        def stop(p: Progress) -> None:  # the first process alone is told
            if p.step == 3:
                signal.raise_signal(signal.SIGTERM)

        try:
            train(config, "run", report=stop)
        except Interrupted as stopped:
            return stopped.step
        return 70

    assert together(2, tmp_path / "two", cut) == [3, 3]
    assert together(3, tmp_path / "two", trained(config, resume=True)) == [0, 0, 0]
    assert_close(tmp_path / "one", tmp_path / "two" / "run")


def test_the_command_tests_with_all_processes_and_the_same_scores(tmp_path: Path, monkeypatch) -> None:
    """Per-episode scores of a test that two processes share, in order, are those of one on the same weights."""
    monkeypatch.chdir(tmp_path)

    def work() -> int:
        return cli.run(["train", *FLAGS, "--threads", "1", "--out", "run"])

    assert together(2, tmp_path / "two", work) == [0, 0], [f.read_text() for f in tmp_path.glob("two/*.log")]
    run = tmp_path / "two" / "run"
    (shared,) = RunFolder(run).evaluations
    (run / "eval.json").unlink()
    assert cli.run(["evaluate", str(run)]) == 0
    (alone,) = RunFolder(run).evaluations
    assert shared["per_episode"] == alone["per_episode"]
    assert (shared["steps"], shared["mean"]) == (alone["steps"], alone["mean"])
    assert "best on validation" in (tmp_path / "two" / "0.log").read_text()
    assert (tmp_path / "two" / "1.log").read_text() == ""


def test_other_configurations_and_too_few_tasks_are_refused(tmp_path: Path) -> None:
    def different() -> int:
        try:
            train(replace(CONFIG, seed=int(os.environ["RANK"])), "run")
        except InnerloopError as error:
            return 3 if "configuration" in str(error) or os.environ["RANK"] == "0" else 4
        return 0

    found = together(2, tmp_path / "a", different)
    assert found[1] == 3
    assert found[0] != 0

    def few() -> int:
        try:
            train(CONFIG, "run")  # two tasks
        except InnerloopError as error:
            return 3 if "2 tasks" in str(error) and "3 processes" in str(error) else 4
        return 0

    assert together(3, tmp_path / "b", few) == [3, 3, 3]


def test_a_folder_that_must_not_be_written_to_stops_all(tmp_path: Path) -> None:
    train(CONFIG, tmp_path / "two" / "run")

    def again() -> int:
        return cli.run(["train", *FLAGS, "--threads", "1", "--out", "run"])

    assert together(2, tmp_path / "two", again) == [1, 1]
    assert "finished run" in (tmp_path / "two" / "0.log").read_text()
    assert (tmp_path / "two" / "1.log").read_text() == ""


def test_a_killed_process_ends_all_and_the_checkpoint_stands(tmp_path: Path) -> None:
    config = replace(CONFIG, outer=replace(CONFIG.outer, steps=8), task_chunk=1)
    train(config, tmp_path / "one")

    def work() -> int:
        from innerloop.training import build

        learners, rank = build.learners, os.environ["RANK"]

        def dying(config, model):
            at = learners(config, model)

            def of_step(step):
                if rank == "1" and step == 5:
                    os.kill(os.getpid(), signal.SIGKILL)
                return at(step)

            return of_step

        build.learners = dying
        try:
            train(config, "run")
        except InnerloopError as error:
            return 3 if "--resume" in str(error) else 4
        return 0

    assert together(2, tmp_path / "two", work) == [3, -signal.SIGKILL]
    assert RunFolder(tmp_path / "two" / "run").step("last") == 4
    train(config, tmp_path / "two" / "run", resume=True)
    assert_close(tmp_path / "one", tmp_path / "two" / "run")


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == ALONE
        assert ranks.any(flag=True)
        assert ranks.from_first(lambda: 5) == 5


def test_a_dry_run_of_several_processes_is_one_estimate(tmp_path: Path) -> None:
    """Each process had a temporary folder of its own, which training together refuses."""

    def work() -> int:
        return cli.run(["train", *FLAGS, "--dry-run", "--out", "mine"])

    assert together(2, tmp_path / "two", work) == [0, 0]
    first, second = ((tmp_path / "two" / f"{rank}.log").read_text() for rank in (0, 1))
    assert "about" in first
    assert "into mine" in first
    assert "about" not in second
    assert not (tmp_path / "two" / "mine").exists()


def test_other_commands_run_in_one_process(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.run(["study"]) == 2
    assert "study" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun_trains_is_stopped_and_resumes(tmp_path: Path) -> None:
    """The whole command as a user gives it: Ctrl-C reaches torchrun, which tells its processes."""
    preset = "--preset sinusoid-10shot --outer.steps 1000 --outer.meta-batch 4 --validation.every 100"
    flags = [*preset.split(), "--validation.episodes", "10", "--test.episodes", "10", "--out", "run"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "innerloop",
    ]
    process = subprocess.Popen([*command, "train", *flags], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not log.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    folder = RunFolder(tmp_path / "run")
    assert folder.has("last")
    assert not folder.finished
    subprocess.run([*command, "train", *flags, "--resume"], cwd=tmp_path, check=True, timeout=300)
    assert folder.summary["steps"] == 1000
    (row,) = folder.evaluations
    assert row["episodes"] == 10
