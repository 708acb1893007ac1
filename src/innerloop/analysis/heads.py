"""What a trained head is worth: the head as trained, heads drawn anew, no head at all, and permuted class labels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations as all_permutations

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes, TaskFamily
from innerloop.core.functional import Weights, block_names
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import Loss, accuracy, cross_entropy
from innerloop.core.random import stream
from innerloop.core.statistics import Estimate, over_episodes, paired_difference
from innerloop.evaluation import EvalSettings, Evaluation, evaluate, fixed_episodes


@dataclass(frozen=True)
class Permuted:
    """Accuracy of one trained model over assignments of classes to the columns of its head."""

    permutations: tuple[tuple[int, ...], ...]
    """class c is given to column permutations[i][c]; the first one leaves all as they are"""
    scores: Tensor
    """[permutations, episodes]"""

    @property
    def mean(self) -> Estimate:
        """Over permutations and episodes; ci95 over episodes of their means over the permutations."""
        return over_episodes(self.scores.mean(0))

    @property
    def best(self) -> Estimate:
        """The best permutation of each episode: what the right labelling would be worth."""
        return over_episodes(self.scores.amax(0))

    @property
    def worst(self) -> Estimate:
        """The worst permutation of each episode."""
        return over_episodes(self.scores.amin(0))


def label_permutations(
    model: nn.Sequential,
    slow: Weights,
    family: TaskFamily,
    inner: InnerLoop,
    settings: EvalSettings,
    *,
    permutations: int = 24,
    loss: Loss = cross_entropy,
    task_chunk: int | None = None,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Permuted:
    """Adapt to each test episode once for every permutation of its class labels (Ye & Chao 2022, section 4).

    All N! permutations if they are at most `permutations`, else as many different ones from a fixed stream, the
    identity first. Episodes, images and model are the same; only which column of the head learns which class differs.
    """
    way = int(next(fixed_episodes(family, replace(settings, episodes=2))).query_y.max()) + 1
    chosen = _choose(way, permutations)
    rows = []
    for i, p in enumerate(chosen):
        tasks = _Relabelled(family, p)
        found = evaluate(model, slow, tasks, inner, settings, loss=loss, task_chunk=task_chunk, each_step=False)
        rows.append(torch.tensor(found.per_episode, dtype=torch.float64))
        report(i + 1, len(chosen))
    return Permuted(tuple(chosen), torch.stack(rows))


@dataclass(frozen=True)
class _Relabelled:
    """The same tasks with class c called `names[c]`."""

    tasks: TaskFamily
    names: Sequence[int]

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        e = self.tasks.sample(tasks, generator)
        names = torch.tensor(self.names, device=e.query_y.device)
        return replace(e, support_y=names[e.support_y], query_y=names[e.query_y])


def _choose(way: int, permutations: int) -> list[tuple[int, ...]]:
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    if math.factorial(way) <= permutations:
        return list(all_permutations(range(way)))
    chosen = {tuple(range(way)): None}
    generator = stream(0, "permutations", way)
    while len(chosen) < permutations:
        chosen.setdefault(tuple(torch.randperm(way, generator=generator).tolist()))
    return list(chosen)


def fresh_head(
    model: nn.Sequential, slow: Weights, generator: torch.Generator, *, zero: bool = False
) -> dict[str, Tensor]:
    """`slow` with the weights of the head drawn anew (its own `reset_parameters`), or all 0; the given ones stay."""
    name = block_names(model)[-1]
    head = model[-1]
    drawn: dict[str, Tensor] = {}
    for n, w in slow.items():
        if n.startswith(f"{name}."):
            new = torch.zeros_like(w)
            if not zero and w.ndim > 1:
                nn.init.xavier_uniform_(new, generator=generator)
            drawn[n] = new
    if not drawn:
        raise ValueError(f"the head {name!r} ({type(head).__name__}) has no weights")
    return {**slow, **drawn}


@dataclass(frozen=True)
class HeadRow:
    """One way to classify with a trained model's features."""

    name: str
    evaluation: Evaluation
    difference: Estimate
    """against the trained head, on the same episodes"""


def heads(
    model: nn.Sequential,
    slow: Weights,
    family: TaskFamily,
    inner: InnerLoop,
    settings: EvalSettings,
    *,
    loss: Loss = cross_entropy,
    score: Loss = accuracy,
    task_chunk: int | None = None,
    whole: Evaluation | None = None,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[HeadRow]:
    """The model with its head as trained, with heads drawn anew and of zeros (all adapted by `inner`), and NIL's two
    heads, which need no inner loop: cosine attention and distance to class means. The same episodes each time.

    `whole` is the evaluation of the trained head on the same settings, if it is at hand already.
    """
    none = replace(inner, blocks="none")
    jobs = (
        ("as trained", slow, inner, "model"),
        ("drawn anew", fresh_head(model, slow, stream(settings.seed, "fresh head")), inner, "model"),
        ("zeros", fresh_head(model, slow, stream(settings.seed), zero=True), inner, "model"),
        ("NIL, cosine", slow, none, "cosine"),
        ("NIL, Euclidean class means", slow, none, "euclidean"),
    )
    rows: list[HeadRow] = []
    for i, (name, weights, loop, head) in enumerate(jobs):
        found = (whole if i == 0 else None) or evaluate(
            model,
            weights,
            family,
            loop,
            settings,
            head=head,
            loss=loss,
            score=score,
            task_chunk=task_chunk,
            each_step=False,
        )
        first = rows[0].evaluation if rows else found
        gap = paired_difference(torch.tensor(found.per_episode), torch.tensor(first.per_episode))
        rows.append(HeadRow(name, found, gap))
        report(i + 1, len(jobs))
    return rows
