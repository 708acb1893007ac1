"""How far the inner loop moves the weights of each block."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights, block_names, block_of
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import Loss, cross_entropy
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.methods.gradient import split_rates


@dataclass(frozen=True)
class Movement:
    """One block."""

    block: str
    parameters: int
    distance: Estimate
    """‖θ_after − θ_before‖₂ over all weights of the block, in units of the weights"""
    relative: Estimate
    """the same, divided by ‖θ_before‖₂"""


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
    B.3)."""
    slow, rates = split_rates(slow)
    squares: dict[str, list[Tensor]] = {name: [] for name in block_names(model)}
    for batch in batches:
        step = task_chunk or len(batch)
        for i in range(0, len(batch), step):
            e = batch[i : i + step]
            fast = adapt(model, slow, e.support_x, e.support_y, inner, loss=loss, rates=rates)
            for name, seen in squares.items():
                mine = [
                    (w - slow[n]).double().flatten(1).square().sum(1) for n, w in fast.items() if block_of(n) == name
                ]
                seen.append(torch.stack(mine).sum(0) if mine else torch.zeros(len(e), dtype=torch.float64))
    found = []
    for name, seen in squares.items():
        own = [w for n, w in slow.items() if block_of(n) == name]
        norm = torch.stack([w.double().square().sum() for w in own]).sum().sqrt() if own else torch.tensor(1.0)
        distance = torch.cat(seen).sqrt().cpu()
        found.append(
            Movement(
                name,
                sum(w.numel() for w in own),
                over_episodes(distance),
                over_episodes(distance / norm.clamp_min(1e-30).cpu()),
            )
        )
    return found
