"""How far the inner loop moves the weights of each block, and whether tasks move them the same way."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, block_names, block_of
from innerloop.core.inner import InnerLoop, adapt, adapted_parameters
from innerloop.core.losses import Loss, cross_entropy
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.methods.gradient import learned, own_weights


@dataclass(frozen=True)
class Movement:
    """One block."""

    block: str
    parameters: int
    """weights that the inner loop could change"""
    distance: Estimate
    """‖θ_after − θ_before‖₂ over all weights of the block, in units of the weights"""
    relative: Estimate
    """the same, divided by ‖θ_before‖₂ of those weights that the inner loop could change"""
    cosine: Estimate | None
    """between the updates θ_after − θ_before of two tasks, over the disjoint pairs of episodes (0, 1), (2, 3), …: those
    are independent of one another, so the ci95 holds; `episodes` counts the pairs. Near 1, the tasks ask for one common
    update; near 0, for updates of their own. Pairs in which a task does not move the block are left out; None if fewer
    than two remain"""


@torch.no_grad()
def movement(
    model: nn.Sequential,
    slow: Weights,
    batches: Iterable[Episodes],
    inner: InnerLoop,
    *,
    loss: Loss = cross_entropy,
    task_chunk: int | None = None,
) -> list[Movement]:
    """Distance of each block's weights before and after adaptation: mean and ci95 over episodes (Raghu et al. 2020,
    B.3), and the cosine between the updates of different tasks. Normalisation's scale and shift count only if they
    adapt."""
    rates, steps, slow = learned(slow, "rate"), learned(slow, "step"), own_weights(slow)
    squares: dict[str, list[Tensor]] = {name: [] for name in block_names(model)}
    products: dict[str, list[Tensor]] = {name: [] for name in squares}
    odd: dict[str, Tensor] = {}  # the update of a task that waits for its partner, by parameter
    for batch in batches:
        step = task_chunk or len(batch)
        for i in range(0, len(batch), step):
            e = batch[i : i + step]
            fast = adapt(model, slow, e.support_x, e.support_y, inner, loss=loss, rates=rates, step_weights=steps)
            for name, seen in squares.items():
                mine, dots = [], []
                for n in [n for n in fast if block_of(n) == name]:
                    update = (fast[n] - slow[n]).double().flatten(1)
                    mine.append(update.square().sum(1))
                    waiting = torch.cat([odd[n], update]) if n in odd else update
                    pairs = len(waiting) // 2
                    dots.append((waiting[0 : 2 * pairs : 2] * waiting[1::2]).sum(1))
                    odd[n] = waiting[2 * pairs :].clone()
                seen.append(torch.stack(mine).sum(0) if mine else torch.zeros(len(e), dtype=torch.float64))
                if dots:
                    products[name].append(torch.stack(dots).sum(0))
    # scale and shift of batch norm do not move: with them in the norm every convolution would seem to move less
    could = adapted_parameters(model, replace(inner, blocks="all"))
    found = []
    for name, seen in squares.items():
        own = [slow[n] for n in could if block_of(n) == name]
        norm = torch.stack([w.double().square().sum() for w in own]).sum().sqrt() if own else torch.tensor(1.0)
        distance = torch.cat(seen).sqrt().cpu()
        found.append(
            Movement(
                name,
                sum(w.numel() for w in own),
                over_episodes(distance),
                over_episodes(distance / norm.clamp_min(1e-30).cpu()),
                _cosine(distance, products[name]),
            )
        )
    return found


def _cosine(distance: Tensor, products: list[Tensor]) -> Estimate | None:
    """Inner products of the updates of episodes (0, 1), (2, 3), …, over the lengths of both."""
    if not products:
        return None
    product = torch.cat(products).cpu()
    lengths = distance[: 2 * len(product)].view(-1, 2)
    moved = (lengths > 0).all(1)
    values = product[moved] / lengths[moved].prod(1)
    return over_episodes(values) if len(values) > 1 else None
