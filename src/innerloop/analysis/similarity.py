"""How alike two representations of the same inputs are: linear CKA, before and after the inner loop."""

from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, forward
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import Loss, cross_entropy
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.methods.gradient import split_rates


def linear_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """Linear centred kernel alignment ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖) of column-centred X and Y (Kornblith et al. 2019,
    equation 5).

    Rows are the same data points in both. 0 to 1; unchanged by rotation and isotropic scaling of either. NaN where a
    representation is constant over the data points: there is nothing to compare.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"x and y need one row for each data point, got {tuple(x.shape)} and {tuple(y.shape)}")
    x = x.double() - x.double().mean(0)
    y = y.double() - y.double().mean(0)
    cross = (y.T @ x).square().sum()
    scale = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    return float(cross / scale) if float(scale) > 0 else float("nan")


def as_points(h: Float[Tensor, "n *shape"]) -> Float[Tensor, "points neurons"]:
    """Activations as data points × neurons: for [n, c, h, w] every pixel is a data point and every channel a neuron."""
    return h.movedim(1, -1).flatten(0, -2) if h.ndim > 2 else h


@torch.no_grad()
def block_outputs(
    model: nn.Sequential,
    slow: Weights,
    fast: Weights,
    x: Float[Tensor, "tasks n *shape"],
    statistics_of: Float[Tensor, "tasks context *shape"] | None = None,
) -> dict[str, Tensor]:
    """The output of each block, [tasks, n, …], by block name; batch statistics are those of x, or of the other set."""
    out: dict[str, Tensor] = {}
    for name, block in model.named_children():
        one = nn.Sequential()
        one.add_module(name, block)
        mine = {n: w for n, w in fast.items() if n.startswith(f"{name}.")}
        x = out[name] = forward(one, slow, mine, x, statistics_of=statistics_of)
        statistics_of = None if statistics_of is None else forward(one, slow, mine, statistics_of)
    return out


@torch.no_grad()
def similarity(
    model: nn.Sequential,
    slow: Weights,
    batches: Iterable[Episodes],
    inner: InnerLoop,
    *,
    loss: Loss = cross_entropy,
    statistics: Literal["batch", "support"] = "batch",
    task_chunk: int | None = None,
) -> dict[str, Estimate | None]:
    """Linear CKA of each block's output on the query set, before against after adaptation; mean and ci95 over episodes.

    Batch statistics are those of the query set, before and after, or with `statistics` "support" those of the support
    set. A convolution's pixels are data points and its channels neurons, as in the CCA of Raghu et al. 2020 (figure 2).
    None for a block whose output is constant in all but one of the episodes.
    """
    slow, rates = split_rates(slow)
    values: dict[str, list[float]] = {}
    for batch in batches:
        step = task_chunk or len(batch)
        for i in range(0, len(batch), step):
            e = batch[i : i + step]
            of = e.support_x if statistics == "support" else None
            fast = adapt(model, slow, e.support_x, e.support_y, inner, loss=loss, rates=rates)
            before = block_outputs(model, slow, {}, e.query_x, of)
            after = block_outputs(model, slow, fast, e.query_x, of)
            for name in before:
                values.setdefault(name, []).extend(
                    linear_cka(as_points(b), as_points(a)) for b, a in zip(before[name], after[name], strict=True)
                )
    found: dict[str, Estimate | None] = {}
    for name, v in values.items():
        t = torch.tensor(v, dtype=torch.float64)
        t = t[~t.isnan()]
        found[name] = over_episodes(t) if len(t) > 1 else None
    return found
