"""A fitted classifier as an ONNX file, for programs without PyTorch: pictures in, a probability for each class out.

The graph is a trace of what the classifier itself computes, in float32. Reading and resizing pictures is not in it: the
metadata entry `innerloop` says, as JSON, how that is done.
"""

import copy
import io
import json
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.errors import InnerloopError
from innerloop.estimator.inputs import Wanted
from innerloop.estimator.unknown import class_means
from innerloop.version import __version__

if TYPE_CHECKING:
    from innerloop.estimator.classifier import FewShotClassifier

OPSET = 18


@dataclass(frozen=True)
class Input:
    """What the graph takes."""

    name: str
    shape: tuple[int, ...]
    """without the number of pictures"""
    about: dict[str, Any]
    """how pictures become it; empty for rows of numbers"""

    @property
    def axes(self) -> str:
        """The names of its axes."""
        return "n, views, channels, height, width" if self.about else "n, features"


def as_onnx(few: "FewShotClassifier") -> bytes:
    """The content of an ONNX file. Raises InnerloopError for a classifier whose output depends on more than one image,
    or whose pictures have no fixed size; ImportError without the package `onnx`."""
    try:
        import onnx
    except ImportError:
        raise ImportError("an ONNX file needs the package: pip install 'innerloop[onnx]'") from None
    network = few._network
    if network is not None and network.by_batch and network.statistics is None:
        raise InnerloopError(
            "with statistics 'batch' a picture's probabilities depend on the pictures it comes with, which a file that "
            "takes one at a time cannot do; fit with statistics 'support'"
        )
    given = _input(few)
    outputs = ["probabilities"] + ["known"] * (few.threshold_ is not None)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about its own exporter, and about checks that a trace leaves out
        torch.onnx.export(
            _Graph(few).eval(),
            (torch.rand(2, *given.shape),),
            buffer,  # pyright: ignore[reportArgumentType]
            input_names=[given.name],
            output_names=outputs,
            dynamic_axes={name: {0: "n"} for name in (given.name, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    made = onnx.load_from_string(buffer.getvalue())
    made.producer_name, made.producer_version = "innerloop", __version__
    about = {
        "classes": few.classes_.tolist(),
        "input": {"name": given.name, "axes": given.axes, "shape": list(given.shape), **given.about},
        "method": few.method,
        "temperature": few.temperature_,
    }
    if few.threshold_ is not None:
        about["unknown"] = {"label": few.unknown, "cosine below": few.threshold_.value}
    onnx.helper.set_model_props(made, {"innerloop": json.dumps(about)})
    onnx.checker.check_model(made)
    return made.SerializeToString()


def _input(few: "FewShotClassifier") -> Input:
    reader = few._reader
    if reader.rows and (reader.wanted is None or reader.through):
        return Input("features", (few.n_features_in_,), {})
    wanted = reader.wanted
    assert wanted is not None
    if wanted.size is None or wanted.channels is None:
        raise InnerloopError(
            "the network names no size or no channels of its pictures, and an ONNX file needs them: give image_size, "
            "and a network whose first layer is a convolution"
        )
    views = wanted.crops[:1] if few._own_head else wanted.crops
    return Input("images", (len(views), wanted.channels, wanted.size, wanted.size), _preparing(wanted, views))


def _preparing(wanted: Wanted, views: tuple[float | None, ...]) -> dict[str, Any]:
    return {
        "values": "0 to 1, before any mean or deviation: these are in the graph",
        "channels": {1: "grey: 0.299 R + 0.587 G + 0.114 B", 3: "R, G, B"}.get(wanted.channels or 0, "as trained"),
        "views": [
            "the whole picture" if share is None else f"the centred square, its side {share:g} of the shorter side"
            for share in views
        ],
        "resize": f"each view to {wanted.size} × {wanted.size}, {wanted.resample.name.lower()} of Pillow",
        "invert": wanted.invert,
    }


class _Graph(nn.Module):
    """From a batch of inputs to probabilities, by the classifier's own functions."""

    def __init__(self, few: "FewShotClassifier") -> None:
        super().__init__()
        few = copy.copy(few)
        few._support_features = few._support_features.float()
        few._head = None if few._head is None else copy.deepcopy(few._head).float().requires_grad_(False)
        self.few, self.network = few, few._network
        if self.network is not None:  # weights are constants of a trace, which must not record gradients
            self.network = replace(self.network, model=copy.deepcopy(self.network.model).requires_grad_(False))
        if few.threshold_ is not None:
            means = class_means(few.support_features_, few._labels.numpy())
            self.means, self.least = torch.from_numpy(means).float(), few.threshold_.value

    def forward(self, x: Tensor) -> Any:
        few, network = self.few, self.network
        if network is None:
            features, logits = x, few._logits(x, x)
        else:
            views = [x] if x.ndim == 2 else list(x.unbind(1))
            run = network._logits if few._own_head else network._features
            found = torch.stack([run(view[None])[0] for view in views]).mean(0)
            features = found
            logits = found if few._own_head else few._logits(found, found)
        probabilities = logits.softmax(1)
        if few.threshold_ is None:
            return probabilities
        return probabilities, (F.normalize(features, dim=1) @ self.means.T).amax(1) >= self.least
