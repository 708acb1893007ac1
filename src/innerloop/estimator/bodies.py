"""From what a user names as `model` to a network, the images it takes, and the inner loop it was trained with."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages
from innerloop.core.functional import block_names
from innerloop.core.inner import InnerLoop, at_step, with_steps
from innerloop.errors import InnerloopError
from innerloop.estimator.inputs import Wanted
from innerloop.methods.gradient import learned
from innerloop.methods.named import method
from innerloop.methods.starts import Start
from innerloop.models import BatchNorm2d, Conv2d
from innerloop.models.pretrained import ImageFeatures, pretrained
from innerloop.runs import RunError, RunFolder
from innerloop.training import Config, load_run
from innerloop.training.config import Arch, DataName
from innerloop.training.setup import choose_device, how_tested

_SIZE: dict[DataName, int] = {
    "omniglot": 28,
    "glyphs": 28,
    "cifar_fs": 32,
    "fc100": 32,
    "mini_imagenet": 84,
    "caltech101": 84,
}
_FIRST: dict[Arch, str] = {
    "conv4": "conv1.conv.weight",
    "resnet12": "block1.conv1.weight",
    "mlp": "hidden1.linear.weight",
}
"""the first weights of each network"""
_WHITE_ON_BLACK = ("omniglot", "glyphs")


@dataclass(frozen=True)
class Trained:
    """How a run adapts at its own tests."""

    inner: InnerLoop
    """its inner loop, with the steps of its tests"""
    rates: dict[str, Tensor]
    """its learned inner rates, if any"""
    step_weights: dict[str, Tensor]
    """its weights that differ from one inner step to the next, if any"""
    start: Start
    """where its head begins"""
    name: str
    """the method"""


@dataclass(frozen=True)
class Body:
    """A network to classify with, in evaluation mode; the caller's own is never touched."""

    model: nn.Sequential
    has_head: bool
    """whether the last block is a head; a model of one block is a body alone"""
    wanted: Wanted
    device: torch.device
    trained: Trained | None = None
    """only for a run whose tests have an inner loop, through its head"""
    temperature: float | None = None
    """the run's own, of cosines"""
    flat: bool = False
    """whether rows of numbers go through the network, too"""
    run: str = ""
    """the run's folder"""

    @property
    def by_batch(self) -> bool:
        """Whether batch norm takes its statistics from the images at hand, so that features depend on them all."""
        kinds = (nn.modules.batchnorm._BatchNorm, BatchNorm2d)
        return any(isinstance(m, kinds) and not m.track_running_stats for m in self.model.modules())

    @property
    def way(self) -> int | None:
        """Classes of the head, if that has a weight for each (its last one)."""
        if not self.has_head:
            return None
        weights = [p for n, p in list(self.model.children())[-1].named_parameters() if n.endswith("weight")]
        return len(weights[-1]) if weights else None

    def fits(self, way: int) -> bool:
        """Whether the model's own head is for so many classes, and was trained for it (a user's is taken to be)."""
        if self.run and (self.trained is None or self.trained.start != "own"):
            return False
        return self.way == way


def resolve(model: object, image_size: int | None, device: str) -> Body:
    """The body that `model` names: "pretrained", a run folder, or an `nn.Sequential` of named blocks.

    Raises ValueError or RunError for what cannot be used; ImportError if the pre-trained body's packages are missing.
    """
    where = choose_device(device)
    if isinstance(model, nn.Sequential):
        return _own(model, image_size, where)
    if model == "pretrained":
        return _own(pretrained(), image_size, where)
    if isinstance(model, str | os.PathLike):
        return _run(Path(model), image_size, where)
    raise InnerloopError(
        f"model must be 'pretrained', the path of a run folder, or an nn.Sequential of named blocks; got {model!r}"
    )


def _own(model: nn.Sequential, image_size: int | None, device: torch.device) -> Body:
    names = block_names(model)
    if not names:
        raise InnerloopError("the model has no blocks")
    model = copy.deepcopy(model).eval().to(device)
    first = next(iter(model.children()))
    if isinstance(first, ImageFeatures):
        p = first.preprocessing
        wanted = Wanted(image_size or p.size, 3, p.crops)
    else:
        wanted = Wanted(image_size, _channels(model), unit=False)
    return Body(model, len(names) > 1, wanted, device, flat=not isinstance(first, ImageFeatures))


def _run(path: Path, image_size: int | None, device: torch.device) -> Body:
    folder = RunFolder(path)
    if not folder.exists:
        raise RunError(
            f"{path} is not a run folder: it has no config.json; model must be 'pretrained', the path of a run "
            "folder, or an nn.Sequential of named blocks"
        )
    config = folder.config_as(Config.from_json)
    if config.regression:
        raise InnerloopError(f"{path} was trained for a regression ({config.data}); it cannot classify")
    size = config.folder.size if config.data == "folder" else _SIZE.get(config.data)
    if size is None:
        raise InnerloopError(f"{path} was trained on {config.data}, whose image size is known to no estimator")
    if image_size not in (None, size):
        raise InnerloopError(f"{path} was trained on images of {size} pixels; image_size {image_size} does not fit it")
    checkpoint = folder.load("best")
    weights = checkpoint.weights
    channels = _trained_channels(config, weights, size)
    made = _shapes(config, weights, channels, size)
    _, model, parameters = load_run(path, which=checkpoint, device=str(device), images=made)
    model.eval()
    steps = {n: p.detach() for n, p in learned(parameters, "step").items()}
    with torch.no_grad():  # where each inner step has its own, those of the first serve the body that does not adapt
        for name, p in at_step(dict(model.named_parameters()), steps, 0).items():
            dict(model.named_parameters())[name].copy_(p)
    trained, testing = None, how_tested(config)
    if testing.head == "model" and testing.inner.blocks != "none":
        trained = Trained(
            with_steps(testing.inner, config.test.inner_steps),
            {n: p.detach() for n, p in learned(parameters, "rate").items()},
            steps,
            testing.start,
            config.method,
        )
    wanted = Wanted(size, channels, resample=Image.Resampling.LANCZOS, invert=config.data in _WHITE_ON_BLACK)
    return Body(model, True, wanted, device, trained, config.test.temperature, run=str(path))


def _trained_channels(config: Config, weights: dict[str, Tensor], size: int) -> int:
    """Image channels that a run was trained on, from the shape of its first weights."""
    name = _FIRST.get(config.model.arch)
    if name is None:
        raise InnerloopError(
            f"a run of model.arch {config.model.arch!r} cannot be used as a body; {', '.join(_FIRST)} can"
        )
    if name not in weights:
        raise RunError(f"the checkpoint is of another model: it lacks {name!r}")
    width = weights[name].shape[1]
    return width // (size * size) if config.model.arch == "mlp" else width


def _shapes(config: Config, weights: dict[str, Tensor], channels: int, size: int) -> ClassImages:
    """One empty image, and as many training classes as the head has outputs: all of the data that decides the
    network's shapes, so that a run can be used where its data is not."""
    all_classes = method(config.method).trains_on == "classes"
    classes = len(weights["head.weight"]) if all_classes else config.way
    zeros = torch.zeros(classes, dtype=torch.int64)
    return ClassImages(
        config.data,
        torch.zeros(1, channels, size, size, dtype=torch.uint8),
        zeros,
        zeros + 1,
        zeros,
        tuple(map(str, range(classes))),
        {"train": range(classes)},
    )


def _channels(model: nn.Sequential) -> int | None:
    """Channels of the first convolution."""
    for module in model.modules():
        if isinstance(module, Conv2d):
            return module.weight.shape[1]
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return None
