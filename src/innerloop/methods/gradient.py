"""The parts of a method: meta-parameters by their kind, features, where the head begins, outputs after each step."""

from collections.abc import Iterator
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import (
    Statistics,
    Weights,
    batch_statistics,
    forward,
    head_of,
    resolve_blocks,
    split_model,
)
from innerloop.core.inner import InnerLoop, adapt_path, at_step
from innerloop.core.losses import Loss, cross_entropy
from innerloop.methods.head_init import Start, head_start
from innerloop.methods.heads import Metric, pair_logits
from innerloop.validated import checked

StatisticsOf = Literal["batch", "support"]
"""whose batch statistics normalise the query set: its own (transductive) or the support set's (non-transductive)"""


def query_statistics(
    of: StatisticsOf, model: nn.Sequential, slow: Weights, fast: Weights, support_x: Tensor
) -> Statistics | None:
    """What `forward` takes as the query set's statistics: those of the support set, or None for its own."""
    of = checked(StatisticsOf, of, "statistics")
    return batch_statistics(model, slow, fast, support_x) if of == "support" else None


def pair_outputs(
    model: nn.Sequential, parameters: Weights, pairs: Episodes, metric: Metric
) -> Float[Tensor, "tasks pairs 2"]:
    """For training on pairs: logits of (different, same).

    The pairs are an episode whose support and query images are the first and second ones of each pair.
    """
    name, block = head_of(model)
    slow = own_weights(parameters)
    a, b = (body_features(model, slow, {}, x) for x in (pairs.support_x, pairs.query_x))
    return pair_logits(a, b, block=block, weights=of_block(slow, name), normalise=metric.normalise)


def step_predictions(
    model: nn.Sequential,
    parameters: Weights,
    episodes: Episodes,
    inner: InnerLoop,
    *,
    start: Start = "own",
    loss: Loss = cross_entropy,
    statistics: StatisticsOf = "batch",
) -> Iterator[Float[Tensor, "tasks query out"]]:
    """Query outputs after 0, 1, …, `inner.steps` inner steps, one after the other; what does not adapt runs once.

    Differentiable as `adapt` is.
    """
    slow, steps = own_weights(parameters), learned(parameters, "step")
    begin = started(model, slow, episodes, start)
    before, rest = split_model(model, resolve_blocks(model, inner.blocks))
    if not len(rest):  # nothing adapts: all of it is "the rest", run once
        before, rest = rest, model
    support, query = episodes.support_x, episodes.query_x
    if len(before):
        of = query_statistics(statistics, before, slow, {}, support)
        query = forward(before, slow, {}, query, statistics=of)
        support = forward(before, slow, {}, support)
    path = adapt_path(
        rest,
        slow,
        support,
        episodes.support_y,
        inner,
        loss=loss,
        rates=learned(parameters, "rate"),
        start=begin,
        step_weights=steps,
    )
    for step, fast in enumerate(path):
        own = at_step(slow, steps, step)
        of = query_statistics(statistics, rest, own, fast, support)
        yield forward(rest, own, fast, query, statistics=of)


def own_weights(parameters: Weights) -> dict[str, Tensor]:
    """The slow weights among the meta-parameters; those that differ from step to step as they are before the first."""
    slow = {n: p for n, p in parameters.items() if ":" not in n}
    steps = learned(parameters, "step")
    return at_step(slow, steps, 0) if steps else slow


def last_weights(model: nn.Sequential, parameters: Weights, inner: InnerLoop) -> dict[str, Tensor]:
    """The slow weights behind the last of `inner`'s steps. Blocks before the first adapted one see no step, and keep
    those of `own_weights`."""
    slow, steps = own_weights(parameters), learned(parameters, "step")
    if not steps:
        return slow
    _, rest = split_model(model, resolve_blocks(model, inner.blocks))
    inside = {n for n, _ in rest.named_parameters()}
    return at_step(slow, {n: w for n, w in steps.items() if n in inside}, inner.steps)


def learned(parameters: Weights, kind: Literal["rate", "step"]) -> dict[str, Tensor]:
    """What else is learned among the meta-parameters: inner rates (keys ``rate:NAME``) or weights that differ from
    step to step (``step:NAME``), by NAME."""
    return {n.removeprefix(f"{kind}:"): p for n, p in parameters.items() if n.startswith(f"{kind}:")}


def started(model: nn.Sequential, slow: Weights, episodes: Episodes, start: Start) -> dict[str, Tensor]:
    """Where each task's head begins; class means are of the slow body's features, differentiably."""
    if start == "own":
        return {}
    features = body_features(model, slow, {}, episodes.support_x)
    return head_start(start, model, slow, features, episodes.support_y, episodes.way)


def body_features(
    model: nn.Sequential, slow: Weights, fast: Weights, x: Tensor, statistics: Statistics | None = None
) -> Float[Tensor, "tasks n features"]:
    """Penultimate features: what the head's linear layer would see (spatial mean or flattened, as the head reads
    them)."""
    name, head = head_of(model)
    body, _ = split_model(model, (name,))
    own = {n: w for n, w in fast.items() if not n.startswith(f"{name}.")}
    h = forward(body, slow, own, x, statistics=statistics)
    if h.ndim == 5 and getattr(head, "readout", "flatten") == "mean":
        return h.mean((3, 4))
    return h.flatten(2)


def of_block(weights: Weights, name: str) -> dict[str, Tensor]:
    """The weights of the block `name`, by their names in it."""
    return {n.removeprefix(f"{name}."): w for n, w in weights.items() if n.startswith(f"{name}.")}
