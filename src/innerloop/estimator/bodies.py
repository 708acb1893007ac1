"""From what a user names as `model` to a network, the images it takes, and the inner loop it was trained with."""

import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from innerloop.core.episodes import ClassImages
from innerloop.core.functional import block_names
from innerloop.core.inner import InnerLoop, at_step
from innerloop.data.dataset import Regression
from innerloop.errors import InnerloopError, quoted
from innerloop.estimator.inputs import Wanted
from innerloop.methods.catalogue import method
from innerloop.methods.gradient import learned
from innerloop.methods.head_init import Start
from innerloop.models import BatchNorm2d, Conv2d
from innerloop.models.pretrained import ImageFeatures, pretrained, without_weights
from innerloop.runs import RunError, RunFolder
from innerloop.runs.folder import Checkpoint, check_shapes
from innerloop.training import Config
from innerloop.training.build import at_test, choose_device
from innerloop.training.train import from_checkpoint


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
    """the run's folder, or the file that keeps it"""
    kind: Literal["pretrained", "run", "own"] = "own"
    config: dict[str, Any] | None = None
    """the run's config.json"""
    checkpoint: Checkpoint | None = None
    """the run's"""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that a file must keep to make the body again: of a run its checkpoint's weights (learned rates are among
        them), of any other network its parameters and buffers."""
        return dict(self.checkpoint.weights) if self.checkpoint else dict(_parts(self.model))

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
    """The body that `model` names: "pretrained", a run folder, a saved classifier, or an `nn.Sequential` of blocks.

    Raises ValueError or RunError for what cannot be used; ImportError if the pre-trained body's packages are missing.
    """
    where = choose_device(device)
    if isinstance(model, nn.Sequential):
        return _own(model, image_size, where)
    if model == "pretrained":
        return replace(_own(pretrained(), image_size, where), kind="pretrained")
    if isinstance(model, str | os.PathLike):
        if Path(model).is_file():
            from innerloop.estimator.saved import read_saved

            body = read_saved(Path(model)).body(where)
            if body is None:
                raise InnerloopError(f"{model} is a classifier of features: it holds no network")
            if image_size not in (None, body.wanted.size):
                raise InnerloopError(f"{model} takes images of {body.wanted.size} pixels, not of {image_size}")
            return body
        return _run(Path(model), image_size, where)
    raise InnerloopError(
        "model must be 'pretrained', the path of a run folder or of a saved classifier, or an nn.Sequential of named "
        f"blocks; got {model!r}"
    )


def restored(
    kind: Literal["pretrained", "run", "own"],
    tensors: Mapping[str, Tensor],
    wanted: Wanted,
    device: torch.device,
    source: Path,
    *,
    config: dict[str, Any] | None = None,
    step: int = 0,
    model: nn.Sequential | None = None,
) -> Body:
    """The body whose `tensors` and settings a file keeps; `model` is the architecture of a user's own.

    Raises InnerloopError, naming the file, for tensors of another architecture.
    """
    if kind == "run":
        # module:attribute would be imported, and the file may come from a stranger
        named = [v for v in _texts(config) if ":" in v]
        if named:
            raise InnerloopError(
                f"{source} keeps a run with a method or data of somebody's own, {quoted(named[0])}, whose code is not "
                "loaded from a file"
            )
        checkpoint = Checkpoint(step, dict(tensors), {}, {}, source)
        body = _of_run(Config.from_json(config or {}), checkpoint, None, device, str(source))
        if body.wanted != wanted:
            raise InnerloopError(f"{source} was written by another version: it takes other images than its run")
        return body
    if model is None and kind == "own":
        raise InnerloopError(
            f"{source} holds the weights of a network of the user's own: give the network too, "
            "FewShotClassifier.load(path, model=network)"
        )
    model = without_weights() if model is None else copy.deepcopy(model)
    check_shapes(dict(_parts(model)), tensors, source)
    for name, value in tensors.items():
        place, _, leaf = name.rpartition(".")
        owner = model.get_submodule(place)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(value, requires_grad=value.is_floating_point())
        else:
            owner._buffers[leaf] = value
    return replace(_own(model, wanted.size, device), kind=kind, wanted=wanted)


def _texts(value: object) -> Iterator[str]:
    """Every text in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for v in value.values() if isinstance(value, dict) else value:
            yield from _texts(v)


def _parts(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, also those that a state dictionary leaves out."""
    yield from model.named_parameters()
    yield from model.named_buffers()


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
            "folder or of a saved classifier, or an nn.Sequential of named blocks"
        )
    config = folder.config_as(Config.from_json)
    return _of_run(config, folder.load("best"), image_size, device, str(path))


def _of_run(config: Config, checkpoint: Checkpoint, image_size: int | None, device: torch.device, path: str) -> Body:
    data = config.dataset
    if isinstance(data, Regression):
        raise InnerloopError(f"{path} was trained for a regression ({config.data}); it cannot classify")
    channels, size, width = data.shape
    if size != width:
        raise InnerloopError(f"{path} was trained on images of {size}×{width} pixels; this takes square ones only")
    if image_size not in (None, size):
        raise InnerloopError(f"{path} was trained on images of {size} pixels; image_size {image_size} does not fit it")
    checkpoint = replace(checkpoint, optimizer={})
    weights = checkpoint.weights
    made = _shapes(config, weights, channels, size)
    model, parameters = from_checkpoint(replace(config, device=str(device)), checkpoint, made)
    model.eval()
    steps = {n: p.detach() for n, p in learned(parameters, "step").items()}
    with torch.no_grad():  # where each inner step has its own, those of the first serve the body that does not adapt
        for name, p in at_step(dict(model.named_parameters()), steps, 0).items():
            dict(model.named_parameters())[name].copy_(p)
    trained, learner = None, at_test(config, model)
    if learner.has_steps and learner.method.adapts:
        trained = Trained(
            learner.inner,
            {n: p.detach() for n, p in learned(parameters, "rate").items()},
            steps,
            learner.method.start,
            config.method,
        )
    wanted = Wanted(size, channels, resample=Image.Resampling.LANCZOS, invert=data.drawn)
    temperature = config.test.temperature
    return Body(model, True, wanted, device, trained, temperature, False, path, "run", config.to_json(), checkpoint)


def _shapes(config: Config, weights: dict[str, Tensor], channels: int, size: int) -> ClassImages:
    """One empty image, and as many training classes as the head has outputs: all of the data that decides the
    network's shapes, so that a run can be used where its data is not."""
    classes = 1
    if method(config.method).trains_on == "classes":  # only these have an output for each
        if "head.weight" not in weights or weights["head.weight"].ndim < 2:
            raise RunError("the checkpoint is of another model: it lacks 'head.weight'")
        classes = len(weights["head.weight"])
    zeros = torch.zeros(classes, dtype=torch.int64)
    return ClassImages(
        config.data,
        torch.zeros((), dtype=torch.uint8).expand(1, channels, size, size),
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
