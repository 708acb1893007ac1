"""A classifier in one file: safetensors, whose metadata hold the settings as strict JSON, and a checksum.

The tensors by name: `support/features` [n, d] and `support/labels` [n]; `body/…`, the weights of the network (of a run:
its checkpoint's, learned rates among them); where the network adapted `fast/…` [1, …], `last/…`; `statistics/…/mean`
and `/variance` [1, channels]; `head/…` of a head that was made of the support set; `examples/jpeg` and `examples/ends`,
small pictures one behind the other and where each ends.

Nothing in a file is run. It may come from a stranger: what it says is checked against the shapes of the network that it
names before any weight is made.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.estimator.bodies import Body, restored
from innerloop.estimator.heads import UnitLinear
from innerloop.estimator.inputs import Wanted
from innerloop.estimator.network import Network
from innerloop.runs.config_json import config_from_json
from innerloop.runs.files import check_regular, parse_json, write_bytes
from innerloop.runs.folder import check_shapes
from innerloop.validated import Bound, Natural, Positive, Validated, above, at_least, at_most
from innerloop.version import __version__

LARGEST, LARGEST_HEADER = 1 << 30, 8 << 20
"""bytes of a file, and of what it says about its tensors"""
EXAMPLE = 64 << 10
"""bytes of an example's small picture"""
_SIDE = Annotated[int, at_least(1), at_most(2048)]
_SHARE = Annotated[float, above(0), at_most(1)]
_UNSEALED = "0" * 64
_Label = bool | int | float | str
_Kind = Literal[
    "text", "object", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64"
]  # fmt: skip


@dataclass(frozen=True)
class Example:
    """What a person needs to know an image of the support set again."""

    name: str
    """the file's"""
    jpeg: bytes
    """a small picture"""


@dataclass(frozen=True)
class Prepared(Validated, at="images"):
    """How pictures become what the network takes: `inputs.Wanted` in plain values."""

    size: _SIDE | None = None
    channels: Annotated[int, at_least(1), at_most(4096)] | None = None
    crops: Annotated[tuple[_SHARE | None, ...], Bound("1 to 8 views", lambda v: 1 <= len(v) <= 8)] = (None,)
    resample: Annotated[int, at_least(0), at_most(5)] = 3
    invert: bool = False
    unit: bool = True

    @classmethod
    def of(cls, wanted: Wanted) -> "Prepared":
        """These settings in plain values."""
        return cls(**{**asdict(wanted), "resample": int(wanted.resample)})

    @property
    def wanted(self) -> Wanted:
        """The value that `inputs` takes."""
        return Wanted(**{**asdict(self), "resample": Image.Resampling(self.resample)})


@dataclass(frozen=True)
class Settings(Validated, at="settings"):
    """Parameters of the classifier; those that say where it runs are given when it is loaded."""

    method: str = "nil"
    steps: Natural | None = None
    lr: Positive | None = None
    temperature: Positive | None = None
    statistics: Literal["support", "batch"] = "support"
    image_size: _SIDE | None = None
    batch_size: Annotated[int, at_least(1), at_most(4096)] = 32
    unknown: _Label | None = None


@dataclass(frozen=True)
class Layout(Validated):
    """The metadata."""

    classes: tuple[_Label, ...]
    labels: _Kind
    """what the classes are: text, objects (of text), or numbers of a type"""
    temperature: Positive
    """in use"""
    body: Literal["none", "pretrained", "run", "own"] = "none"
    images: Prepared = field(default_factory=Prepared)
    settings: Settings = field(default_factory=Settings)
    rows: bool = False
    """whether the support set was an array [n, d]"""
    columns: Natural | None = None
    """its d"""
    column_names: tuple[str, ...] | None = None
    examples: tuple[str, ...] | None = None
    """names of the support images"""
    config: dict | None = None
    """the run's"""
    step: Natural = 0
    """of the run's checkpoint"""
    innerloop: str = __version__

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2 or self.class_array.tolist() != np.unique(self.class_array).tolist():
            raise InnerloopError("classes must be two or more, sorted, and each once")
        if (self.body == "run") != (self.config is not None):
            raise InnerloopError("a run, and nothing else, comes with its config")

    @property
    def class_array(self) -> NDArray[Any]:
        """The classes as the classifier has them."""
        kind: type = str if self.labels in ("text", "object") else bool if self.labels == "bool" else object
        if not all(isinstance(c, kind) and isinstance(c, str) == (kind is str) for c in self.classes):
            raise InnerloopError(f"classes must be {self.labels}, got {quoted(self.classes)}")
        try:
            with np.errstate(all="raise"):
                made = np.array(self.classes, dtype={"text": str}.get(self.labels, self.labels))
        except (OverflowError, FloatingPointError, ValueError):
            raise InnerloopError(f"classes must be {self.labels}, got {quoted(self.classes)}") from None
        if made.tolist() != list(self.classes):
            raise InnerloopError(f"classes must be {self.labels}, got {quoted(self.classes)}")
        return made


