"""From a config to the things it names: tasks, model, losses, device."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages, ImageTasks, TaskFamily
from innerloop.core.functional import block_of, slow_weights
from innerloop.core.inner import adapted_parameters
from innerloop.core.losses import Loss, accuracy, cross_entropy, mean_squared_error
from innerloop.core.random import stream
from innerloop.data.catalogue import load
from innerloop.data.distort import Affine, Distorted
from innerloop.data.folder import FolderOptions
from innerloop.data.multiclass import AllClasses
from innerloop.data.sinusoid import Sinusoid
from innerloop.methods.gradient import Head, method
from innerloop.models import conv4, mlp, resnet12
from innerloop.training.config import Config


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
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no device {name!r}; give auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but this machine has no usable GPU; use --device cpu")
    return device


def load_images(config: Config, data_dir: Path | None = None) -> ClassImages | None:
    """The image classes with their splits, on the config's device; None for a regression."""
    if config.regression:
        return None
    if config.data == "folder":
        f = config.folder
        if not f.root:
            raise ValueError("data 'folder' needs to know which: give --folder.root ROOT, a tree ROOT/CLASS/IMAGE")
        options = FolderOptions(
            size=f.size,
            channels=f.channels,
            split_dir=Path(f.split_dir) if f.split_dir else None,
            split_seed=f.split_seed,
        )
        images = load("folder", data_dir=Path(f.root), folder=options)
    else:
        images = load(config.data, split_scheme=config.split_scheme or None, data_dir=data_dir)
    return images.to(choose_device(config.device))


def tasks(config: Config, images: ClassImages | None, split: str, query: int | None = None) -> TaskFamily:
    """The tasks of one split. At test, `query` is lowered to what the poorest class has left beside the support."""
    if images is None:
        return Sinusoid(config.shot, config.query if query is None else query)
    part = images.split(split)
    if query is None:
        return ImageTasks(part, config.way, config.shot, config.query)
    left = int(part.count.min()) - config.shot
    return ImageTasks(part, config.way, config.shot, max(1, min(query, left)))


def training_tasks(config: Config, images: ClassImages | None) -> TaskFamily:
    """The tasks of the training split, augmented as the config says."""
    if config.method == "multiclass" and images is not None:
        plain = AllClasses(images.split("train"), config.way * (config.shot + config.query))
    else:
        plain = tasks(config, images, "train")
    return plain if config.augment == "none" else Distorted(plain, Affine())


def build_model(config: Config, images: ClassImages | None) -> nn.Sequential:
    """The network, initialised from the config's seed: the same body for every method, and the same head for all but
    multiclass, which has an output for each training class."""
    device = choose_device(config.device)
    generator = stream(config.seed, "init")
    m = config.model
    if images is None:
        return mlp(1, 1, hidden=m.hidden, generator=generator).to(device)
    channels, height, width = images.image_shape
    outputs = len(images.splits["train"]) if config.method == "multiclass" else config.way
    if m.arch == "mlp":
        model = mlp(channels * height * width, outputs, hidden=m.hidden, generator=generator)
    elif height != width:
        raise ValueError(f"{m.arch} takes square images, {images.name} has {height}×{width}")
    elif m.arch == "resnet12":
        model = resnet12(outputs, channels=channels, image_size=height, affine=m.affine, generator=generator)
    else:
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
    return model.to(device)


def meta_parameters(config: Config, model: nn.Sequential) -> dict[str, Tensor]:
    """What the outer loop trains: the model's weights, and the inner rates if they are learned."""
    parameters: dict[str, Tensor] = dict(slow_weights(model))
    if config.inner.learn_rates:
        inner = config.inner_loop
        device = next(model.parameters()).device
        for block in dict.fromkeys(block_of(n) for n in adapted_parameters(model, inner)):
            parameters[f"rate:{block}"] = nn.Parameter(torch.full((inner.steps,), inner.lr, device=device))
    return parameters


def chunk_size(config: Config, device: torch.device) -> int | None:
    """Tasks in memory at once (None: all). On a CPU a larger chunk of a conv net costs memory and gains no time."""
    if config.task_chunk:
        return config.task_chunk
    return 1 if device.type == "cpu" and config.model.arch != "mlp" and not config.regression else None


def head(config: Config) -> Head:
    """Which head classifies in training: the model's, or NIL's cosine attention."""
    return method(config.method).head


def test_head(config: Config) -> Head:
    """Which head classifies at validation and test."""
    kind = method(config.method)
    return kind.test_head or kind.head
