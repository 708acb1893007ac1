"""From a config to the things it names: tasks, model, losses, device."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages, Episodes, ImageTasks, TaskFamily
from innerloop.core.functional import Weights, block_of, slow_weights
from innerloop.core.inner import InnerLoop, adapted_parameters
from innerloop.core.losses import Loss, accuracy, cross_entropy, mean_squared_error
from innerloop.core.outer import Objective
from innerloop.core.random import stream
from innerloop.data.batches import ClassBatches
from innerloop.data.dataset import Regression
from innerloop.data.distort import Affine, Distorted
from innerloop.data.pairs import Pairs
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.methods.gradient import pair_predictor, predictor
from innerloop.methods.heads import Head, Metric
from innerloop.methods.named import MethodName, method
from innerloop.methods.objectives import implicit, multi_step, reptile
from innerloop.methods.starts import Start
from innerloop.models import conv4, mlp, resnet12
from innerloop.models.head import CosineLinear, FullContext, Linear, PairHead
from innerloop.training.config import Arch, Config


@dataclass(frozen=True)
class Losses:
    """What is minimised, and what is reported."""

    loss: Loss
    score: Loss
    larger_is_better: bool


CLASSIFY = Losses(cross_entropy, accuracy, larger_is_better=True)
REGRESS = Losses(mean_squared_error, mean_squared_error, larger_is_better=False)


def losses(config: Config) -> Losses:
    """Cross-entropy and accuracy for classes, mean squared error for regression."""
    return REGRESS if config.regression else CLASSIFY


def choose_device(name: str) -> torch.device:
    """'auto' takes the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = {"cpu": 1}
    if torch.accelerator.is_available() and (accelerator := torch.accelerator.current_accelerator()):
        here[accelerator.type] = torch.accelerator.device_count()
    try:
        device = torch.device(name)
        if (device.index or 0) < here.get(device.type, 0):
            return device
    except RuntimeError:  # no name of a device
        pass
    has = ", ".join(kind if n == 1 else f"{kind}:0 to {kind}:{n - 1}" for kind, n in here.items())
    near = did_you_mean(name, ("auto", *here))
    raise InnerloopError(f"there is no device {quoted(name)} that can be used here; give auto, or one of {has}{near}")


def load_images(config: Config, data_dir: Path | None = None) -> ClassImages | None:
    """The image classes with their splits, on the config's device; None for a regression."""
    data = config.dataset
    return None if isinstance(data, Regression) else data.load(data_dir).to(choose_device(config.device))


def tasks(config: Config, images: ClassImages | None, split: str, query: int | None = None) -> TaskFamily:
    """The tasks of one split. At test, `query` is lowered to what the poorest class has left beside the support."""
    data = config.dataset
    if isinstance(data, Regression):
        return data.tasks(config.shot, config.query if query is None else query)
    assert images is not None
    part = images.split(split)
    if query is None:
        return ImageTasks(part, config.way, config.shot, config.query)
    left = int(part.count.min()) - config.shot
    return ImageTasks(part, config.way, config.shot, max(1, min(query, left)))


def training_tasks(config: Config, images: ClassImages | None) -> TaskFamily:
    """The tasks of the training split, augmented as the config says."""
    kind, batch = method(config.method).trains_on, config.way * (config.shot + config.query)
    if images is None or kind == "episodes":
        classes = len(images.splits["train"]) if images is not None else config.train_way
        if config.train_way > classes:
            raise InnerloopError(
                f"train_way {config.train_way} is larger than the {classes} training classes; lower --train-way (0 is "
                f"the test's way, {config.way})"
            )
        plain = tasks(replace(config, way=config.train_way or config.way), images, "train")
    elif kind == "classes":
        plain = ClassBatches(images.split("train"), batch)
    elif kind == "pairs":
        plain = Pairs(images.split("train"), max(2, batch))
    else:
        raise InnerloopError(f"{config.method} trains on {kind!r}; there are episodes, classes and pairs")
    return plain if config.augment == "none" else Distorted(plain, Affine())


def build_model(config: Config, images: ClassImages | None) -> nn.Sequential:
    """The network, initialised from the config's seed: the same body for every method, and the same head for all but
    those that train on all classes at once (an output for each training class), on pairs or with a context."""
    return network(config, images).to(choose_device(config.device))


def network(config: Config, images: ClassImages | None) -> nn.Sequential:
    """The same, on PyTorch's default device."""
    generator = stream(config.seed, "init")
    m = config.model
    data = config.dataset
    if isinstance(data, Regression):
        model = mlp(data.inputs, data.outputs, hidden=m.hidden, generator=generator)
        _scale_head(model, m.head_scale)
        return model
    assert images is not None
    channels, height, width = images.image_shape
    all_classes = method(config.method).trains_on == "classes"
    outputs = len(images.splits["train"]) if all_classes else config.way
    if height != width and m.arch != "mlp":
        raise InnerloopError(f"{m.arch} takes square images, {images.name} has {height}×{width}")
    match m.arch:
        case "mlp":
            model = mlp(channels * height * width, outputs, hidden=m.hidden, generator=generator)
        case "resnet12":
            model = resnet12(outputs, channels=channels, image_size=height, affine=m.affine, generator=generator)
        case "conv4":
            model = conv4(
                outputs,
                channels=channels,
                image_size=height,
                filters=m.filters,
                downsample=m.downsample,
                readout=m.readout,
                affine=m.affine,
                generator=generator,
            )
        case _:
            raise InnerloopError(f"there is no model.arch {m.arch!r}; there are {', '.join(get_args(Arch))}")
    _replace_head(config, model)
    _scale_head(model, m.head_scale)
    return model


