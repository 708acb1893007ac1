"""The one training loop: step, log, validate, keep the best, checkpoint, stop on a signal, resume bit for bit.

A `Job` says what is trained. Few-shot methods, policies and the DAGAN are jobs, and so may be anything of yours.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from innerloop.core.ranks import ALONE, Ranks
from innerloop.errors import InnerloopError
from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import OPTIMIZER, Checkpoint, check_tensors, load_weights

_NEVER = -1e300
"""the best validation score before the first one, in a checkpoint"""


class Interrupted(Exception):
    """Training was stopped by the user; the checkpoint at `step` is on disk."""

    def __init__(self, path: Path, step: int, how: str = "") -> None:
        how = how or f"the same command with --resume --out {path}"
        super().__init__(f"stopped at step {step}; {how} continues from there")
        self.step = step


@dataclass(frozen=True)
class Progress:
    """What a training run reports after each step."""

    step: int
    """steps done"""
    steps: int
    """steps in all"""
    first: int
    """the step this process began at"""
    numbers: Mapping[str, float]
    """what this step gave"""
    validation: float | None
    """the latest validation score"""


@dataclass(frozen=True)
class Job:
    """What `run` trains."""

    steps: int
    step: Callable[[int], Mapping[str, Any]]
    """takes one step, from 0 on, and returns its numbers; what it draws depends on the step alone. Raises
    FloatingPointError if they are not finite"""
    tensors: Mapping[str, Tensor]
    """what `step` changes in place, by name: the weights of a checkpoint"""
    optimizers: Sequence[tuple[torch.optim.Optimizer, Mapping[str, Tensor]]]
    """each with the tensors that it steps"""
    every: int
    """steps between validations and checkpoints"""
    validate: Callable[[], Mapping[str, float]] = dict
    """numbers to be logged; "validation" chooses the best checkpoint"""
    larger_is_better: bool | None = True
    """of the validation score; None: there is none, and no best checkpoint"""
    averaged: Sequence[str] = ()
    """the numbers of `step` that metrics.jsonl has as means over the steps since its last line"""
    log_every: int = 1
    """steps between lines of metrics.jsonl; there is one at each validation"""
    keep_every: int = 0
    """steps between checkpoints that are kept for good; 0: none"""
    state: Mapping[str, Any] = field(default_factory=dict)
    """further entries of a checkpoint's state.json"""


