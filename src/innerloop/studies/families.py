"""All families of few-shot learning on the same data, body and episodes: accuracy against the cost of adaptation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from innerloop.analysis.cost import measure_cost
from innerloop.core.functional import block_names, slow_weights
from innerloop.core.inner import adapted_parameters
from innerloop.core.statistics import over_episodes
from innerloop.core.threads import one_thread
from innerloop.evaluation import fixed_episodes
from innerloop.methods.catalogue import METHODS, MULTICLASS, REGIMES, method
from innerloop.methods.metric import nearest_neighbour
from innerloop.studies import claims
from innerloop.studies.lab import SHARE_MULTICLASS, Lab, Trained
from innerloop.studies.published import published
from innerloop.studies.result import Drawing, Outcome, Result, Row, SeedValue, Series, difference
from innerloop.studies.stage import Stage
from innerloop.training import build

NAMES = tuple(
    m.name for f in ("gradient-based", "metric", "transfer") for m in METHODS if m.family == f and m not in REGIMES
)
TRAINED = (*(n for n in NAMES if n not in SHARE_MULTICLASS), MULTICLASS.name)
"""the runs that it needs"""
MINUTES, ADAPTATION, PARAMETERS = "training (min)", "ms an episode", "parameters adapted"


def families(lab: Lab) -> Result:
    """Every method under its own test, beside an untrained body and the nearest neighbour in raw pixels."""
    names = lab.methods or NAMES
    rows: list[Row] = []
    groups = {name: method(name).family for name in names}
    for name in names:
        values = lab.per_seed(lambda s, n=name: lab.score(lab.trained(n, s), n))
        printed = published(name, lab.data, lab.way, lab.shot)
        rows.append(Row(name, "accuracy", values, printed, measured={MINUTES: _minutes(lab, name)}))
    random = lab.per_seed(lambda s: lab.score(lab.trained("random", s), "nil"))
    rows.append(Row("untrained body, nil's head", "accuracy", random))
    rows.append(Row("nearest pixels", "accuracy", lab.per_seed(lambda _: _pixels(lab))))
    cost = _adaptation(lab, names)
    rows = [replace(r, measured={**r.measured, **cost.get(r.label, {})}) for r in rows]
    best = max((r for r in rows if r.label in groups), key=lambda r: r.mean)
    return Result(
        tuple(rows),
        (_every_one_learns(rows, random), *([_near_the_best(lab, best)] if {"maml", "anil"} <= set(names) else [])),
        _drawing(rows, groups),
        "each method's own paper, at its own length of training" if any(r.paper for r in rows) else "",
        (
            f"{MINUTES}: of one run, as long as this machine took, other work beside it; baseline, finetune and "
            f"centroid share one run. {ADAPTATION}: CPU time on one thread to adapt to one test episode and classify "
            "its query set, the median of interleaved repeats. Each method has the same body, data, outer steps and "
            "tasks per step, and the settings of its preset; none was tuned further.",
            *_other_training(lab, names),
        ),
    )


def _minutes(lab: Lab, name: str) -> float:
    seconds = [f.summary["seconds"] for s in lab.seeds if (f := lab.trained(name, s).folder) is not None]
    return sum(seconds) / len(seconds) / 60


def _pixels(lab: Lab):
    few = lab.settings.episodes
    return over_episodes(torch.cat([nearest_neighbour(e) for e in lab.episodes(few)]).cpu())


def _adaptation(lab: Lab, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The time of one test episode and the number of parameters that adapt, by method."""
    seed = lab.seeds[0]
    episode = next(iter(fixed_episodes(lab.family, lab.few(2))))[0:1].to(lab.images.images.device)
    work: dict[str, Callable[[], object]] = {}
    adapted: dict[str, float] = {}
    for name in names:
        run = lab.trained(name, seed)
        work[name] = _one_episode(run, name, episode)
        adapted[name] = float(adapted_count(run, name, lab.way))
    lab.report(Stage("time of an episode", 0, 1))
    with one_thread():
        found = measure_cost(work, repeats=9, device=episode.support_x.device)
    return {n: {ADAPTATION: found.milliseconds[n], PARAMETERS: adapted[n]} for n in names}


def _one_episode(run: Trained, name: str, episode) -> Callable[[], object]:
    predict = build.at_test(run.config, run.model, name)

    def once() -> object:
        with torch.no_grad():
            return predict(run.parameters, episode)

    return once


def adapted_count(run: Trained, name: str, way: int) -> int:
    """How many numbers the inner loop changes at test time; a head that is made for the task has `way` outputs."""
    learner = build.at_test(run.config, run.model, name)
    slow, head = slow_weights(run.model), block_names(run.model)[-1]
    total = 0
    for n in adapted_parameters(run.model, learner.inner):
        made = n.startswith(f"{head}.") and learner.method.start != "own"
        total += slow[n].numel() // len(slow[n]) * way if made else slow[n].numel()
    return total


def _every_one_learns(rows: list[Row], random: tuple[SeedValue, ...]) -> Outcome:
    trained = [r for r in rows if r.measured.get(MINUTES) is not None]
    gains = {r.label: claims.range_of(r).minus(claims.range_of(random)) for r in trained}
    worst = min(gains, key=lambda name: gains[name].mean)
    return Outcome(
        "Every method learns something that its untrained body does not have",
        "each method's mean accuracy ≥ the untrained body's + 2 points",
        claims.every(claims.at_least(g, 0.02) for g in gains.values()),
        f"least: {worst}, {claims.said(gains[worst], 'points')}",
    )


def _near_the_best(lab: Lab, best: Row) -> Outcome:
    def gap(seed: int):
        return difference(lab.score(lab.trained("anil", seed), "anil"), lab.score(lab.trained("maml", seed), "maml"))

    more = f"; best of all: {best.label}, {100 * best.mean:.1f} %"
    return claims.anil_as_good(claims.range_of(lab.per_seed(gap)), lab.learnt(), more)


def _drawing(rows: list[Row], groups: Mapping[str, str]) -> Drawing:
    series = []
    for family in dict.fromkeys(groups.values()):
        own = [r for r in rows if groups.get(r.label) == family]
        series.append(
            Series(
                family,
                [r.measured[ADAPTATION] for r in own],
                [100 * r.mean for r in own],
                error=[100 * (r.ci95 or 0.0) for r in own],
                names=[r.label for r in own],
            )
        )
    return Drawing(
        "scatter",
        "ms to adapt to an episode and classify it (log scale)",
        "accuracy (%)",
        tuple(series),
        "ci95 over test episodes",
    )


def _other_training(lab: Lab, names: Sequence[str]) -> list[str]:
    """What differs from one method's training to another's."""
    base, found = lab.config("maml", 0), []
    for name in names:
        c = lab.config(name, 0)
        what = [f"{c.train_way}-way episodes"] if c.train_way not in (0, base.way) else []
        what += [f"{c.query} query images per class"] if c.query != base.query else []
        if method(name).trains_on == "episodes" and method(name).adapts:
            what += [f"{c.inner.steps} inner steps"] if c.inner.steps != base.inner.steps else []
            what += [f"inner rate {c.inner.lr:g}"] if c.inner.lr != base.inner.lr else []
        if what:
            found.append(f"{name}: {', '.join(what)}")
    return [f"Training that differs from maml's ({base.inner.steps} steps at {base.inner.lr:g}): {'; '.join(found)}."]
