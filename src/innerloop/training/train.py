"""The outer loop over a whole run: episodes, meta-gradient, step, validation, checkpoint; resumable bit for bit."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages
from innerloop.core.outer import objective_gradient, outer_lr, outer_step
from innerloop.core.random import stream
from innerloop.core.threads import use_threads
from innerloop.data.dataset import Dataset, of_images
from innerloop.errors import InnerloopError
from innerloop.evaluation import evaluate
from innerloop.methods.method import Method
from innerloop.reference import give, is_reference
from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import OPTIMIZER, WEIGHTS, Checkpoint, check_tensors, load_weights
from innerloop.training import setup
from innerloop.training.config import Config

T = TypeVar("T")
_LOG_EVERY = 50
_VALIDATION_SEED = 2_000_003


class Interrupted(Exception):
    """Training was stopped by the user; the checkpoint at `step` is on disk."""

    def __init__(self, path: Path, step: int, how: str = "") -> None:
        how = how or f"the same command with --resume --out {path}"
        super().__init__(f"stopped at step {step}; {how} goes on from there")
        self.step = step


@dataclass(frozen=True)
class Progress:
    """What a training run reports after each outer step."""

    step: int
    """outer steps done"""
    steps: int
    """outer steps in all"""
    loss: float
    """meta-loss of this step's tasks"""
    score: float
    """accuracy (or mean squared error) on this step's query sets"""
    validation: float | None
    """the latest validation score"""
    first: int
    """the step this process began at"""


def ignore(_: Progress) -> None:
    """Report nothing."""


def train(
    config: Config = Config(),  # noqa: B008  frozen
    out: str | os.PathLike[str] = "",
    *,
    method: Method | None = None,
    model: nn.Sequential | None = None,
    data: Dataset | ClassImages | None = None,
    data_dir: Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    report: Callable[[Progress], None] = ignore,
) -> RunFolder:
    """Train as `config` says, into the run folder `out` (by default runs/DATA-METHOD-seedN).

    `method`, `model` (of which a copy is trained, from the weights that it has) and `data` take the place of those that
    `config` names. config.json then has their names alone, so that another process must be given them again, to resume
    and in `load_run`.

    Each step's episodes and the state of the optimizer depend on the seed and the step alone, so that a resumed run
    ends with the same weights as an uninterrupted one (bit for bit on a CPU with the same number of threads). Ctrl-C,
    SIGTERM and SIGHUP finish the running step, write a checkpoint and raise `Interrupted`.

    Raises RunError for a folder that must not be written to, FloatingPointError if loss or gradient is not finite
    (the last good checkpoint stays).
    """
    config = replace(config, **_given(config, method, model, data))
    use_threads(config.threads, stored=resume)
    writer = _summary_writer() if tensorboard else None
    device = setup.choose_device(config.device)
    images = setup.load_images(config, data_dir)
    train_tasks = setup.training_tasks(config, images)
    if images is not None:
        for split in ("val", "test"):
            setup.tasks(config, images, split, config.test.query)  # say now what would fail after hours
    net = setup.build_model(config, images)
    parameters = setup.learner(config, net).init()
    kinds = setup.losses(config)
    tested = setup.at_test(config, net)
    chunk = setup.chunk_size(config, device)
    trained = list(parameters.values())
    match config.outer.optimizer:
        case "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(trained, lr=config.outer.lr)
        case "adam":
            fused = device.type == "cuda" or None
            optimizer = torch.optim.Adam(trained, lr=config.outer.lr, foreach=False, fused=fused)
    out = Path(out or f"runs/{config.dataset.name}-{tested.method.name}-seed{config.seed}")
    folder = RunFolder(out)

    with (
        folder.start(config.to_json(), resume=resume, read=lambda c: Config.from_json(c).to_json()) as checkpoint,
        stop_on_signals() as stopped,
        _board(writer, out, checkpoint) as board,
    ):
        first, best, spent = 0, -math.inf, 0.0
        sums, count = [0.0, 0.0], 0
        validation: float | None = None
        if checkpoint:
            first = checkpoint.step
            best, spent, validation, sums, count = checkpoint.entries(
                best=float, seconds=float, validation=(float, NoneType), sums=[float, float], count=int
            )
            load_weights(parameters, checkpoint)
            restore_optimizer(optimizer, parameters, checkpoint)
        began = time.perf_counter()

        def keep(step: int, *, is_best: bool = False, for_good: bool = False) -> None:
            seconds = spent + time.perf_counter() - began
            state = {
                "best": best if math.isfinite(best) else -1e300,
                "validation": validation,
                "seconds": seconds,
                "sums": sums,  # of the loss and score since the last line of metrics.jsonl, over `count` steps
                "count": count,
            }
            folder.save(
                Checkpoint(step, dict(parameters), optimizer_state(optimizer, parameters), state),
                best=is_best,
                for_good=for_good,
            )

        for step in range(first, config.outer.steps):
            batch = train_tasks.sample(config.outer.meta_batch, stream(config.seed, "episodes", step)).to(device)
            found = objective_gradient(
                setup.learner(config, net, step).objective,
                parameters,
                batch,
                kinds.score,
                task_chunk=chunk,
                reduction=config.outer.reduction,
            )
            if not math.isfinite(found.loss):
                kept = f"; the last checkpoint in {out} is from before" if folder.has("last") else ""
                raise FloatingPointError(
                    f"the meta-loss at outer step {step} is {found.loss}: lower --inner.lr or --outer.lr{kept}"
                )
            norm = outer_step(optimizer, parameters, found.gradient, config.outer, step)
            done, score = step + 1, float(found.score.mean())
            sums, count = [sums[0] + found.loss, sums[1] + score], count + 1
            at_end = done == config.outer.steps
            validate = done % config.validation.every == 0 or at_end
            if validate:
                settings = replace(config.test, episodes=config.validation.episodes, seed=_VALIDATION_SEED)
                result = evaluate(
                    tested,
                    parameters,
                    setup.tasks(config, images, "val", config.test.query),
                    settings,
                    score=kinds.score,
                    task_chunk=chunk,
                    each_step=False,
                )
                validation = result.final.mean
            if done % _LOG_EVERY == 0 or validate:
                row = {
                    "step": done,
                    "loss": sums[0] / count,
                    "score": sums[1] / count,
                    "gradient_norm": norm,
                    "lr": outer_lr(config.outer, step),
                    "seconds": spent + time.perf_counter() - began,
                }
                if validate:
                    row["validation"] = validation
                folder.log(row)
                for key in ("loss", "score", "gradient_norm", "lr", "validation"):
                    if board is not None and key in row:
                        board.add_scalar(key, row[key], done)
                sums, count = [0.0, 0.0], 0
            if validate and validation is not None:
                signed = validation if kinds.larger_is_better else -validation
                is_best = signed > best
                best = max(best, signed)
                every = config.validation.keep_every
                keep(done, is_best=is_best, for_good=every > 0 and done % every == 0)
            tell(report, Progress(done, config.outer.steps, found.loss, score, validation, first), stopped)
            if stopped.is_set() and not at_end:
                if not validate:
                    keep(done)
                raise Interrupted(out, done)
        folder.finish(
            {
                "steps": config.outer.steps,
                "best_step": folder.step("best"),
                "best_validation": best if kinds.larger_is_better else -best,
                "seconds": spent + time.perf_counter() - began,
            }
        )
        if stopped.is_set():  # in the last step: the run is whole, but what would follow was not wanted
            raise KeyboardInterrupt
    return folder


