"""The outer loop over a whole run: episodes, meta-gradient, step, validation, checkpoint; resumable bit for bit."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages
from innerloop.core.outer import meta_gradient, outer_lr, outer_step
from innerloop.core.random import stream
from innerloop.evaluation import EvalSettings, evaluate
from innerloop.methods.gradient import predictor
from innerloop.runs import RunFolder
from innerloop.runs.folder import Checkpoint, load_weights
from innerloop.training import setup
from innerloop.training.config import Config

_LOG_EVERY = 50
_VALIDATION_SEED = 2_000_003


class Interrupted(Exception):
    """Training was stopped by the user; the checkpoint at `step` is on disk."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(f"stopped at step {step}; continue with --resume --out {path}")
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


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: RunFolder
    model: nn.Sequential
    parameters: dict[str, Tensor]
    """the weights of the best checkpoint"""


def train(
    config: Config,
    out: Path,
    *,
    data_dir: Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    report: Callable[[Progress], None] = ignore,
) -> RunFolder:
    """Train as `config` says, into the run folder `out`.

    Each step's episodes and the state of the optimizer depend on the seed and the step alone, so that a resumed run
    ends
    with the same weights as an uninterrupted one (bit for bit on a CPU with the same number of threads). Ctrl-C and
    SIGTERM finish the running step, write a checkpoint and raise `Interrupted`.

    Raises RunError for a folder that must not be written to, FloatingPointError if loss or gradient is not finite
    (the last
    good checkpoint stays).
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = setup.choose_device(config.device)
    images = setup.load_images(config, data_dir)
    train_tasks = setup.tasks(config, images, "train")
    if images is not None:
        for split in ("val", "test"):
            setup.tasks(config, images, split, config.test.query)  # say now what would fail after hours
    model = setup.build_model(config, images)
    parameters = setup.meta_parameters(config, model)
    inner = config.inner_loop
    kinds = setup.losses(config)
    predict = predictor(model, inner, head=setup.head(config), loss=kinds.loss, statistics=config.inner.statistics)
    chunk = setup.chunk_size(config, device)
    trained = list(parameters.values())
    optimizer = torch.optim.Adam(trained, lr=config.outer.lr, foreach=False, fused=device.type == "cuda" or None)
    folder = RunFolder(out)

    with (
        folder.start(config.to_json(), resume=resume) as checkpoint,
        _stop_on_signals() as stopped,
        _tensorboard(out if tensorboard else None, checkpoint.step if checkpoint else 0) as board,
    ):
        first, best, spent = 0, -math.inf, 0.0
        validation: float | None = None
        if checkpoint:
            first, best, spent = checkpoint.step, checkpoint.state["best"], checkpoint.state["seconds"]
            validation = checkpoint.state["validation"]
            restore(parameters, checkpoint.weights, str(out), model)
            _restore_optimizer(optimizer, parameters, checkpoint)
        began = time.perf_counter()

        def keep(step: int, *, is_best: bool = False) -> None:
            seconds = spent + time.perf_counter() - began
            state = {"step": step, "best": best, "validation": validation, "seconds": seconds}
            if not math.isfinite(best):
                state["best"] = -1e300
            folder.save(
                Checkpoint(step, dict(parameters), _optimizer_state(optimizer, parameters), state),
                best=is_best,
            )

        sums, count = [0.0, 0.0], 0
        for step in range(first, config.outer.steps):
            batch = train_tasks.sample(
                config.outer.meta_batch, stream(config.seed, "episodes", step, device=device)
            ).to(device)
            found = meta_gradient(
                predict,
                parameters,
                batch,
                kinds.loss,
                kinds.score,
                task_chunk=chunk,
                reduction=config.outer.reduction,
            )
            if not math.isfinite(found.loss):
                raise FloatingPointError(
                    f"the meta-loss at outer step {step} is {found.loss}; lower --inner.lr or "
                    f"--outer.lr. The last checkpoint in {out} is from before"
                )
            norm = outer_step(optimizer, parameters, found.gradient, config.outer, step)
            done, score = step + 1, float(found.score.mean())
            sums, count = [sums[0] + found.loss, sums[1] + score], count + 1
            at_end = done == config.outer.steps
            validate = done % config.validation.every == 0 or at_end
            if validate:
                settings = EvalSettings(
                    episodes=config.validation.episodes,
                    query=config.test.query,
                    inner_steps=config.test.inner_steps,
                    seed=_VALIDATION_SEED,
                    statistics=config.test.statistics,
                )
                result = evaluate(
                    model,
                    parameters,
                    setup.tasks(config, images, "val", config.test.query),
                    inner,
                    settings,
                    head=setup.head(config),
                    loss=kinds.loss,
                    score=kinds.score,
                    task_chunk=chunk,
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
                keep(done, is_best=is_best)
            report(Progress(done, config.outer.steps, found.loss, score, validation, first))
            if stopped.is_set() and not at_end:
                if not validate:
                    keep(done)
                raise Interrupted(out, done)
        folder.finish(
            {
                "steps": config.outer.steps,
                "best_step": folder.load("best").step,
                "best_validation": best if kinds.larger_is_better else -best,
                "seconds": spent + time.perf_counter() - began,
            }
        )
    return folder


def restore(parameters: dict[str, Tensor], weights: dict[str, Tensor], source: str, model: nn.Module) -> None:
    """Copy a checkpoint into the meta-parameters (which are the model's own)."""
    load_weights(model, weights, source)
    with torch.no_grad():
        for name, p in parameters.items():
            if name.startswith("rate:"):
                p.copy_(weights[name])


def load_run(
    path: Path,
    *,
    which: str = "best",
    data_dir: Path | None = None,
    device: str | None = None,
    images: ClassImages | None = None,
) -> tuple[Config, nn.Sequential, dict[str, Tensor]]:
    """The config, model and meta-parameters of a run folder ('best' or 'last' checkpoint).

    `images` are the run's image classes if they are at hand already; else they are loaded.
    """
    folder = RunFolder(path)
    config = Config.from_json(folder.config)
    if device:
        config = replace(config, device=device)
    checkpoint = folder.load(which)
    if images is None:
        images = setup.load_images(config, data_dir)
    model = setup.build_model(config, images)
    parameters = setup.meta_parameters(config, model)
    restore(parameters, checkpoint.weights, str(path), model)
    return config, model, parameters


def _optimizer_state(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, p in parameters.items():
        for key, value in optimizer.state.get(p, {}).items():
            out[f"{key}/{name}"] = torch.as_tensor(value)
    return out


def _restore_optimizer(optimizer: torch.optim.Optimizer, parameters: dict[str, Tensor], checkpoint: Checkpoint) -> None:
    for key, value in checkpoint.optimizer.items():
        kind, name = key.split("/", 1)
        p = parameters[name]
        # the moments take the layout of their parameter, so that the arithmetic is the same to the last bit
        stored = value if kind == "step" else torch.empty_like(p).copy_(value)
        optimizer.state[p][kind] = stored


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event set by the first Ctrl-C or SIGTERM; a second one interrupts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: object) -> None:  # noqa: ARG001
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    old = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


@contextmanager
def _tensorboard(path: Path | None, step: int) -> Iterator[object | None]:
    if path is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs the package: pip install 'innerloop[tensorboard]'") from None
    writer = SummaryWriter(str(path / "tensorboard"), purge_step=step)
    try:
        yield writer
    finally:
        writer.close()
