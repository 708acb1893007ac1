"""The contract of a few-shot method, and what one makes of a model.

A `Method` is a value. `method(model, steps=5, lr=0.4)` is a `Learner`: `init()` gives the meta-parameters, `predict`
the outputs for query sets, `objective` what the outer loop minimises. Training, evaluation and analysis know no more
of any method, ours or yours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Blocks, Weights, block_of, forward, head_of, slow_weights
from innerloop.core.inner import InnerLoop, adapt, adapted_parameters
from innerloop.core.losses import Loss, cross_entropy, per_task
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.methods.gradient import (
    StatisticsOf,
    body_features,
    last_weights,
    learned,
    of_block,
    own_weights,
    query_statistics,
    started,
    step_predictions,
)
from innerloop.methods.head_init import Start
from innerloop.methods.heads import Head, Metric, support_logits
from innerloop.models.head import Readout
from innerloop.reference import check_name
from innerloop.validated import Positive, checked


@dataclass(frozen=True)
class Settings:
    """How a method runs, in training or at test time."""

    inner: InnerLoop = field(default_factory=InnerLoop)
    """steps and rate of the inner loop; which blocks adapt is the method's business"""
    loss: Loss = cross_entropy
    """what the inner loop and the outer loop minimise, one number per task"""
    statistics: StatisticsOf = "batch"
    """whose batch statistics normalise the query set: its own (transductive) or the support set's (non-transductive)"""
    metric: Metric = field(default_factory=Metric)
    """of a head made of the support set's features"""
    temperature: float = 1.0
    """multiplies the cosines or distances of such a head"""
    learn_rates: bool = False
    """learn one inner rate per block and step"""
    anneal: float = 1.0
    """for a loss after each inner step: 0 counts all steps alike, 1 the last one only"""
    solve_steps: int = 5
    """for the implicit gradient: conjugate-gradient iterations"""


@dataclass(frozen=True)
class Method:
    """A few-shot method.

    A gradient-based method says which `blocks` adapt, from which `start`; a metric method which `head` classifies. Any
    other gives `predict`, and `init` if it learns more than the model's weights:

        def predict(learner, parameters, episodes): ...   # -> outputs [tasks, query, way], differentiable
        def init(learner): ...                            # -> {name: tensor that requires a gradient}

    where `learner.model` is the network, `learner.settings` are the settings of the run, and
    `learner.features(parameters, episodes)` what the body makes of support and query images.
    """

    name: str
    blocks: Blocks = "none"
    """which blocks the inner loop changes"""
    first_order: bool = False
    head: Head = "model"
    """what classifies: the model's last block, or the support set's features"""
    start: Start = "own"
    """where the head begins the inner loop"""
    predict: "Callable[[Learner, Weights, Episodes], Tensor] | None" = None
    """outputs for the query sets [tasks, query, …]; None: adapt `blocks` from `start`, classify by `head`"""
    init: "Callable[[Learner], dict[str, Tensor]] | None" = None
    """the meta-parameters; None: the model's weights, and the rates and norms that are learned"""
    objective: "Callable[[Learner, Weights, Episodes], tuple[Tensor, Tensor]] | None" = None
    """losses [tasks] that the outer loop minimises, and outputs; None: the loss of what `predict` gives"""
    trains_on: Literal["episodes", "classes", "pairs"] = "episodes"
    """classes: batches of all training classes, one output each; pairs: same class or not"""
    learns: Literal["none", "block_rates", "parameter_rates"] = "none"
    """inner rates that are learned together with the weights"""
    step_norms: bool = False
    """batch norm's scale and shift are learned for each inner step"""
    adapt_norm: bool = False
    """batch norm's scale and shift always adapt"""
    each_step: bool = False
    """the objective takes the loss after each inner step"""
    differentiates: bool = True
    """the meta-gradient goes through the inner steps"""
    proximal: bool = False
    """the inner loop needs a pull back to the slow weights"""
    make_head: Callable[[int, int, Readout, Metric], nn.Module | None] | None = None
    """the model's last block, from features, outputs, readout and metric; None: a linear layer"""
    test: "Method | None" = None
    """the method of validation and test on the same weights; None: this one"""
    source: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)

    def __call__(self, model: nn.Sequential, settings: Settings | None = None, **change: Any) -> "Learner":
        """This method at work on `model`; `change` are fields of `InnerLoop` or `Settings`, such as steps and lr."""
        settings = settings or Settings()
        of_inner, own = {f.name for f in fields(InnerLoop)} - {"blocks"}, {f.name for f in fields(Settings)}
        for key in change:
            if key not in of_inner | own:
                raise InnerloopError(
                    f"{self.name} has no setting {quoted(key)}; there are {', '.join(sorted(of_inner | own))}"
                    f"{did_you_mean(key, of_inner | own)}"
                )
        settings = replace(settings, **{k: v for k, v in change.items() if k in own})
        inner = replace(settings.inner, **{k: v for k, v in change.items() if k in of_inner})
        return Learner(self, model, replace(settings, inner=inner))

    @property
    def adapts(self) -> bool:
        """Whether an inner loop runs."""
        return self.blocks != "none"

    @property
    def family(self) -> Literal["gradient-based", "metric", "transfer"]:
        """How it solves few-shot tasks: by gradient steps that training foresees, by comparing features with those of
        the support set, or by features of a classifier of all training classes."""
        if self.trains_on == "classes":
            return "transfer"
        return "gradient-based" if self.adapts else "metric"

    @property
    def at_test(self) -> "Method":
        """The method of validation and test."""
        return self.test or self

    def inner(self, loop: InnerLoop) -> InnerLoop:
        """`loop` (steps, rate) with this method's blocks and order."""
        return replace(
            loop,
            blocks=self.blocks,
            first_order=self.first_order or loop.first_order,
            adapt_norm=self.adapt_norm or loop.adapt_norm,
        )


