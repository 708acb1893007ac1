"""The outer loop over a whole run: episodes, meta-gradient, step, validation, checkpoint; resumable bit for bit."""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages
from innerloop.core.outer import objective_gradient, outer_lr, outer_step
from innerloop.core.random import generator_for
from innerloop.core.ranks import Ranks, joined
from innerloop.core.threads import use_threads
from innerloop.data.dataset import Dataset, Regression
from innerloop.evaluation import evaluate
from innerloop.methods.method import Method
from innerloop.reference import give, is_reference
from innerloop.runs import RunFolder
from innerloop.runs.folder import WEIGHTS, Checkpoint, check_tensors, load_weights
from innerloop.training import build
from innerloop.training.config import Config
from innerloop.training.loop import Job, Progress, run

_LOG_EVERY = 50
_VALIDATION_SEED = 2_000_003


def train(
    config: Config = Config(),  # noqa: B008  frozen
    out: str | os.PathLike[str] = "",
    *,
    method: Method | None = None,
    model: nn.Sequential | None = None,
    data: Dataset | ClassImages | Regression | None = None,
    data_dir: Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> RunFolder:
    """Train as `config` says, into the run folder `out` (by default runs/DATA-METHOD-seedN).

    `method`, `model` (of which a copy is trained, from the weights that it has) and `data` (images, or a `Regression`
    with tasks of your own) take the place of those that `config` names. config.json then has their names alone, so that
    another process must be given them again, to resume and in `load_run`.

    Each step's episodes and the state of the optimizer depend on the seed and the step alone, so that a resumed run
    ends with the same weights as an uninterrupted one (bit for bit on a CPU with the same number of threads). Ctrl-C,
    SIGTERM and SIGHUP finish the running step, write a checkpoint and raise `Interrupted`.

    Under torchrun the processes split the tasks of each meta-batch and of validation; the result equals that of one
    process, to rounding.

    Raises RunError for a folder that may not be written to, FloatingPointError if loss or gradient is not finite
    (the last good checkpoint stays).
    """
    config = replace(config, **_given(config, method, model, data))
    with joined() as ranks:
        return _train(config, out, data_dir, ranks, resume=resume, tensorboard=tensorboard, report=report)


def _train(
    config: Config,
    out: str | os.PathLike[str],
    data_dir: Path | None,
    ranks: Ranks,
    *,
    resume: bool,
    tensorboard: bool,
    report: Callable[[Progress], None],
) -> RunFolder:
    use_threads(config.threads, stored=resume)
    device = build.choose_device(config.device)
    images = build.load_images(config, data_dir)
    train_tasks = build.training_tasks(config, images)
    if images is not None:
        for split in ("val", "test"):
            build.tasks(config, images, split, config.test.query)  # say now what would fail after hours
    net = build.build_model(config, images)
    learner_at = build.learners(config, net)
    parameters = learner_at(0).init()
    kinds = build.losses(config)
    tested = build.at_test(config, net)
    chunk = build.chunk_size(config, device)
    trained = list(parameters.values())
    match config.outer.optimizer:
        case "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(trained, lr=config.outer.lr)
        case "adam":
            fused = device.type == "cuda" or None
            optimizer = torch.optim.Adam(trained, lr=config.outer.lr, foreach=False, fused=fused)
    out = Path(out or f"runs/{config.dataset.name}-{tested.method.name}-seed{config.seed}")

    def step(step: int) -> dict[str, float]:
        batch = train_tasks.sample(config.outer.meta_batch, generator_for(config.seed, "episodes", step)).to(device)
        found = objective_gradient(
            learner_at(step).objective,
            parameters,
            batch,
            kinds.score,
            task_chunk=chunk,
            reduction=config.outer.reduction,
            ranks=ranks,
        )
        if not math.isfinite(found.loss):
            raise FloatingPointError(
                f"the meta-loss at outer step {step} is {found.loss}: lower --inner.lr or --outer.lr"
            )
        norm = outer_step(optimizer, parameters, found.gradient, config.outer, step)
        score = float(found.score.mean())
        return {"loss": found.loss, "score": score, "gradient_norm": norm, "lr": outer_lr(config.outer, step)}

    def validate() -> dict[str, float]:
        family = build.tasks(config, images, "val", config.test.query)
        settings = replace(config.test, episodes=config.validation.episodes, seed=_VALIDATION_SEED)
        found = evaluate(
            tested, parameters, family, settings, score=kinds.score, task_chunk=chunk, each_step=False, ranks=ranks
        )
        return {"validation": found.final.mean}

    job = Job(
        config.outer.steps,
        step,
        parameters,
        [(optimizer, parameters)],
        config.validation.every,
        validate,
        kinds.larger_is_better,
        averaged=("loss", "score"),
        log_every=_LOG_EVERY,
        keep_every=config.validation.keep_every,
    )
    return run(
        job,
        out,
        config.to_json(),
        read=lambda c: Config.from_json(c).to_json(),
        resume=resume,
        tensorboard=tensorboard,
        ranks=ranks,
        report=report,
    )


def load_run(
    path: str | os.PathLike[str],
    *,
    which: str | Checkpoint = "best",
    data_dir: Path | None = None,
    device: str | None = None,
    images: ClassImages | None = None,
    method: Method | None = None,
    model: nn.Sequential | None = None,
    data: Dataset | ClassImages | Regression | None = None,
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
        images = build.load_images(config, data_dir)
    return config, *from_checkpoint(config, checkpoint, images)


def from_checkpoint(
    config: Config, checkpoint: Checkpoint, images: ClassImages | None
) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """The model and meta-parameters of a checkpoint. RunError for weights of another model, before any are made."""
    if not is_reference(config.method + config.model.arch):
        with torch.device("meta"):
            own = build.learner(config, build.network(config, images)).init()
        check_tensors(own, checkpoint.weights, checkpoint.folder / WEIGHTS)
    model = build.build_model(config, images)
    parameters = build.learner(config, model).init()
    load_weights(parameters, checkpoint)
    return model, parameters


def _given(
    config: Config, method: Method | None, model: nn.Sequential | None, data: Dataset | ClassImages | Regression | None
) -> dict[str, Any]:
    """The fields of `config` with the names of what was given as objects."""
    change: dict[str, Any] = {}
    if method is not None:
        change["method"] = give("method", method.name, method)
    if model is not None:
        layers = hashlib.sha256(repr(model).encode()).hexdigest()[:8]  # two networks of one class are not one
        change["model"] = replace(
            config.model, arch=give("model", f"{type(model).__name__} {layers}", model, lambda *_: True)
        )
    if data is not None:
        change["data"] = give("data set", data.name, data, _same_data)
    return change


def _same_data(a: Dataset | ClassImages | Regression, b: Dataset | ClassImages | Regression) -> bool:
    if not (isinstance(a, ClassImages) and isinstance(b, ClassImages)):
        return a == b
    tensors = ((getattr(a, n), getattr(b, n)) for n in ("images", "first", "count", "turns"))
    return a is b or (
        (a.class_names, a.splits) == (b.class_names, b.splits) and all(torch.equal(x, y) for x, y in tensors)
    )
