"""Independent trainings at once: processes of this machine, jobs of Slurm, tasks of Ray.

The run folder is the protocol: each work trains into a folder of its own and continues what is there, so that the same
command starts again what was stopped or killed. All machines must see the same folders.
"""

import importlib
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch

from innerloop.errors import InnerloopError
from innerloop.rl.config import Config as RlConfig
from innerloop.rl.environment import Environment
from innerloop.rl.train import train as train_policy
from innerloop.runs import RunError, RunFolder
from innerloop.studies.result import without_speed_settings
from innerloop.training import Config, Interrupted, Progress, train
from innerloop.training.loop import stop_on_signals

T = TypeVar("T")
Launcher = Literal["local", "slurm", "ray"]
_PACKAGES = {"slurm": "submitit", "ray": "ray"}


@dataclass(frozen=True)
class Training:
    """One run that is wanted."""

    config: Config | RlConfig
    folder: Path
    data_dir: Path | None = None
    until: int = 0
    """the outer step with a checkpoint at which `train_one` stops for now; 0: the end"""

    @property
    def steps(self) -> int:
        """Outer steps, as far as it is to be trained."""
        return self.until or (self.config.outer.steps if isinstance(self.config, Config) else self.config.iterations)

    @property
    def done(self) -> int:
        """Outer steps done, as far as metrics.jsonl tells."""
        folder = RunFolder(self.folder)
        if folder.finished:
            return self.steps
        try:
            return min(int(folder.metrics[-1]["step"]), self.steps)
        except (IndexError, RunError, OSError):  # not started, or a line is being written
            return 0


def finished_run(
    wanted: Training, report: Callable[[Progress], None] = lambda _: None, *, env: Environment | None = None
) -> RunFolder:
    """The run: used if it is finished, continued if it was started, with the threads and the device that it was started
    with, trained if it is not there. `env` is as in `innerloop.rl.train.train`. RunError if the folder holds a run of
    another configuration."""
    config, folder = wanted.config, RunFolder(wanted.folder)
    if folder.exists:
        found = folder.config_as(type(config).from_json)
        if _same_result(found) != _same_result(config):
            raise RunError(f"{folder.path} was trained with another configuration; give another --out")
        if folder.finished:
            return folder
        config = found
    if isinstance(config, Config):
        return train(config, folder.path, data_dir=wanted.data_dir, resume=folder.exists, report=report)
    return train_policy(config, folder.path, env=env, resume=folder.exists, report=report)


def _same_result(config: Config | RlConfig) -> Config | RlConfig:
    return without_speed_settings(config) if isinstance(config, Config) else replace(config, threads=0)


class _Far(Exception):
    """As far as it was to be trained."""


def train_one(wanted: Training) -> None:
    """`finished_run` as a work of `fan_out`: on one thread if the config names no number, and to `wanted.until`."""
    folder = RunFolder(wanted.folder)
    if wanted.until and folder.has("last") and folder.step("last") >= wanted.until:
        return

    def stop(p: Progress) -> None:
        if p.step == wanted.until < p.steps:
            raise _Far

    with suppress(_Far):
        finished_run(replace(wanted, config=replace(wanted.config, threads=wanted.config.threads or 1)), stop)


def train_together(
    wanted: Sequence[Training],
    *,
    jobs: int,
    launcher: Launcher = "local",
    options: Mapping[str, str] = {},
    logs: Path = Path("jobs"),
    report: Callable[[int, int, int, int], None] = lambda *_: None,
) -> None:
    """Train them by `fan_out`, finished runs used and unfinished ones continued.

    `report` is called with how many runs are finished, how many there are, the outer steps done and all outer steps.
    Raises InnerloopError if a training failed, the others being kept, and Interrupted if it was stopped.
    """
    steps = sum(w.steps for w in wanted)

    def watch() -> None:
        finished = sum(w.done == w.steps for w in wanted)
        report(finished, len(wanted), sum(w.done for w in wanted), steps)

    try:
        failed = fan_out(train_one, wanted, jobs=jobs, launcher=launcher, options=options, logs=logs, watch=watch)
    except KeyboardInterrupt:
        raise Interrupted(logs.parent, sum(w.done for w in wanted), "the same command") from None
    if failed:
        place, why = next(iter(failed.items()))
        raise InnerloopError(
            f"{len(failed)} of {len(wanted)} trainings failed, the first is {wanted[place].folder}: {why}"
        )


def fan_out(
    work: Callable[[T], None],
    items: Sequence[T],
    *,
    jobs: int = 1,
    launcher: Launcher = "local",
    options: Mapping[str, str] = {},
    logs: Path = Path("jobs"),
    watch: Callable[[], None] = lambda: None,
) -> dict[int, str]:
    """Call ``work(item)`` for each item and return what those that failed say, by their place.

    local: at most `jobs` processes of one thread each. slurm: a job each, through submitit; `options` are parameters of
    its ``AutoExecutor`` (timeout_min, slurm_partition, …; ``cluster=local`` tries it without Slurm), its files go to
    `logs`. ray: one task per training, started again elsewhere if its worker dies; `options` go to ``ray.init``
    (address). `work` and the items must pickle. `watch` is called at most once a second. Ctrl-C and SIGTERM stop all,
    each of which then has a checkpoint, and raise KeyboardInterrupt.
    """
    if jobs < 1:
        raise InnerloopError(f"--jobs must be at least 1, got {jobs}")
    if launcher != "local":
        try:
            package = importlib.import_module(_PACKAGES[launcher])
        except ImportError:
            raise InnerloopError(
                f"--launcher {launcher} needs a package: pip install 'innerloop[{launcher}]'"
            ) from None
        group = _Slurm(package, options, logs) if launcher == "slurm" else _Ray(package, options, jobs)
    else:
        group = _Processes(jobs)
    with stop_on_signals() as stopped:
        group.start(work, items)
        watched = -math.inf
        try:
            while not group.finished() and not stopped.is_set():
                if time.monotonic() - watched >= 1:
                    watch()
                    watched = time.monotonic()
                time.sleep(group.pause)
        finally:
            failed = group.end()
        watch()
    if stopped.is_set():
        raise KeyboardInterrupt
    return failed


