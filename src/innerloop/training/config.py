"""The whole of a training run as one frozen value; it is written to config.json, and made again from there."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import torch

from innerloop.core.inner import InnerLoop
from innerloop.core.outer import OuterLoop
from innerloop.data.catalogue import find
from innerloop.data.dataset import Dataset, Regression
from innerloop.data.folder import Folder
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings
from innerloop.methods.catalogue import method
from innerloop.methods.heads import Metric
from innerloop.methods.method import Method
from innerloop.models.conv4 import Downsample
from innerloop.models.head import FullContext, Readout
from innerloop.reference import is_reference
from innerloop.runs.config_json import config_from_json
from innerloop.validated import (
    Bound,
    Count,
    Natural,
    NonNegative,
    Several,
    Threads,
    Validated,
    Width,
    Widths,
    at_least,
    at_most,
    checked,
)

Arch = Literal["conv4", "resnet12", "mlp"]


@dataclass(frozen=True)
class Model(Validated, at="model"):
    """The network."""

    arch: str = "conv4"
    """conv4: four convolutional blocks; resnet12; mlp: fully connected; or module:attribute of your own, a function
    (way, channels, image_size) that returns an nn.Sequential of named blocks, the last one the head"""
    filters: Width = 64
    """filters of each conv4 block"""
    downsample: Downsample = "stride"
    """conv4: how each block halves the image"""
    readout: Readout = "mean"
    """conv4: the head sees the spatial mean, or all pixels of the last block"""
    hidden: Widths = (40, 40)
    """widths of the mlp's hidden layers"""
    affine: bool = True
    """whether batch norm has a learned scale and shift"""
    head_scale: NonNegative = 1.0
    """factor on the head's initial weights (1: Xavier, 0: zeros), for a linear head"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_reference(self.arch):
            checked(Arch, self.arch, "model.arch")


@dataclass(frozen=True)
class Inner(Validated, at="inner"):
    """The inner loop; which blocks adapt is the method's business."""

    steps: Natural = 5
    """gradient steps on the support set, in training"""
    lr: NonNegative = 0.4
    """inner rate, for a loss that is the mean over the support set (with learned rates: where they start)"""
    first_order: bool = False
    """drop the second derivatives"""
    adapt_norm: bool = False
    """whether batch norm's scale and shift adapt too"""
    learn_rates: bool = False
    """learn one inner rate per block and step together with the weights (maml++ always does)"""
    proximal: NonNegative = 0.0
    """λ of the pull λ/2 ‖θ_m − θ‖² back to the slow weights in the inner loop (imaml needs one)"""
    solve_steps: Count = 5
    """imaml: conjugate-gradient iterations for the meta-gradient"""
    second_order_from: Natural = 0
    """the outer step from which on second derivatives are taken, first order before (MAML++'s derivative-order
    annealing)"""
    anneal_steps: Natural = 0
    """maml++: outer steps over which the loss after each inner step gives way to the loss after the last; 0: a tenth"""
    recompute: bool = False
    """meta-gradient with the activations of one inner step in memory at a time (measured on a CPU: as fast for conv4,
    up to twice the time for a small mlp)"""
    statistics: Literal["batch", "support"] = "batch"
    """whose batch statistics normalise the query set in training: its own, or the support set's"""


