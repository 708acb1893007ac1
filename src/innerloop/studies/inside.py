"""A trained model analysed: freezing, other heads, similarity, movement. What `study` and `analyse` measure."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.analysis import (
    Frozen,
    HeadRow,
    Movement,
    freezing,
    fresh_head,
    head_share,
    heads,
    linear_cka,
    mean_cca,
    movement,
    similarity,
)
from innerloop.analysis.similarity import Measure
from innerloop.core.episodes import ClassImages
from innerloop.core.functional import Weights, block_names, slow_weights
from innerloop.core.inner import InnerLoop, with_steps
from innerloop.core.random import generator_for
from innerloop.core.statistics import Estimate
from innerloop.evaluation import Evaluation, evaluate, fixed_episodes
from innerloop.methods.catalogue import NIL
from innerloop.methods.method import predictor
from innerloop.studies import claims
from innerloop.studies.result import Outcome, difference
from innerloop.studies.stage import MOVEMENT_EPISODES, Stage
from innerloop.studies.threads import Work, in_turn
from innerloop.training import Config, build

CUT = "CCA of 98 %"
"""the mean over the leading correlations that make up 98 % of their sum, as in the code that the paper cites"""
ZEROS, NO_HEAD = "head from zeros", "NIL"


def cca_if_enough(x: Tensor, y: Tensor, *, cut: float = 1.0, per_neuron: int | None = None) -> float:
    """Mean CCA, over `per_neuron` evenly spaced data points per neuron at most; NaN, which is left out, with fewer
    than the two per neuron that it needs."""
    neurons = max(x.shape[1], y.shape[1])
    if len(x) < 2 * neurons:
        return math.nan
    if torch.equal(x, y):  # a body that was not adapted
        return math.nan if bool((x == x[0]).all()) else 1.0
    n = min(len(x), (per_neuron or len(x)) * neurons)
    chosen = torch.arange(n, device=x.device) * len(x) // n
    return mean_cca(x[chosen], y[chosen], cut=cut)


def measures(per_neuron: int | None = None) -> dict[str, Measure]:
    """CCA with and without its tail, and CKA."""
    return {
        "CCA": lambda x, y: cca_if_enough(x, y, per_neuron=per_neuron),
        CUT: lambda x, y: cca_if_enough(x, y, per_neuron=per_neuron, cut=0.98),
        "CKA": linear_cka,
    }


@dataclass(frozen=True)
class Numbers:
    """What the paper's claims about one model are tested on, as ranges over test episodes, of one seed or several."""

    frozen: claims.Range
    """all but the head frozen − nothing frozen"""
    nil: claims.Range
    """no inner loop − nothing frozen"""
    learnt: claims.Learnt
    alike: Mapping[str, Mapping[str, claims.Range]]
    """measure -> block"""
    moved: Mapping[str, claims.Range]
    """block -> distance / norm; the last block is the head"""

    def outcomes(self, more: str = "") -> list[Outcome]:
        """The claims."""
        return [
            claims.body_frozen(self.frozen, self.learnt, more),
            *similarity_claims(self.alike, list(self.moved)[-1], more),
            claims.head_moves_most(self.moved, more=more),
        ]


@dataclass(frozen=True)
class Inside:
    """What was found; accuracies are on the same test episodes."""

    whole: Evaluation
    """as trained, all that its inner loop adapts"""
    untrained: Evaluation
    """NIL on the body before training"""
    frozen: list[Frozen]
    still: Mapping[str, Evaluation]
    """the body frozen, with no head (NIL), and with the head started from zeros, unless it diverges"""
    heads: list[HeadRow]
    moved: list[Movement]
    alike: Mapping[str, Mapping[str, Estimate | None]]
    """measure -> block"""
    share: Estimate
    shot: int

    @property
    def learnt(self) -> claims.Learnt:
        """What training has added to the untrained body."""
        return claims.Learnt(claims.range_of(difference(self.whole, self.untrained)), self.shot)

    @property
    def head(self) -> str:
        """The name of the last block."""
        return self.moved[-1].block

    @property
    def numbers(self) -> Numbers:
        """What the claims are tested on."""
        return Numbers(
            claims.range_of(self.frozen[-1].difference),
            claims.range_of(difference(self.still[NO_HEAD], self.whole)),
            self.learnt,
            {m: {b: claims.range_of(e) for b, e in v.items() if e} for m, v in self.alike.items()},
            {m.block: claims.range_of(m.relative) for m in self.moved},
        )