@dataclass(frozen=True)
class Learner:
    """A method at work on a model. Calling it is `predict`, so that it is a `Predict` for `meta_gradient`."""

    method: Method
    model: nn.Sequential
    settings: Settings

    @cached_property
    def inner(self) -> InnerLoop:
        """The inner loop as this method runs it."""
        return self.method.inner(self.settings.inner)

    def init(self) -> dict[str, Tensor]:
        """What the outer loop trains, by name: leaf tensors that require a gradient.

        By default the model's weights; the inner rates if they are learned (``rate:NAME``); batch norm's scale and
        shift for each inner step (``step:NAME``: a row for each step's support set, one for the query set after the
        last; the model's own NAME then waits unused).
        """
        if self.method.init is None:
            return self._parameters()
        found = self.method.init(self)
        for name, p in found.items():
            if not (isinstance(p, Tensor) and p.is_leaf and p.is_floating_point()):
                raise InnerloopError(
                    f"init of {self.method.name} gives {name!r} as {type(p).__name__}; a meta-parameter is a leaf "
                    "tensor of floating point, such as torch.nn.Parameter(torch.zeros(()))"
                )
        return found

    def predict(self, parameters: Weights, episodes: Episodes) -> Float[Tensor, "tasks query ..."]:
        """Outputs for the query sets, differentiable with respect to the meta-parameters.

        Every method of ours: adapt to each support set, then classify the query set by the model's head or by the
        support set's features.
        """
        kind, model, s = self.method, self.model, self.settings
        if kind.predict is not None:
            return kind.predict(self, parameters, episodes)
        checked(Positive, s.temperature, "temperature")
        slow = own_weights(parameters)
        fast = adapt(
            model,
            slow,
            episodes.support_x,
            episodes.support_y,
            self.inner,
            loss=s.loss,
            rates=learned(parameters, "rate"),
            start=started(model, slow, episodes, kind.start),
            step_weights=learned(parameters, "step"),
        )
        if kind.head == "model":
            last = last_weights(model, parameters, self.inner)
            of = query_statistics(s.statistics, model, last, fast, episodes.support_x)
            return forward(model, last, fast, episodes.query_x, statistics=of)
        of = query_statistics(s.statistics, model, slow, fast, episodes.support_x)
        name, block = head_of(model)
        return support_logits(
            s.metric.head(kind.head),
            body_features(model, slow, fast, episodes.query_x, of),
            body_features(model, slow, fast, episodes.support_x),
            episodes.support_y,
            block=block,
            weights=of_block(slow, name),
            normalise=s.metric.normalise,
            temperature=s.temperature,
            way=episodes.way,
        )

    __call__ = predict

    def objective(self, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """The losses [tasks] that the outer loop minimises on these training tasks, and the outputs for their query
        sets."""
        return (self.method.objective or query_loss)(self, parameters, episodes)

    def features(self, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
        """What the slow body makes of the support and the query images [tasks, n, features], before the head.

        For methods that classify by them; the settings decide the query set's batch statistics.
        """
        slow = own_weights(parameters)
        of = query_statistics(self.settings.statistics, self.model, slow, {}, episodes.support_x)
        support = body_features(self.model, slow, {}, episodes.support_x)
        return support, body_features(self.model, slow, {}, episodes.query_x, of)

    @property
    def has_steps(self) -> bool:
        """Whether `steps` tells more than `predict`."""
        return self.method.predict is None and self.method.head == "model"

    def steps(self, parameters: Weights, episodes: Episodes) -> Iterator[Tensor]:
        """Outputs for the query sets after 0, 1, …, `inner.steps` inner steps; one where nothing adapts."""
        if not self.has_steps:
            yield self.predict(parameters, episodes)
            return
        yield from step_predictions(
            self.model,
            parameters,
            episodes,
            self.inner,
            start=self.method.start,
            loss=self.settings.loss,
            statistics=self.settings.statistics,
        )

    def _parameters(self) -> dict[str, Tensor]:
        parameters: dict[str, Tensor] = dict(slow_weights(self.model))
        inner = self.inner
        names = adapted_parameters(self.model, inner)
        device = next(self.model.parameters()).device
        if self.settings.learn_rates or self.method.learns == "block_rates":
            for block in dict.fromkeys(block_of(n) for n in names):
                parameters[f"rate:{block}"] = nn.Parameter(torch.full((inner.steps,), inner.lr, device=device))
        elif self.method.learns == "parameter_rates":
            for n in names:
                parameters[f"rate:{n}"] = nn.Parameter(torch.full_like(parameters[n], inner.lr))
        if self.method.step_norms:
            blocks = {block_of(n) for n in names}
            for n, p in slow_weights(self.model).items():
                if n not in names and block_of(n) in blocks:
                    parameters[f"step:{n}"] = nn.Parameter(p.detach().expand(inner.steps + 1, *p.shape).clone())
        return parameters


def query_loss(learner: Learner, parameters: Weights, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """The loss of the predictions, one a task, and the predictions: the objective of most methods."""
    output = learner.predict(parameters, episodes)
    return per_task(learner.settings.loss, output, episodes.query_y), output


def predictor(
    model: nn.Sequential,
    inner: InnerLoop,
    *,
    head: Head = "model",
    start: Start = "own",
    metric: Metric = Metric(),  # noqa: B008  frozen
    loss: Loss = cross_entropy,
    statistics: StatisticsOf = "batch",
    temperature: float = 1.0,
) -> Learner:
    """The learner of an inner loop that is at hand: `inner.blocks` adapt from `start`, then `head` classifies."""
    kind = Method("inner loop", inner.blocks, head=head, start=start)
    settings = Settings(inner, loss=loss, statistics=statistics, metric=metric, temperature=temperature)
    return Learner(kind, model, settings)