@dataclass(frozen=True)
class Saved:
    """The content of a file."""

    path: Path
    layout: Layout
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors below NAME/, without that."""
        return {n.removeprefix(f"{name}/"): t for n, t in self.tensors.items() if n.startswith(f"{name}/")}

    def body(self, device: torch.device, model: nn.Sequential | None = None) -> Body | None:
        """The network before anything adapted; `model` is the architecture of a user's own. None: there is none."""
        at = self.layout
        if at.body == "none":
            return None
        return restored(
            at.body, self.part("body"), at.images.wanted, device, self.path, config=at.config, step=at.step, model=model
        )

    @property
    def support(self) -> tuple[Tensor, Tensor]:
        """Features [n, d] and labels [n] in 0..way-1, checked."""
        features, labels = (self.tensors.get(f"support/{n}") for n in ("features", "labels"))
        if features is None or features.ndim != 2 or features.dtype not in (torch.float32, torch.float64):
            self.refuse("it has no support features [n, d]")
        if labels is None or labels.dtype != torch.int64 or labels.shape != features.shape[:1]:
            self.refuse("it has not one label for each support image")
        if labels.unique().tolist() != list(range(len(self.layout.classes))):
            self.refuse("its labels are not those of its classes, each with an example or more")
        return features, labels

    @property
    def examples(self) -> tuple[Example, ...] | None:
        """Names and small pictures of the support images, if they were kept."""
        names = self.layout.examples
        if names is None:
            return None
        jpeg, ends = (self.tensors.get(f"examples/{n}") for n in ("jpeg", "ends"))
        if (
            jpeg is None
            or ends is None
            or (jpeg.dtype, ends.dtype) != (torch.uint8, torch.int64)
            or (jpeg.ndim, ends.ndim) != (1, 1)
            or not len(names) == len(ends) == len(self.support[1])
        ):
            self.refuse("its small pictures are not those of its support images")
        bounds = [0, *ends.tolist()]
        if bounds[-1] != len(jpeg) or any(not 0 <= b - a <= EXAMPLE for a, b in pairwise(bounds)):
            self.refuse("its small pictures do not lie one behind the other")
        content = jpeg.numpy().tobytes()
        return tuple(Example(name, content[a:b]) for name, (a, b) in zip(names, pairwise(bounds), strict=True))

    def adapted(self, network: Network) -> Network:
        """The network as the support set has changed it."""
        model, device = network.model, network.device
        own = dict(model.named_parameters())
        fast, last, given = self.part("fast"), self.part("last"), self.part("statistics")
        for n, t in [*fast.items(), *((n, t[None]) for n, t in last.items())]:
            if n not in own or t.shape != (1, *own[n].shape) or t.dtype != own[n].dtype:
                self.refuse(f"its adapted weights {quoted(n)} are of another model")
        by_support = network.by_batch and self.layout.settings.statistics == "support"
        norms = {
            n: m.num_features
            for n, m in model.named_modules()
            if by_support and isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None
        }
        if {f"{n}/{part}" for n in norms for part in ("mean", "variance")} != set(given) or any(
            t.shape != (1, norms[n.rpartition("/")[0]]) for n, t in given.items()
        ):
            self.refuse("its batch statistics are of another model")
        return replace(
            network,
            fast={n: t.to(device) for n, t in fast.items()},
            last={n: t.to(device) for n, t in last.items()},
            statistics={n: (given[f"{n}/mean"].to(device), given[f"{n}/variance"].to(device)) for n in norms} or None,
        )

    def fill_head(self, head: UnitLinear) -> None:
        """Give a head that was made of the support set its weights."""
        found = self.part("head")
        check_shapes(dict(head.named_parameters()), found, self.path)
        head.load_state_dict(found)

    def refuse(self, why: str) -> NoReturn:
        """Raises InnerloopError."""
        raise InnerloopError(f"{self.path} cannot be used as a classifier: {why}")


