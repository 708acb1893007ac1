"""The whole of a training run as one frozen value; it is written to config.json, and made again from there."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from innerloop.core.inner import InnerLoop
from innerloop.core.outer import OuterLoop
from innerloop.evaluation import EvalSettings
from innerloop.methods.gradient import MethodName, method

WITHOUT_INNER_LOOP = ("nil", "multitask", "multiclass")
DataName = Literal["glyphs", "omniglot", "cifar_fs", "fc100", "mini_imagenet", "sinusoid", "folder"]


@dataclass(frozen=True)
class Model:
    """The network."""

    arch: Literal["conv4", "resnet12", "mlp"] = "conv4"
    """conv4: four convolutional blocks; resnet12; mlp: fully connected"""
    filters: int = 64
    """filters of each conv4 block"""
    downsample: Literal["stride", "max_pool"] = "stride"
    """conv4: how each block halves the image"""
    readout: Literal["mean", "flatten"] = "mean"
    """conv4: the head sees the spatial mean, or all pixels of the last block"""
    hidden: tuple[int, ...] = (40, 40)
    """widths of the mlp's hidden layers"""
    affine: bool = True
    """whether batch norm has a learned scale and shift"""

    def __post_init__(self) -> None:
        if min(self.filters, *self.hidden) < 1:
            raise ValueError(f"filters and hidden widths must be at least 1, got {self.filters} and {self.hidden}")


@dataclass(frozen=True)
class Inner:
    """The inner loop; which blocks adapt is the method's business."""

    steps: int = 5
    """gradient steps on the support set, in training"""
    lr: float = 0.4
    """inner rate, for a loss that is the mean over the support set (with learned rates: where they start)"""
    first_order: bool = False
    """drop the second derivatives"""
    adapt_norm: bool = False
    """whether batch norm's scale and shift adapt too"""
    learn_rates: bool = False
    """learn one inner rate a block and step together with the weights (MAML++)"""
    recompute: bool = False
    """meta-gradient with the activations of one inner step in memory at a time (measured on a CPU: as fast for conv4,
    up to twice the time for a small mlp)"""
    statistics: Literal["batch", "support"] = "batch"
    """whose batch statistics normalise the query set in training: its own, or the support set's"""


@dataclass(frozen=True)
class Folder:
    """For data 'folder': a tree ROOT/CLASS/IMAGE of your own."""

    root: str = ""
    """the folder (or zip archive) of classes"""
    size: int = 84
    """every image becomes size×size pixels"""
    channels: int = 3
    """3: RGB, 1: grey"""
    split_dir: str = ""
    """where train.txt, val.txt and test.txt (class names) lie; empty: in ROOT, if there"""
    split_seed: int = 0
    """without such lists: the seed by which the classes are shared out 64/16/20"""


@dataclass(frozen=True)
class Validation:
    """Validation on held-out classes, always on the same episodes; chooses the best checkpoint."""

    every: int = 500
    """outer steps between validations (and checkpoints)"""
    episodes: int = 100
    """validation episodes"""
    keep_every: int = 0
    """keep the checkpoint of every so many outer steps, to look back at the course of training; 0: last and best
    only"""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"validation.every must be at least 1 outer step, got {self.every}")
        if self.episodes < 2:
            raise ValueError(f"validation.episodes must be at least 2, got {self.episodes}")
        if self.keep_every < 0 or self.keep_every % self.every:
            raise ValueError(
                f"validation.keep_every must be a multiple of validation.every, {self.every}, where checkpoints are "
                f"made; got {self.keep_every}"
            )