@dataclass(frozen=True)
class Validation(Validated, at="validation"):
    """Validation on held-out classes, always on the same episodes; chooses the best checkpoint."""

    every: Count = 500
    """outer steps between validations (and checkpoints)"""
    episodes: Several = 100
    """validation episodes"""
    keep_every: Natural = 0
    """keep the checkpoint of every so many outer steps, to look back at the course of training; 0: last and best
    only"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_every % self.every:
            raise InnerloopError(
                f"validation.keep_every must be a multiple of validation.every, {self.every}, where checkpoints are "
                f"made; got {self.keep_every}"
            )


@dataclass(frozen=True)
class Config(Validated):
    """Everything that decides a training run."""

    data: str = "glyphs"
    """data set: one of `innerloop data list`, or module:attribute for one of your own"""
    folder: Folder = field(default_factory=Folder)
    split_scheme: str = ""
    """which published split, if there are several (omniglot: vinyals or lake)"""
    method: str = "maml"
    """gradient-based: maml (all blocks adapt), fomaml, anil (the head), boil (the body), meta-sgd, maml++,
    proto-maml, unicorn, reptile, imaml; metric: nil (cosine attention), proto, matching, siamese; transfer: baseline
    (linear head), baseline++ (cosine head), finetune (all blocks), centroid (class means), multiclass (cosines);
    multitask: one head for all tasks. docs/methods.md has each one's source. module:attribute is a method of your own
    (docs/extending.md)"""
    way: Annotated[int, at_least(2, "one class cannot be told from another"), at_most(2**16)] = 5
    """classes per episode"""
    shot: Count = 1
    """support images per class"""
    query: Count = 15
    """query images per class in training"""
    train_way: Annotated[int, Bound("0 or at least 2", lambda v: v == 0 or v >= 2), at_most(2**16)] = 0
    """classes per episode in training where that is another number (proto, matching, nil: Snell et al. 2017); 0: way"""
    augment: Literal["none", "affine"] = "none"
    """affine: every training image is turned, sheared, scaled and shifted a little (Koch et al. 2015); tests never"""
    model: Model = field(default_factory=Model)
    inner: Inner = field(default_factory=Inner)
    metric: Metric = field(default_factory=Metric)
    outer: OuterLoop = field(default_factory=OuterLoop)
    validation: Validation = field(default_factory=Validation)
    test: EvalSettings = field(default_factory=EvalSettings)
    seed: int = 0
    """root seed of initialisation and training episodes"""
    task_chunk: Natural = 0
    """tasks in memory at once; 0 chooses: on a CPU as many as suit conv4 and one for other convolutions, else all"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: Threads = 0
    """CPU threads; 0 leaves PyTorch's choice"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_method(method(self.method))
        if self.regression and self.model.arch != "mlp" and not is_reference(self.model.arch):
            raise InnerloopError(
                f"{self.model.arch} takes images, {self.data} has none; start from --preset sinusoid-10shot, "
                "or give --model.arch mlp"
            )
        if self.augment != "none" and self.regression:
            raise InnerloopError(f"augment {self.augment!r} distorts images, {self.data} has none: leave it at none")

    def _check_method(self, kind: Method) -> None:
        """Raise InnerloopError where an option does not go with the method."""
        if self.regression and not kind.adapts and kind.predict is None:
            raise InnerloopError(f"{self.method} is for classes and cannot fit a regression; use maml or anil")
        if kind.trains_on != "episodes" and self.inner.statistics == "support":
            raise InnerloopError(f"{self.method} trains without support sets; leave inner.statistics at batch")
        if self.regression and kind.start != "own":
            raise InnerloopError(f"{self.method} starts from classes and cannot fit a regression; use maml or anil")
        of_support = kind.head != "model" or kind.predict is not None
        if self.train_way and (not of_support or kind.trains_on != "episodes"):
            raise InnerloopError(
                f"train_way {self.train_way} is for methods whose head is made of the support set (proto, matching, "
                f"nil); {self.method} trains with way {self.way}: leave it at 0"
            )
        with torch.device("meta"):
            own_head = kind.make_head and kind.make_head(1, 1, self.model.readout, self.metric)
        if self.metric.full_context and not isinstance(own_head, FullContext):
            raise InnerloopError(f"metric.full_context is for matching, not {self.method}")
        if self.model.head_scale != 1 and own_head is not None:
            raise InnerloopError(
                f"model.head_scale {self.model.head_scale} applies to a linear head, which {self.method} does not have "
                "here; leave it at 1"
            )
        if kind.trains_on == "pairs" and self.metric.normalise == "centre":
            raise InnerloopError(
                f"{self.method} trains on pairs, which have no support set to centre by; normalise l2 or none"
            )
        i = self.inner
        if i.recompute and (i.first_order or kind.first_order or not kind.differentiates):
            raise InnerloopError(
                f"recompute concerns the second order, which this run of {self.method} does not take: leave it off"
            )
        if i.learn_rates and not kind.adapts:
            raise InnerloopError(f"{self.method} has no inner loop, so there are no inner rates to learn")
        if i.learn_rates and not kind.differentiates:
            raise InnerloopError(f"{self.method} does not differentiate its inner loop, so it cannot learn inner rates")
        if (i.learn_rates or kind.learns == "block_rates") and i.steps < 1:
            raise InnerloopError(
                f"{self.method} learns one inner rate per block and step, and inner.steps is {i.steps}: give 1 or more"
                + (", or leave inner.learn_rates off" if i.learn_rates else "")
            )
        if kind.each_step and i.steps < 1:
            raise InnerloopError(f"{self.method} takes the loss after each inner step; give at least 1 step")
        if kind.step_norms and i.adapt_norm:
            raise InnerloopError(f"{self.method} learns batch norm for each inner step: leave inner.adapt_norm off")
        if kind.proximal and not i.proximal:
            raise InnerloopError(f"{self.method} needs a pull to the slow weights: give --inner.proximal, such as 2")
        if i.proximal and not kind.proximal:
            raise InnerloopError(f"inner.proximal is for imaml, not {self.method}: leave it at 0")
        if i.learn_rates and kind.learns == "parameter_rates":
            raise InnerloopError(
                f"{self.method} learns a rate for every parameter already: leave inner.learn_rates off"
            )
        differentiated = kind.adapts and kind.differentiates
        if i.second_order_from and (i.first_order or kind.first_order or not differentiated):
            raise InnerloopError(
                f"inner.second_order_from {i.second_order_from} is for methods of second order, such as maml; this run "
                f"of {self.method} takes no second derivatives: leave it at 0"
            )

    @property
    def dataset(self) -> Dataset | Regression:
        """The value that `data` names."""
        return find(self.data, split_scheme=self.split_scheme, folder=self.folder)

    @property
    def regression(self) -> bool:
        """Whether tasks are regressions (scored by mean squared error, smaller is better)."""
        return isinstance(self.dataset, Regression)

    @property
    def loop(self) -> InnerLoop:
        """The inner loop as far as no method decides."""
        i = self.inner
        return InnerLoop(
            steps=i.steps,
            lr=i.lr,
            first_order=i.first_order,
            adapt_norm=i.adapt_norm,
            recompute=i.recompute,
            proximal=i.proximal,
        )

    @property
    def inner_loop(self) -> InnerLoop:
        """The inner loop of this method."""
        return method(self.method).inner(self.loop)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Config":
        """The config written by `to_json`; a value of another type and an unknown key are errors."""
        if kind := value.get("kind"):
            raise InnerloopError(f"this is the config of another kind of run, {kind!r}, which 'innerloop {kind}' made")
        return config_from_json(cls, value)