def write_saved(
    path: Path, layout: Layout, tensors: Mapping[str, Tensor], examples: Sequence[Example] | None = None
) -> None:
    """Write a file, whole or not at all."""
    if examples is not None:
        large = next((e.name for e in examples if len(e.jpeg) > EXAMPLE), None)
        if large is not None:
            raise InnerloopError(f"the small picture of {large} has more than {EXAMPLE:,} bytes")
        jpeg = b"".join(e.jpeg for e in examples)
        tensors = {
            **tensors,
            "examples/jpeg": torch.from_numpy(np.frombuffer(jpeg, np.uint8).copy()),
            "examples/ends": torch.tensor(np.cumsum([len(e.jpeg) for e in examples]), dtype=torch.int64),
        }
    text = json.dumps(asdict(layout), allow_nan=False, separators=(",", ":"))
    plain = {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}
    content = save(plain, {"innerloop": text, "sha256": _UNSEALED})
    if len(content) > LARGEST or _header_size(content) > LARGEST_HEADER:
        raise InnerloopError(f"the classifier takes more than the {LARGEST:,} bytes that a file of one may have")
    write_bytes(path, content.replace(_seal(_UNSEALED), _seal(_digest(content)), 1))


def read_saved(path: str | os.PathLike[str]) -> Saved:
    """Read and check a file. Raises InnerloopError, naming it, for one that is damaged, changed or none of ours."""
    path = Path(path)

    def refuse(why: str) -> NoReturn:
        raise InnerloopError(f"{path} is not a saved classifier: {why}")

    check_regular(path)
    if path.is_dir():
        raise InnerloopError(f"{path} is a folder, no saved classifier")
    if not path.exists():
        beside = [p.name for p in path.parent.glob("*.innerloop")] if path.parent.is_dir() else []
        raise InnerloopError(f"there is not a saved classifier {path}{did_you_mean(path.name, beside)}")
    if (size := path.stat().st_size) > LARGEST:
        refuse(f"it has {size:,} bytes, more than the {LARGEST:,} that are read")
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8 or _header_size(start) > min(LARGEST_HEADER, size - 8):
            refuse("it does not begin as a safetensors file, or its header is too large")
        content = start + file.read()
    header = content[8 : 8 + _header_size(content)]
    try:
        metadata = parse_json(header).get("__metadata__")
        given = metadata["sha256"]
        text = metadata["innerloop"]
        if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{64}", given):
            raise TypeError
    except (InnerloopError, AttributeError, KeyError, TypeError, UnicodeDecodeError):
        refuse("it lacks the settings that 'innerloop classify --save' writes")
    if header.count(_seal(given)) != 1 or _digest(content.replace(_seal(given), _seal(_UNSEALED), 1)) != given:
        refuse("its checksum is another: it was changed or damaged after it was written; save it again")
    try:
        layout = config_from_json(Layout, parse_json(text))
        tensors = load(content)
    except (InnerloopError, SafetensorError) as error:
        refuse(str(error))
    parts = ("support", "body", "fast", "last", "statistics", "head", "examples")
    if (unknown := next((n for n in tensors if n.partition("/")[0] not in parts), None)) is not None:
        refuse(f"it has {quoted(unknown)}, which this version does not know")
    for n, t in tensors.items():
        if n.startswith("body/"):  # compared with the network; a mask of attention may be infinite
            continue
        if t.dtype not in (torch.float32, torch.float64, torch.int64, torch.uint8) or not bool(t.isfinite().all()):
            refuse(f"{quoted(n)} has values that cannot be")
    return Saved(path, layout, tensors)


def label_kind(classes: NDArray[Any]) -> str:
    """How `Layout.labels` names the type of these classes."""
    kind = {"U": "text", "O": "object"}.get(classes.dtype.kind, classes.dtype.name)
    if kind not in get_args(_Kind) or (kind == "object" and not all(isinstance(c, str) for c in classes)):
        raise InnerloopError(f"classes of {classes.dtype} cannot be saved; text, whole numbers and booleans can")
    return kind


def _header_size(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


def _seal(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