def load_run(
    path: str | os.PathLike[str],
    *,
    which: str | Checkpoint = "best",
    data_dir: Path | None = None,
    device: str | None = None,
    images: ClassImages | None = None,
    method: Method | None = None,
    model: nn.Sequential | None = None,
    data: Dataset | ClassImages | None = None,
) -> tuple[Config, nn.Sequential, dict[str, Tensor]]:
    """The config, model and meta-parameters of a run folder ('best' or 'last' checkpoint, or one read from it).

    `images` are the run's image classes if they are at hand already; else they are loaded. `method`,
    `model` and `data` are those that `train` was given as objects.
    """
    _given(Config(), method, model, data)
    folder = RunFolder(Path(path))
    config = folder.config_as(Config.from_json)
    if device:
        config = replace(config, device=device)
    checkpoint = folder.load(which) if isinstance(which, str) else which
    if images is None:
        images = setup.load_images(config, data_dir)
    return config, *from_checkpoint(config, checkpoint, images)


def from_checkpoint(
    config: Config, checkpoint: Checkpoint, images: ClassImages | None
) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """The model and meta-parameters of a checkpoint. RunError for weights of another model, before any are made."""
    if not is_reference(config.method + config.model.arch):
        with torch.device("meta"):
            own = setup.learner(config, setup.network(config, images)).init()
        check_tensors(own, checkpoint.weights, checkpoint.folder / WEIGHTS)
    model = setup.build_model(config, images)
    parameters = setup.learner(config, model).init()
    load_weights(parameters, checkpoint)
    return model, parameters


def _given(
    config: Config, method: Method | None, model: nn.Sequential | None, data: Dataset | ClassImages | None
) -> dict[str, Any]:
    """The fields of `config` with the names of what was given as objects."""
    change: dict[str, Any] = {}
    if method is not None:
        change["method"] = give("method", method.name, method)
    if model is not None:
        change["model"] = replace(config.model, arch=give("model", type(model).__name__, model))
    if data is not None:
        change["data"] = give("data set", data.name, data if isinstance(data, Dataset) else of_images(data))
    return change


def optimizer_state(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, p in parameters.items():
        for key, value in optimizer.state.get(p, {}).items():
            out[f"{key}/{name}"] = torch.as_tensor(value)
    return out


def restore_optimizer(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    source = checkpoint.folder / OPTIMIZER
    whole = ("step", "exp_avg", "exp_avg_sq") if isinstance(optimizer, torch.optim.Adam) else ()
    # Adam counts the steps of each parameter in a number of its own
    like = {f"{kind}/{n}": torch.tensor(0.0) if kind == "step" else p for n, p in parameters.items() for kind in whole}
    check_tensors(like, checkpoint.optimizer, source)
    for key, value in checkpoint.optimizer.items():
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


def tell(report: Callable[[T], None], progress: T, stopped: threading.Event) -> None:
    """Report. A terminal or a pipe that is gone stops the training as a signal does, after a checkpoint."""
    try:
        report(progress)
    except OSError:
        stopped.set()


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
