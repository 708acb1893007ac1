"""How alike two representations of the same inputs are, block by block: before and after the inner loop, or in two
models."""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.analysis.cka import linear_cka
from innerloop.core.episodes import Episodes
from innerloop.core.functional import Statistics, Weights, block_names, blocks_of, forward
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import Loss, cross_entropy
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.errors import InnerloopError
from innerloop.methods.gradient import StatisticsOf, last_weights, learned, own_weights, query_statistics
from innerloop.validated import checked

Measure = Callable[[Tensor, Tensor], float]
"""(x [points, neurons], y [points, neurons]) -> similarity, NaN if there is nothing to compare"""
Model = tuple[nn.Sequential, Weights] | tuple[nn.Sequential, Weights, InnerLoop | None]
"""a model, its slow weights, and how it is adapted to each episode (not at all without an inner loop)"""
LINEAR_CKA: Mapping[str, Measure] = {"cka": linear_cka}


def as_points(h: Float[Tensor, "n *shape"]) -> Float[Tensor, "points neurons"]:
    """Activations as data points × neurons: for [n, c, h, w] every pixel is a data point and every channel a neuron."""
    return h.movedim(1, -1).flatten(0, -2) if h.ndim > 2 else h


@torch.no_grad()
def block_outputs(
    model: nn.Sequential,
    slow: Weights,
    fast: Weights,
    x: Float[Tensor, "tasks n *shape"],
    statistics: Statistics | None = None,
) -> dict[str, Tensor]:
    """The output of each block, [tasks, n, …], by block name; batch statistics come from x, or are given."""
    out: dict[str, Tensor] = {}
    for name, block in blocks_of(model).items():
        one = nn.Sequential()
        one.add_module(name, block)
        mine = {n: w for n, w in fast.items() if n.startswith(f"{name}.")}
        x = out[name] = forward(one, slow, mine, x, statistics=statistics)
    return out


@torch.no_grad()
def similarity(
    model: nn.Sequential,
    slow: Weights,
    batches: Iterable[Episodes],
    inner: InnerLoop,
    *,
    measures: Mapping[str, Measure] = LINEAR_CKA,
    loss: Loss = cross_entropy,
    statistics: StatisticsOf = "batch",
    task_chunk: int | None = None,
    points: int | None = None,
) -> dict[str, dict[str, Estimate | None]]:
    """Each block's output on the query set, before against after adaptation: measure -> block -> mean and ci95 over
    episodes.

    Batch statistics come from the query set, before and after, or with `statistics` "support" those of the support
    set. A convolution's pixels are data points and its channels neurons, as in the CCA of Raghu et al. 2020 (figure 2);
    `points` is the most data points of an episode that are compared, evenly spaced over images and pixels and the same
    in both (a kernel on all pixels would need their number squared). There is one adaptation an episode for all
    measures. None for a block whose output is constant in all but one of the episodes.
    """
    return between(
        (model, slow, None),
        (model, slow, inner),
        batches,
        measures=measures,
        loss=loss,
        statistics=statistics,
        task_chunk=task_chunk,
        points=points,
    )


@torch.no_grad()
def between(
    first: Model,
    second: Model,
    batches: Iterable[Episodes],
    *,
    measures: Mapping[str, Measure] = LINEAR_CKA,
    loss: Loss = cross_entropy,
    statistics: StatisticsOf = "batch",
    task_chunk: int | None = None,
    points: int | None = None,
) -> dict[str, dict[str, Estimate | None]]:
    """Two models' outputs for the same query sets, for each block that both have: measure -> block -> mean and ci95.

    A model is (model, weights) as it is, or (model, weights, inner loop), adapted to each episode. The other arguments
    are as in `similarity`. Raises ValueError where the models have no block name in common, or a block's outputs are
    of different spatial size.
    """
    checked(StatisticsOf, statistics, "statistics")
    if points is not None and points < 2:
        raise InnerloopError(f"points is the most data points of an episode to compare, 2 or more; got {points}")
    shared = [b for b in block_names(first[0]) if b in block_names(second[0])]
    if not shared:
        raise InnerloopError(
            f"the models share no block: {', '.join(block_names(first[0]))} and {', '.join(block_names(second[0]))}"
        )
    values: dict[str, dict[str, list[float]]] = {m: {} for m in measures}
    for batch in batches:
        step = task_chunk or len(batch)
        for i in range(0, len(batch), step):
            e = batch[i : i + step]
            one, two = (_outputs(m, e, loss, statistics) for m in (first, second))
            for block in shared:
                for x, y in zip(one[block], two[block], strict=True):
                    x, y = as_points(x), as_points(y)
                    if len(x) != len(y):
                        raise InnerloopError(
                            f"block {block!r} gives {len(x)} data points in one model, {len(y)} in the other"
                        )
                    x, y = _thin(x, points), _thin(y, points)
                    for name, measure in measures.items():
                        values[name].setdefault(block, []).append(measure(x, y))
    return {name: {b: _estimate(v) for b, v in blocks.items()} for name, blocks in values.items()}


def _outputs(model: Model, e: Episodes, loss: Loss, statistics: StatisticsOf) -> dict[str, Tensor]:
    net, inner = model[0], model[2] if len(model) == 3 else None
    slow, fast = own_weights(model[1]), {}
    if inner is not None:
        rates, steps = learned(model[1], "rate"), learned(model[1], "step")
        fast = adapt(net, slow, e.support_x, e.support_y, inner, loss=loss, rates=rates, step_weights=steps)
        slow = last_weights(net, model[1], inner)
    of = query_statistics(statistics, net, slow, fast, e.support_x)
    return block_outputs(net, slow, fast, e.query_x, of)


def _thin(x: Tensor, points: int | None) -> Tensor:
    if points is None or len(x) <= points:
        return x
    return x[torch.arange(points, device=x.device) * len(x) // points]


def _estimate(values: list[float]) -> Estimate | None:
    t = torch.tensor(values, dtype=torch.float64)
    t = t[~t.isnan()]
    return over_episodes(t) if len(t) > 1 else None