@dataclass(frozen=True)
class Config:
    """Everything that decides a training run."""

    data: DataName = "glyphs"
    """data set; `innerloop data list` describes them"""
    folder: Folder = field(default_factory=Folder)
    split_scheme: str = ""
    """which published split, where there are several (omniglot: vinyals or lake)"""
    method: MethodName = "maml"
    """maml: all blocks adapt; fomaml: the same, first order; anil: the head; boil: the body; nil: nothing, cosine
    head; multitask: nothing, one head for all tasks; multiclass: one classifier of all training classes (both are
    tested with nil's head)"""
    way: int = 5
    """classes an episode"""
    shot: int = 1
    """support images a class"""
    query: int = 15
    """query images a class in training"""
    augment: Literal["none", "affine"] = "none"
    """affine: every training image is turned, sheared, scaled and shifted a little (Koch et al. 2015); tests never"""
    model: Model = field(default_factory=Model)
    inner: Inner = field(default_factory=Inner)
    outer: OuterLoop = field(default_factory=OuterLoop)
    validation: Validation = field(default_factory=Validation)
    test: EvalSettings = field(default_factory=EvalSettings)
    seed: int = 0
    """root seed of initialisation and training episodes"""
    task_chunk: int = 0
    """tasks in memory at once; 0 chooses: one for convolutions on a CPU, all otherwise"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""

    def __post_init__(self) -> None:
        for name in ("way", "shot", "query"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("task_chunk", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (choose) or more, got {getattr(self, name)}")
        if self.method in WITHOUT_INNER_LOOP and self.regression:
            raise ValueError(f"{self.method} is for classes and cannot fit a regression; use maml or anil")
        if self.method == "multiclass" and self.inner.statistics == "support":
            raise ValueError("multiclass trains without support sets; leave inner.statistics at batch")
        if self.regression and self.model.arch != "mlp":
            raise ValueError(
                f"{self.model.arch} takes images, sinusoid has none; start from --preset sinusoid-10shot, "
                "or give --model.arch mlp"
            )
        if self.folder.root and self.data != "folder":
            raise ValueError(
                f"folder.root {self.folder.root!r} is for data 'folder', not {self.data}: add --data folder"
            )
        if self.augment != "none" and self.regression:
            raise ValueError(f"augment {self.augment!r} distorts images, {self.data} has none: leave it at none")
        if self.split_scheme and self.data != "omniglot":
            raise ValueError(f"{self.data} has one split only; split_scheme {self.split_scheme!r} is for omniglot")
        if self.inner.recompute and (self.inner.first_order or self.method == "fomaml"):
            raise ValueError(
                "recompute concerns the second order; a first-order run needs no such memory: drop one of them"
            )
        if self.inner.learn_rates and self.method in WITHOUT_INNER_LOOP:
            raise ValueError(f"{self.method} has no inner loop, so there are no inner rates to learn")
        if self.inner.learn_rates and self.inner.steps < 1:
            raise ValueError("learned rates are one a block and step; with 0 inner steps there are none")

    @property
    def regression(self) -> bool:
        """Whether tasks are regressions (scored by mean squared error, smaller is better)."""
        return self.data == "sinusoid"

    @property
    def inner_loop(self) -> InnerLoop:
        """The inner loop of this method."""
        i = self.inner
        return method(self.method).inner(
            InnerLoop(
                steps=i.steps,
                lr=i.lr,
                first_order=i.first_order,
                adapt_norm=i.adapt_norm,
                recompute=i.recompute,
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Config":
        """The config written by `to_json`; an unknown key is an error."""
        parts: dict[str, Callable[[dict[str, Any]], Any]] = {
            "folder": lambda v: Folder(**v),
            "model": lambda v: Model(**{**v, "hidden": tuple(v["hidden"])}),
            "inner": lambda v: Inner(**v),
            "outer": lambda v: OuterLoop(**v),
            "validation": lambda v: Validation(**v),
            "test": lambda v: EvalSettings(**v),
        }
        known = {f.name for f in fields(cls)}
        unknown = [k for k in value if k not in known]
        if unknown:
            raise ValueError(f"config has {', '.join(unknown)}, which this version does not know")
        try:
            return cls(**{k: parts[k](v) if k in parts else v for k, v in value.items()})
        except (TypeError, KeyError) as error:
            raise ValueError(f"config is of another version: {error}") from None