def run(
    job: Job,
    out: Path,
    config: Mapping[str, Any],
    *,
    read: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    resume: bool = False,
    tensorboard: bool = False,
    ranks: Ranks = ALONE,
    report: Callable[[Progress], None] = lambda _: None,
) -> RunFolder:
    """Train `job` into the run folder `out`, whose config.json holds `config`.

    Of several processes (`ranks`), whose `job.step` gives all the same weights, the first writes and reports; a signal
    to any of them stops all after the same step.

    `read` brings the config of an earlier version into today's form. Ctrl-C, SIGTERM and SIGHUP finish the running
    step, write a checkpoint and raise `Interrupted`. Raises RunError for a folder that may not be written to,
    FloatingPointError as `job.step` does (the last good checkpoint stays).
    """
    ranks.check_same((str(out), dict(config), resume), "a configuration")
    writer = _summary_writer() if tensorboard and ranks.first else None
    folder = RunFolder(out)
    with ExitStack() as held, stop_on_signals() as stopped:
        checkpoint = ranks.from_first(lambda: held.enter_context(folder.start(config, resume=resume, read=read)))
        board = held.enter_context(_board(writer, out, checkpoint))
        first, best, spent, count = 0, -math.inf, 0.0, 0
        sums = [0.0 for _ in job.averaged]
        validation: float | None = None
        if checkpoint:
            first = checkpoint.step
            unused = {} if job.averaged else {"sums": sums, "count": 0}  # earlier versions wrote none then
            unused |= {"best": _NEVER, "validation": None} if job.larger_is_better is None else {}
            checkpoint = replace(checkpoint, state=unused | checkpoint.state)
            best, spent, validation, sums, count = checkpoint.entries(
                best=float, seconds=float, validation=(float, NoneType), sums=[float] * len(sums), count=int
            )
            load_weights(job.tensors, checkpoint)
            for optimizer, own in job.optimizers:
                restore_optimizer(optimizer, own, checkpoint, job.tensors)
        began = time.perf_counter()

        def keep(step: int, *, is_best: bool = False, for_good: bool = False) -> None:
            state = {
                "best": best if math.isfinite(best) else _NEVER,
                "validation": validation,
                "seconds": spent + time.perf_counter() - began,
                "sums": sums,  # of the averaged numbers since the last line of metrics.jsonl, over `count` steps
                "count": count,
            }
            moments = {n: t for optimizer, own in job.optimizers for n, t in optimizer_state(optimizer, own).items()}
            now = Checkpoint(step, dict(job.tensors), moments, {**state, **job.state})
            if ranks.first:
                folder.save(now, best=is_best, for_good=for_good)

        for step in range(first, job.steps):
            try:
                numbers = job.step(step)
            except FloatingPointError as error:
                kept = f"; the last checkpoint in {out} is from before" if folder.has("last") else ""
                raise FloatingPointError(f"{error}{kept}") from None
            done, count = step + 1, count + 1
            sums = [s + numbers[name] for s, name in zip(sums, job.averaged, strict=True)]
            at_end = done == job.steps
            checks = done % job.every == 0 or at_end
            found = job.validate() if checks else {}
            validation = found.get("validation", validation)
            if done % job.log_every == 0 or checks:
                means = {name: s / count for s, name in zip(sums, job.averaged, strict=True)}
                seconds = spent + time.perf_counter() - began
                row = {"step": done, **numbers, **means, "seconds": seconds, **found}
                if ranks.first:
                    folder.log(row)
                for key, value in row.items():
                    if board is not None and key != "step" and not key.startswith("seconds"):
                        board.add_scalar(key, value, done)
                sums, count = [0.0 for _ in sums], 0
            if checks:
                signed = -math.inf if validation is None else validation if job.larger_is_better else -validation
                is_best, best = signed > best, max(best, signed)
                keep(done, is_best=is_best, for_good=job.keep_every > 0 and done % job.keep_every == 0)
            try:
                if ranks.first:
                    report(Progress(done, job.steps, first, numbers, validation))
            except OSError:  # a terminal or a pipe that is gone stops the training as a signal does
                stopped.set()
            if ranks.any(stopped.is_set()) and not at_end:
                if not checks:
                    keep(done)
                raise Interrupted(out, done)
        summary: dict[str, Any] = {"steps": job.steps}

        def finish() -> None:
            score = (
                {}
                if job.larger_is_better is None
                else {"best_step": folder.step("best"), "best_validation": best if job.larger_is_better else -best}
            )
            folder.finish(summary | score | {"seconds": spent + time.perf_counter() - began})

        ranks.from_first(finish)  # the others wait for the files
        if stopped.is_set():  # in the last step: the run is whole, but what would follow was not wanted
            raise KeyboardInterrupt
    return folder


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimizer's tensors, as KIND/NAME."""
    out: dict[str, Tensor] = {}
    for name, p in parameters.items():
        for key, value in optimizer.state.get(p, {}).items():
            out[f"{key}/{name}"] = torch.as_tensor(value)
    return out


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    everything: Mapping[str, Tensor] | None = None,
) -> None:
    """Give the optimizer of `parameters` its state back; `everything` are the tensors of all optimizers."""
    source = checkpoint.folder / OPTIMIZER
    of_others = set(everything or {}) - set(parameters)
    held = {k: v for k, v in checkpoint.optimizer.items() if k.partition("/")[2] not in of_others}
    whole = ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.Adam) else ()
    # Adam counts the steps of each parameter in a number of its own
    like = {f"{kind}/{n}": torch.tensor(0.0) if kind == "step" else p for n, p in parameters.items() for kind in whole}
    check_tensors(like, held, source)
    for key, value in held.items():
        kind, _, name = key.partition("/")
        p = parameters[name]
        if (kind == "step" and (value < 1 or value % 1)) or (kind == "exp_avg_sq" and bool((value < 0).any())):
            raise RunError(f"{source} is damaged: {key!r} has values that cannot be; train again")
        # the moments take the layout of their parameter, so that the arithmetic is the same to the last bit;
        # the fused Adam of a GPU counts its steps there
        fused = optimizer.defaults.get("fused")
        stored = value.to(p.device if fused else "cpu") if kind == "step" else torch.empty_like(p).copy_(value)
        optimizer.state[p][kind] = stored


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C, SIGTERM or SIGHUP (a closed terminal); a second one interrupts at once.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    caught = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    old = {s: signal.signal(s, stop) for s in caught}
    try:
        yield stopped
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


def _summary_writer() -> Any:
    """TensorBoard's writer class; says now, before anything is written, if the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InnerloopError("--tensorboard needs the package: pip install 'innerloop[tensorboard]'") from None
    return SummaryWriter


@contextmanager
def _board(writer: Any, path: Path, checkpoint: Checkpoint | None) -> Iterator[Any]:
    if writer is None:
        yield None
        return
    # TensorBoard drops what an interrupted run wrote from `purge_step` on; the checkpoint's own step is kept
    board = writer(str(path / "tensorboard"), purge_step=(checkpoint.step if checkpoint else 0) + 1)
    try:
        yield board
    finally:
        board.close()