class _Group(Generic[T]):
    """Works that run elsewhere."""

    pause = 1.0

    def start(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        raise NotImplementedError

    def finished(self) -> bool:
        """Whether all have ended, well or not."""
        raise NotImplementedError

    def end(self) -> dict[int, str]:
        """Stop what still runs, wait for it, and say what failed."""
        raise NotImplementedError


class _Processes(_Group[T]):
    pause = 0.05

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        ways = multiprocessing.get_all_start_methods()
        self.context: Any = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
        if "forkserver" in ways:  # one import of PyTorch for all of them
            self.context.set_forkserver_preload([__name__, "torch._dynamo"])  # which each optimizer imports

    def start(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        self.work, self.waiting = work, list(enumerate(items))
        self.running: dict[int, tuple[Any, Connection]] = {}
        self.failed: dict[int, str] = {}

    def finished(self) -> bool:
        while self.waiting and len(self.running) < self.jobs:
            place, item = self.waiting.pop(0)
            here, there = self.context.Pipe(duplex=False)
            process = self.context.Process(target=_in_process, args=(self.work, item, there, Path.cwd()))
            process.start()
            there.close()
            self.running[place] = (process, here)
        for place, (process, said) in list(self.running.items()):
            if process.is_alive():
                continue
            process.join()
            try:
                self.failed[place] = said.recv()
            except EOFError:
                if process.exitcode:
                    self.failed[place] = f"its process ended with status {process.exitcode}"
            said.close()
            del self.running[place]
        return not self.running and not self.waiting

    def end(self) -> dict[int, str]:
        self.waiting = []
        for process, _ in self.running.values():
            process.terminate()
        while not self.finished():
            time.sleep(self.pause)
        return self.failed


def _in_process(work: Callable[[T], None], item: T, said: Connection, here: Path) -> None:
    os.chdir(here)
    os.setpgrp()  # a Ctrl-C in the terminal is for the first process, which stops the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        work(item)
    except Interrupted:
        pass
    except (InnerloopError, FloatingPointError, OSError) as error:
        said.send(str(error))
    except Exception as error:
        traceback.print_exc()
        said.send(f"{type(error).__name__}: {error}")


class _Slurm(_Group[T]):
    def __init__(self, submitit: Any, options: Mapping[str, str], logs: Path) -> None:
        self.submitit = submitit
        settings: dict[str, Any] = {k: int(v) if v.lstrip("-").isdigit() else v for k, v in options.items()}
        self.executor = submitit.AutoExecutor(folder=str(logs), cluster=settings.pop("cluster", None))
        try:
            self.executor.update_parameters(**settings)
        except (TypeError, NameError) as error:
            raise InnerloopError(f"--option: {error}") from None

    def start(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        with self.executor.batch():
            self.running = [self.executor.submit(_Requeued(work), item) for item in items]

    def finished(self) -> bool:
        return all(job.done() for job in self.running)

    def end(self) -> dict[int, str]:
        stopped = [job for job in self.running if not job.done()]
        for job in stopped:
            job.cancel()
        failed: dict[int, str] = {}
        for place, job in enumerate(self.running):
            if job in stopped:
                continue
            try:
                error = job.exception()
            except self.submitit.core.utils.UncompletedJobError as lost:
                error = lost
            if error is not None:
                failed[place] = _last_line(error)
        return failed


class _Requeued:
    """A work that Slurm may stop and start again: it continues what is in its folder."""

    def __init__(self, work: Callable[[Any], None]) -> None:
        self.work = work

    def __call__(self, item: object) -> None:
        self.work(item)

    def checkpoint(self, item: object) -> Any:
        """What submitit queues when the time is up or the node is wanted for others."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, item)


def _last_line(error: BaseException) -> str:
    """The last line of an error that may hold a traceback, and below it where submitit's logs are."""
    lines = [s for s in str(error).split("You can check full logs")[0].splitlines() if s.strip(" -")]
    return lines[-1] if lines else type(error).__name__


class _Ray(_Group[T]):
    def __init__(self, ray: Any, options: Mapping[str, str], jobs: int) -> None:
        self.ray = ray
        self.own = not ray.is_initialized()
        if self.own:
            more = {} if "address" in options else {"num_cpus": jobs, "include_dashboard": False}
            ray.init(**options, **more, log_to_driver=False, logging_level="ERROR")

    def start(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        remote = self.ray.remote(num_cpus=1, max_retries=-1)(work)
        self.running = [remote.remote(item) for item in items]

    def finished(self) -> bool:
        done, _ = self.ray.wait(self.running, num_returns=len(self.running), timeout=0)
        return len(done) == len(self.running)

    def end(self) -> dict[int, str]:
        done, still = self.ray.wait(self.running, num_returns=len(self.running), timeout=0)
        for ref in still:
            self.ray.cancel(ref)  # a KeyboardInterrupt in the worker
        if still:
            self.ray.wait(still, num_returns=len(still), timeout=30)
        failed: dict[int, str] = {}
        for place, ref in enumerate(self.running):
            if ref not in done:
                continue
            try:
                self.ray.get(ref)
            except Exception as error:
                failed[place] = _last_line(getattr(error, "cause", None) or error)
        if self.own:
            self.ray.shutdown()
        return failed