@torch.no_grad()
def _scale_head(model: nn.Sequential, factor: float) -> None:
    head = model[-1]
    if isinstance(head, Linear):  # Config refuses a factor where there is another one
        head.weight.mul_(factor)


def _replace_head(config: Config, model: nn.Sequential) -> None:
    """The head of the methods that have one of their own, drawn from a stream of its own."""
    old = model[-1]
    assert isinstance(old, Linear)
    inputs, outputs, readout = old.in_features, old.out_features, old.readout
    if config.method == "baseline++":
        new = CosineLinear(inputs, outputs, scale=config.metric.scale, readout=readout)
    elif config.method == "siamese":
        new = PairHead(inputs, readout=readout)
    elif config.metric.full_context:
        new = FullContext(inputs, readout=readout)
    else:
        return
    new.reset_parameters(stream(config.seed, "init", "head"))
    model[-1] = new


def meta_parameters(config: Config, model: nn.Sequential) -> dict[str, Tensor]:
    """What the outer loop trains: the model's weights; the inner rates if they are learned (``rate:NAME``); batch
    norm's scale and shift for each inner step (``step:NAME``: a row for each step's support set, one for the query set
    after the last; the model's own NAME then waits unused)."""
    parameters: dict[str, Tensor] = dict(slow_weights(model))
    inner, kind = config.inner_loop, method(config.method)
    names = adapted_parameters(model, inner)
    device = next(model.parameters()).device
    if config.inner.learn_rates or kind.learns == "block_rates":
        for block in dict.fromkeys(block_of(n) for n in names):
            parameters[f"rate:{block}"] = nn.Parameter(torch.full((inner.steps,), inner.lr, device=device))
    elif kind.learns == "parameter_rates":
        for n in names:
            parameters[f"rate:{n}"] = nn.Parameter(torch.full_like(parameters[n], inner.lr))
    if kind.step_norms:
        blocks = {block_of(n) for n in names}
        for n, p in slow_weights(model).items():
            if n not in names and block_of(n) in blocks:
                parameters[f"step:{n}"] = nn.Parameter(p.detach().expand(inner.steps + 1, *p.shape).clone())
    return parameters


def chunk_size(config: Config, device: torch.device) -> int | None:
    """Tasks in memory at once (None: all). On a CPU a larger chunk of a conv net costs memory and gains no time."""
    if config.task_chunk:
        return config.task_chunk
    return 1 if device.type == "cpu" and config.model.arch != "mlp" and not config.regression else None


def objective(config: Config, model: nn.Sequential, step: int) -> Objective:
    """What the outer loop minimises at outer step `step`."""
    kind, inner, loss = method(config.method), config.inner_loop, losses(config).loss
    if step < config.inner.second_order_from:
        inner = replace(inner, first_order=True, recompute=False)
    if kind.objective == "reptile":
        return reptile(model, inner, loss=loss)
    if kind.objective == "implicit":
        return implicit(model, inner, iterations=config.inner.solve_steps, loss=loss)
    if kind.objective == "each_step":
        over = config.inner.anneal_steps or max(1, config.outer.steps // 10)
        if step < over:
            return multi_step(model, inner, anneal=step / over, loss=loss, statistics=config.inner.statistics)
    if kind.trains_on == "pairs":
        predict = pair_predictor(model, metric=config.metric)
    else:
        predict = predictor(
            model,
            inner,
            head=kind.head,
            start=kind.start,
            metric=config.metric,
            loss=loss,
            statistics=config.inner.statistics,
            temperature=config.test.temperature,
        )

    def query_loss(parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
        prediction = predict(parameters, episodes)
        return loss(prediction, episodes.query_y), prediction

    return query_loss


@dataclass(frozen=True)
class Testing:
    """How a trained run is tested under a method: what `evaluation.evaluate` takes beside model, tasks and settings."""

    inner: InnerLoop
    head: Head
    start: Start
    metric: Metric


def how_tested(config: Config, name: MethodName | None = None) -> Testing:
    """The test of `config`'s run by its own method, or by the method `name` on the same weights.

    Raises InnerloopError where the run's head cannot serve that method.
    """
    kind = method(name or config.method)
    trained = method(config.method)
    start = kind.final_start
    if config.regression and (kind.final_head != "model" or start != "own"):
        raise InnerloopError(f"{kind.name} is for classes, and a regression has none")
    if kind.final_head == "pairs" and trained.head != "pairs":
        raise InnerloopError(
            f"{kind.name} compares pairs by a head that only its own training makes, not {config.method}"
        )
    if kind.final_head == "model" and kind.adapts_at_test:
        if config.metric.full_context:
            raise InnerloopError(
                f"the head of this {config.method} run embeds its features in their context, so {kind.name} cannot "
                "adapt it; test it with matching, or train without metric.full_context"
            )
        if trained.head == "pairs":
            raise InnerloopError(
                f"{config.method}'s head compares pairs, so {kind.name} cannot adapt it; test it with nil or proto"
            )
        if trained.trains_on == "classes" and start == "own":
            raise InnerloopError(
                f"the head of a {config.method} run tells all training classes apart, so {kind.name} cannot adapt it "
                f"to {config.way} ways; test this body with nil, proto, baseline, finetune or proto-maml"
            )
    return Testing(kind.test_inner(config.inner_loop), kind.final_head, start, config.metric)