def similarity_claims(alike: Mapping[str, Mapping[str, claims.Range]], head: str, more: str = "") -> list[Outcome]:
    """Figure 2's, of measure -> block -> range; `head` is one of the blocks. CCA is tested as in the code that the
    paper cites, without its tail."""
    outcomes = []
    for name in (CUT, "CKA"):
        body = dict(alike[name])
        of_head = body.pop(head, claims.Range(math.nan, math.nan, math.nan))
        beside = ", ".join(f"{v.mean:.3f}" for b, v in alike["CCA"].items() if b != head)
        tail = f"; with the tail {beside}" if name == CUT and beside else ""
        outcomes += [
            claims.body_alike(name, body, more=tail + more),
            claims.head_changes_most(name, of_head, body, more),
        ]
    return outcomes


def look_inside(
    config: Config,
    model: nn.Sequential,
    parameters: Weights,
    images: ClassImages,
    *,
    inner: InnerLoop | None = None,
    whole: Evaluation | None = None,
    untrained: Evaluation | None = None,
    per_neuron: int | None = None,
    blocks: bool = True,
    at_once: Callable[[Sequence[Work]], list[Any]] = in_turn,
    report: Callable[[Stage], None] = lambda _: None,
) -> Inside:
    """Everything about a trained model, on the test episodes of `config.test` (movement, similarity and share on the
    first `MOVEMENT_EPISODES`). `inner` is the loop of the run unless given, `whole` and `untrained` likewise;
    without `blocks` the body is frozen as a whole only, and other heads are left out. `at_once` does the independent
    parts."""
    settings, inner = config.test, inner or config.inner_loop
    family = build.tasks(config, images, "test", settings.query)
    chunk = build.chunk_size(config, images.images.device)
    few = replace(settings, episodes=min(MOVEMENT_EPISODES, settings.episodes))
    head = block_names(model)[-1:]

    def score(learner: Any, weights: Weights) -> Evaluation:
        return evaluate(learner, weights, family, settings, task_chunk=chunk, each_step=False)

    def part(title: str) -> dict[str, Any]:
        return {"task_chunk": chunk, "report": lambda done, total: report(Stage(title, done, total))}

    report(Stage("test episodes", 0, 1))
    whole = whole or score(predictor(model, inner), parameters)
    if untrained is None:
        start = build.build_model(config, images)
        untrained = score(NIL(start, inner=inner), slow_weights(start))
    known = whole
    everything = known if inner.blocks == "all" else None
    zeros = fresh_head(model, parameters, generator_for(settings.seed), zero=True)
    body_frozen = predictor(model, replace(inner, blocks=head))

    def frozen() -> list[Frozen]:
        if blocks:
            return freezing(model, parameters, family, inner, settings, whole=everything, **part("freezing test"))
        still = score(body_frozen, parameters)
        return [Frozen(block_names(model)[:-1], head, still, difference(still, known))]

    def others() -> list[HeadRow]:
        return heads(model, parameters, family, inner, settings, whole=known, **part("heads")) if blocks else []

    def still() -> dict[str, Evaluation]:
        found = {NO_HEAD: score(NIL(model, inner=inner), parameters)}
        with suppress(FloatingPointError):  # the inner rate was trained with another head
            found[ZEROS] = score(body_frozen, zeros)
        return found

    def changed() -> tuple[dict[str, dict[str, Estimate | None]], list[Movement]]:
        report(Stage("movement and similarity", 0, 1))
        found = changes(config, model, parameters, images, inner=inner, per_neuron=per_neuron)
        report(Stage("movement and similarity", 1, 1))
        return found

    def share() -> Estimate:
        return head_share(model, parameters, fixed_episodes(family, few), task_chunk=chunk)

    rows, other, unmoved, (alike, moved), of_head = at_once((frozen, others, still, changed, share))
    return Inside(known, untrained, rows, unmoved, other, moved, alike, of_head, config.shot)


def changes(
    config: Config,
    model: nn.Sequential,
    parameters: Weights,
    images: ClassImages,
    *,
    inner: InnerLoop | None = None,
    per_neuron: int | None = None,
) -> tuple[dict[str, dict[str, Estimate | None]], list[Movement]]:
    """What the inner loop does to each block's output and weights, on the first `MOVEMENT_EPISODES` test episodes."""
    settings, chunk = config.test, build.chunk_size(config, images.images.device)
    family = build.tasks(config, images, "test", settings.query)
    few = replace(settings, episodes=min(MOVEMENT_EPISODES, settings.episodes))
    at_test = with_steps(inner or config.inner_loop, settings.inner_steps)
    alike = similarity(
        model,
        parameters,
        fixed_episodes(family, few),
        at_test,
        measures=measures(per_neuron),
        statistics=few.statistics,
        task_chunk=chunk,
    )
    return alike, movement(model, parameters, fixed_episodes(family, few), at_test, task_chunk=chunk)
