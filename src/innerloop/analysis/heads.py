"""What a trained head is worth: the head as trained, re-initialised, removed, and under permuted class labels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations as all_permutations

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes, TaskFamily
from innerloop.core.functional import Weights, head_of
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import Loss, accuracy, cross_entropy
from innerloop.core.random import generator_for
from innerloop.core.statistics import Estimate, over_episodes, paired_difference
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, Evaluation, evaluate, fixed_episodes
from innerloop.methods.method import predictor


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
        """The best permutation of each episode, chosen by its query labels: a bound, not a score that can be had."""
        return over_episodes(self.scores.amax(0))

    @property
    def worst(self) -> Estimate:
        """The worst permutation of each episode."""
        return over_episodes(self.scores.amin(0))

    @property
    def std(self) -> Estimate:
        """The standard deviation over the permutations (n − 1) of each episode."""
        return over_episodes(self.scores.std(0, correction=1))


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
    """Adapt to each test episode once for every permutation of its class labels (Ye & Chao 2022, arXiv 2106.16245).

    All N! permutations if they are at most `permutations`, else as many different ones from a fixed seed, the
    identity first. Episodes, images and model are the same; only which column of the head learns which class differs.
    Calling class c p[c] is the same as putting row p[c] of the head in the place of row c.
    """
    way, width = _way(family, settings), _width(model, slow)
    if width != way:
        raise InnerloopError(
            f"the head has {width} columns and the episodes have {way} classes; give it {way} with fresh_head"
        )
    chosen = _choose(way, permutations)
    learner, rows = predictor(model, inner, loss=loss), []
    for i, p in enumerate(chosen):
        tasks = _Relabelled(family, p)
        found = evaluate(learner, slow, tasks, settings, task_chunk=task_chunk, each_step=False)
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
    if permutations < 2:
        raise InnerloopError(f"a comparison needs 2 or more permutations, got {permutations}")
    if way < 2:
        raise InnerloopError("one class alone cannot be permuted; take tasks of 2 or more ways")
    if math.factorial(way) <= permutations:
        return list(all_permutations(range(way)))
    chosen = {tuple(range(way)): None}
    generator = generator_for(0, "permutations", way)
    while len(chosen) < permutations:
        chosen.setdefault(tuple(torch.randperm(way, generator=generator).tolist()))
    return list(chosen)


def fresh_head(
    model: nn.Sequential,
    slow: Weights,
    generator: torch.Generator,
    *,
    outputs: int | None = None,
    zero: bool = False,
) -> dict[str, Tensor]:
    """`slow` with the linear head's weights re-initialised (Xavier, bias 0), or all 0; the body's weights are shared.

    `outputs` is the new number of columns (None: as many as before). The model goes with weights of any width, since a
    forward pass takes them from the dictionary; neither it nor `slow` is changed. With zeros all columns are alike, so
    that no assignment of classes to columns is better than another.
    """
    if outputs is not None and outputs < 1:
        raise InnerloopError(f"a head needs 1 or more outputs, got {outputs}")
    path = _linear(model)
    drawn: dict[str, Tensor] = {}
    for n in (f"{path}.weight", f"{path}.bias"):
        if n in slow:
            old = slow[n]
            new = torch.zeros(outputs or len(old), *old.shape[1:], dtype=old.dtype, device=generator.device)
            if not zero and n.endswith("weight"):
                nn.init.xavier_uniform_(new, generator=generator)
            drawn[n] = new.to(old.device).requires_grad_(old.requires_grad)
    return {**slow, **drawn}


def _linear(model: nn.Sequential) -> str:
    """The path of the head's one linear layer."""
    name, head = head_of(model)
    found = [(n, m) for n, m in head.named_modules() if isinstance(m, nn.Linear)]
    if len(found) != 1 or len(list(head.parameters())) != len(list(found[0][1].parameters())):
        raise InnerloopError(
            f"the head {name!r} is a {type(head).__name__} with {len(found)} linear layers; a head that can be drawn "
            "again is one nn.Linear, or a block that has the weights of one and no others"
        )
    return f"{name}.{found[0][0]}".removesuffix(".")


def _width(model: nn.Sequential, slow: Weights) -> int:
    return len(slow[f"{_linear(model)}.weight"])


def _way(family: TaskFamily, settings: EvalSettings) -> int:
    labels = next(fixed_episodes(family, replace(settings, episodes=2))).support_y
    if labels.is_floating_point():
        raise InnerloopError("heads are compared on tasks of classes; these tasks are regressions")
    return int(labels.max()) + 1


@dataclass(frozen=True)
class HeadRow:
    """One way to classify with a trained model's features."""

    name: str
    evaluation: Evaluation
    difference: Estimate
    """against the first row, on the same episodes"""


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
    """The model with its head as trained, re-initialised and zero (all adapted by `inner`), and NIL's two heads,
    which need no inner loop: cosine attention and distance to class means. The same episodes each time.

    `whole` is the evaluation of the trained head on the same settings, if it is at hand already; it is then the first
    row. Else a head with another number of columns than the tasks have classes (a classifier of all training classes)
    is left out, and the differences are against the re-initialised head. So is any other row but the first in which the
    adapted weights diverge.
    """
    none = replace(inner, blocks="none")
    way = _way(family, settings)
    jobs = [
        ("as trained", slow, inner, "model"),
        (
            "re-initialised",
            fresh_head(model, slow, generator_for(settings.seed, "fresh head"), outputs=way),
            inner,
            "model",
        ),
        ("zeros", fresh_head(model, slow, generator_for(settings.seed), outputs=way, zero=True), inner, "model"),
        ("NIL, cosine", slow, none, "cosine"),
        ("NIL, Euclidean class means", slow, none, "euclidean"),
    ]
    if whole is None and _width(model, slow) != way:
        del jobs[0]
    rows: list[HeadRow] = []
    for i, (name, weights, loop, head) in enumerate(jobs):
        report(i, len(jobs))
        try:
            found = (whole if i == 0 else None) or evaluate(
                predictor(model, loop, head=head, loss=loss),
                weights,
                family,
                settings,
                score=score,
                task_chunk=task_chunk,
                each_step=False,
            )
        except FloatingPointError:
            if not rows:
                raise
            continue  # the inner rate was trained with another head
        first = rows[0].evaluation if rows else found
        gap = paired_difference(torch.tensor(found.per_episode), torch.tensor(first.per_episode))
        rows.append(HeadRow(name, found, gap))
    report(len(jobs), len(jobs))
    return rows
