"""From a config to the things it names: tasks, model, losses, device."""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from innerloop.core.episodes import ClassImages, ImageTasks, TaskFamily
from innerloop.core.losses import Loss, accuracy, cross_entropy, mean_squared_error
from innerloop.core.random import generator_for
from innerloop.data.batches import ClassBatches, Pairs
from innerloop.data.dataset import Regression
from innerloop.data.distort import Affine, Distorted
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.evaluation.evaluate import under
from innerloop.methods.catalogue import NAMES, method
from innerloop.methods.method import Learner, Method, Settings
from innerloop.models import conv4, mlp, resnet12
from innerloop.models.conv4 import reset_parameters
from innerloop.models.head import Linear
from innerloop.reference import is_reference, load_reference
from innerloop.training.config import Arch, Config
from innerloop.validated import checked


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
    """'auto' takes the GPU if there is one; each process under torchrun takes its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
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
    generator = generator_for(config.seed, "init")
    m = config.model
    data = config.dataset
    if isinstance(data, Regression):
        if m.arch == "mlp":
            model = mlp(data.inputs, data.outputs, hidden=m.hidden, generator=generator)
        else:
            model = _own_model(config, inputs=data.inputs, outputs=data.outputs)
        _scale_head(model, m.head_scale)
        return model
    assert images is not None
    channels, height, width = images.image_shape
    own = method(config.method)
    outputs = len(images.splits["train"]) if own.trains_on == "classes" else config.way
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
            model = _own_model(config, way=outputs, channels=channels, image_size=height)
    _replace_head(config, own, model)
    _scale_head(model, m.head_scale)
    return model


@torch.no_grad()
def _scale_head(model: nn.Sequential, factor: float) -> None:
    head = model[-1]
    if isinstance(head, Linear):  # Config refuses a factor for any other head
        head.weight.mul_(factor)


def _own_model(config: Config, **sizes: int) -> nn.Sequential:
    """The user's network: a copy of it, or one whose weights are drawn from the run's seed."""
    if not is_reference(config.model.arch):
        checked(Arch, config.model.arch, "model.arch")
    make = load_reference(config.model.arch, "model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_for(config.seed, "init").initial_seed())
        is_model = isinstance(make, nn.Module)
        model = copy.deepcopy(make) if is_model else make(**sizes)
    if not isinstance(model, nn.Sequential) or not len(model):
        raise InnerloopError(
            f"{quoted(config.model.arch)} gives a {type(model).__name__}; a model is an nn.Sequential of named blocks, "
            "the last one the head"
        )
    return model


def _replace_head(config: Config, own: Method, model: nn.Sequential) -> None:
    """The head of the methods that have one of their own, drawn from a generator of its own."""
    old, make = model[-1], own.make_head
    if make is None or not isinstance(old, Linear):
        return
    new = make(old.in_features, old.out_features, old.readout, config.metric)
    if new is not None:
        reset_parameters(new, generator_for(config.seed, "init", "head"))
        model[-1] = new


_NUMBERS = 2**24
"""outputs of conv4's first block in memory at once: more tasks would cost memory and save no time"""


def chunk_size(config: Config, device: torch.device) -> int | None:
    """Tasks in memory at once (None: all). On a CPU as many as suit conv4; one for other nets of convolutions."""
    if config.task_chunk:
        return config.task_chunk
    data, m, inner, kind = config.dataset, config.model, config.inner, method(config.method)
    if device.type != "cpu" or m.arch == "mlp" or isinstance(data, Regression):
        return None
    slow = inner.adapt_norm or kind.adapt_norm or "support" in (inner.statistics, config.test.statistics)
    if m.arch != "conv4" or slow:
        return 1
    once = kind.blocks in ("none", "head")
    images = (config.train_way or config.way) * (config.query + config.shot * (1 if once else inner.steps))
    _, height, width = data.shape
    each = images * m.filters * height * width // (1 if m.downsample == "max_pool" else 4)
    tasks = config.outer.meta_batch
    return math.ceil(tasks / math.ceil(tasks / max(1, _NUMBERS // each)))


def learner(config: Config, model: nn.Sequential, step: int = 0) -> Learner:
    """The run's method on `model`, as it trains at outer step `step`."""
    return learners(config, model)(step)


def learners(config: Config, model: nn.Sequential) -> Callable[[int], Learner]:
    """The run's method on `model`, as it trains at each outer step."""
    i, kind = config.inner, method(config.method)
    over = i.anneal_steps or max(1, config.outer.steps // 10)
    settings = Settings(
        config.loop,
        loss=losses(config).loss,
        statistics=i.statistics,
        metric=config.metric,
        temperature=config.test.temperature,
        learn_rates=i.learn_rates,
        solve_steps=i.solve_steps,
    )
    late = kind(model, settings)

    def at(step: int) -> Learner:
        if step >= i.second_order_from and (step >= over or not kind.each_step):
            return late
        first = step < i.second_order_from
        inner = replace(settings.inner, first_order=True, recompute=False) if first else settings.inner
        return kind(model, replace(settings, inner=inner, anneal=min(1.0, step / over)))

    return at


def at_test(config: Config, model: nn.Sequential, name: str | None = None) -> Learner:
    """`config`'s run, tested by its own method or by the method `name` on the same weights.

    Raises InnerloopError where the run's head cannot serve that method.
    """
    trained = method(config.method)
    kind = (method(name) if name else trained).at_test
    name = name or config.method
    if config.regression and (kind.head != "model" or kind.start != "own"):
        raise InnerloopError(f"{name} is for classes, and a regression has none")
    if kind.head == "pairs" and trained.head != "pairs":
        raise InnerloopError(f"{name} compares pairs by a head that only its own training makes, not {config.method}")
    if kind.predict is not None and kind != trained.at_test:
        raise InnerloopError(
            f"{name} has meta-parameters of its own, which a {config.method} run has not; test the run with one of "
            f"{', '.join(NAMES)}"
        )
    if kind.head == "model" and kind.adapts:
        if config.metric.full_context:
            raise InnerloopError(
                f"the head of this {config.method} run embeds its features in their context, so {name} cannot "
                f"adapt it; test it with {config.method}, or train without metric.full_context"
            )
        if trained.trains_on == "pairs":
            raise InnerloopError(
                f"{config.method}'s head compares pairs, so {name} cannot adapt it; test it with nil or proto"
            )
        if trained.trains_on == "classes" and kind.start == "own":
            raise InnerloopError(
                f"the head of a {config.method} run tells all training classes apart, so {name} cannot adapt it "
                f"to {config.way} ways; test this body with nil, proto, baseline, finetune or proto-maml"
            )
    settings = Settings(trained.inner(config.loop), loss=losses(config).loss, metric=config.metric)
    return under(kind(model, settings), config.test)
