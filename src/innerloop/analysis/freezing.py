"""The freezing test: adapt only a trained model's last blocks, and see what is lost (Raghu et al. 2020, table 1)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from innerloop.core.episodes import TaskFamily
from innerloop.core.functional import Weights, block_names
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import Loss, accuracy, cross_entropy
from innerloop.core.statistics import Estimate, paired_difference
from innerloop.evaluation import EvalSettings, Evaluation, evaluate
from innerloop.methods.method import predictor


@dataclass(frozen=True)
class Frozen:
    """One row of the table."""

    frozen: tuple[str, ...]
    """blocks kept at the meta-initialisation"""
    adapted: tuple[str, ...]
    evaluation: Evaluation
    difference: Estimate
    """against adapting all blocks, on the same episodes"""


def freezing(
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
) -> list[Frozen]:
    """Freeze nothing, the first block, the first two, … all but the head; the same test episodes each time.

    `whole` is the evaluation with nothing frozen on the same settings, if it is at hand already. `report` is called
    with (rows done, rows in all).
    """
    names = block_names(model)
    rows: list[Frozen] = []
    everything: torch.Tensor | None = None
    for j in range(len(names)):
        adapted = names[j:]
        result = (whole if j == 0 else None) or evaluate(
            predictor(model, replace(inner, blocks=adapted), loss=loss),
            slow,
            family,
            settings,
            score=score,
            task_chunk=task_chunk,
            each_step=False,
        )
        values = torch.tensor(result.per_episode)
        everything = values if everything is None else everything
        rows.append(Frozen(names[:j], adapted, result, paired_difference(values, everything)))
        report(j + 1, len(names))
    return rows
