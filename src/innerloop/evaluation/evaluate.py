"""Score a model on a fixed set of episodes: the same seed gives every method the same ones, so that methods compare
in pairs."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from innerloop.core.episodes import Episodes, TaskFamily
from innerloop.core.functional import Weights
from innerloop.core.inner import with_steps
from innerloop.core.losses import Loss, accuracy, per_task
from innerloop.core.outer import Predict, chunks
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.errors import InnerloopError
from innerloop.methods.method import Learner
from innerloop.notebook import html_table
from innerloop.validated import Count, Natural, Positive, Several, Validated

EPISODES_PER_DRAW = 25  # episodes drawn at once; part of what the seed means, so not a setting


@dataclass(frozen=True)
class EvalSettings(Validated, at="test"):
    """Which episodes, and what is measured on them."""

    episodes: Several = 600
    """test episodes; the interval shrinks with their root"""
    query: Count = 15
    """query images per class (fewer where the data has fewer)"""
    inner_steps: Natural = 10
    """gradient steps on each test episode's support set"""
    seed: int = 1_000_003
    """the seed of the test episodes; the same for every method"""
    statistics: Literal["batch", "support"] = "batch"
    """whose batch statistics normalise the query set: its own (transductive) or the support set's (non-transductive)"""
    temperature: Positive = 1.0
    """multiplies the cosines or distances of a head of support features (nil, matching, proto), in training too"""


@dataclass(frozen=True)
class Evaluation:
    """Scores on the test episodes: accuracy (0 to 1) for classes, mean squared error for regression."""

    final: Estimate
    """after all inner steps"""
    steps: tuple[Estimate, ...]
    """after 0, 1, … inner steps; one entry where nothing adapts or the last alone was asked for"""
    per_episode: tuple[float, ...]
    """the final score of each episode, in order: what paired differences are made from"""
    settings: EvalSettings

    def to_json(self) -> dict[str, Any]:
        """Plain values for eval.json."""
        return {
            "settings": asdict(self.settings),
            "mean": self.final.mean,
            "ci95": self.final.ci95,
            "episodes": self.final.episodes,
            "steps": [{"mean": e.mean, "ci95": e.ci95} for e in self.steps],
            "per_episode": [round(v, 6) for v in self.per_episode],
        }

    def _repr_html_(self) -> str:
        """The score after each inner step, for notebooks."""
        rows = [(i, f"{e.mean:.4f}", f"{e.ci95:.4f}") for i, e in enumerate(self.steps)]
        several = len(rows) > 1
        return html_table(
            f"Evaluation: {self.final.mean:.4f} ± {self.final.ci95:.4f}",
            ("inner steps", "mean", "ci95") if several else ("mean", "ci95"),
            rows if several else [row[1:] for row in rows],
            f"{self.final.episodes} test episodes, seed {self.settings.seed}; ci95 is over the episodes of one model.",
        )


def fixed_episodes(family: TaskFamily, settings: EvalSettings) -> Iterator[Episodes]:
    """The test episodes, in batches of at most 25; they depend on the family and the seed alone."""
    if not isinstance(family, TaskFamily):
        raise TypeError(f"a task family has a method sample(tasks, generator), {type(family).__name__} has none")
    done = 0
    while done < settings.episodes:
        n = min(EPISODES_PER_DRAW, settings.episodes - done)
        yield family.sample(EPISODES_PER_DRAW, generator_for(settings.seed, "evaluation", done // EPISODES_PER_DRAW))[
            slice(0, n)
        ]
        done += n


@torch.no_grad()
def evaluate(
    predict: Learner | Predict,
    parameters: Weights,
    family: TaskFamily,
    settings: EvalSettings = EvalSettings(),
    *,
    score: Loss = accuracy,
    task_chunk: int | None = None,
    each_step: bool = True,
    ranks: Ranks = ALONE,
    report: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Predict the query set of each test episode and score it.

    A learner runs with the inner steps, the statistics and the temperature of `settings`, and is scored after each
    inner step, or, quicker, after the last alone; any other function from meta-parameters and episodes to outputs
    [tasks, query, way] is taken as it is. `task_chunk` is the number of episodes in memory at once (None: 25). Of
    several processes (`ranks`), each scores its share, and all get the result. `report` is called with the number of
    episodes done. Raises FloatingPointError if an output or a score is not finite.
    """
    learner = under(predict, settings) if isinstance(predict, Learner) else None
    outputs = learner or predict
    if learner is not None and each_step and learner.has_steps:
        outputs = learner.steps
    rows: list[Tensor] = []
    device = next(iter(parameters.values())).device
    done = 0
    for batch in fixed_episodes(family, settings):
        batch = batch.to(device)
        own = batch[ranks.share(len(batch))]
        for chunk in chunks(own, task_chunk) if len(own) else ():
            found = outputs(parameters, chunk)
            steps = [found] if isinstance(found, Tensor) else found
            rows.append(torch.stack([_finite_score(score, o, chunk) for o in steps]))
        done += len(batch)
        report(done)
    scores = (torch.cat(rows, dim=1) if ranks.size == 1 else _gathered(rows, settings.episodes, ranks)).cpu()
    if not bool(scores.isfinite().all()):
        raise FloatingPointError(
            "an output on an episode is not finite: the adapted weights diverged; lower the inner rate"
        )
    steps = tuple(over_episodes(s) for s in scores)
    return Evaluation(steps[-1], steps, tuple(float(v) for v in scores[-1]), settings)


def _gathered(rows: list[Tensor], episodes: int, ranks: Ranks) -> Tensor:
    """The scores of all processes [steps, episodes], in the order of the episodes."""
    owners = [
        rank
        for start in range(0, episodes, EPISODES_PER_DRAW)
        for n in [min(EPISODES_PER_DRAW, episodes - start)]
        for rank in range(ranks.size)
        for _ in range(*Ranks(rank, ranks.size).share(n).indices(n))
    ]
    steps, kind = ranks.from_first(lambda: (rows[0].shape[0], rows[0].dtype))  # the first has an episode of each draw
    whole = torch.zeros(steps, episodes, dtype=kind)
    if rows:
        whole[:, torch.tensor(owners) == ranks.rank] = torch.cat(rows, dim=1).cpu()
    return ranks.sum(whole)


def under(learner: Learner, settings: EvalSettings) -> Learner:
    """The learner with the inner steps, the statistics and the temperature of a test."""
    own = learner.settings
    inner = with_steps(own.inner, settings.inner_steps)
    own = replace(own, inner=inner, statistics=settings.statistics, temperature=settings.temperature)
    return replace(learner, settings=own)


def _finite_score(score: Loss, output: Tensor, episodes: Episodes) -> Tensor:
    """NaN where the output is not finite: the largest of NaNs would still be some class."""
    if episodes.classes is not None and output.shape[-1] != episodes.way:
        raise InnerloopError(
            f"the model tells {output.shape[-1]} classes apart, the test episodes have {episodes.way}; give tasks of "
            f"way {output.shape[-1]}, or test with a head made of the support set (proto, nil)"
        )
    value = per_task(score, output, episodes.query_y)
    return torch.where(output.isfinite().flatten(1).all(1), value, torch.nan)
