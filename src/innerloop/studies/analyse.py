"""One trained run analysed: freezing, similarity, movement and heads, in one table and one figure."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.core.inner import InnerLoop
from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError
from innerloop.methods.catalogue import method
from innerloop.runs import RunFolder, write_json
from innerloop.studies import claims
from innerloop.studies.inside import NO_HEAD, look_inside
from innerloop.studies.result import Drawing, Result, Row, Series, described, difference, seed_value
from innerloop.studies.stage import Stage
from innerloop.training import build, load_run

WHERE = "analysis"
"""the folder inside the run that it is written to"""


def analyse(
    path: Path,
    *,
    which: str = "best",
    episodes: int | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
    report: Callable[[Stage], None] = lambda _: None,
) -> dict[str, Any]:
    """Look into the run folder `path` and write RUN/analysis/result.json, which is returned as a value.

    The inner loop is the run's own; a run without one (nil, multitask) is analysed with MAML's.
    Raises ValueError for a regression and for a multiclass run, whose head is not of N ways.
    """
    began = time.perf_counter()
    checkpoint = RunFolder(path).load(which)
    config, model, parameters = load_run(path, which=checkpoint, data_dir=data_dir, device=device)
    if config.regression:
        raise InnerloopError(f"{path} is a regression; the analysis compares classes' images")
    kind = method(config.method)
    if kind.trains_on == "classes":
        raise InnerloopError(f"the head of {path} tells all training classes apart; test it with 'innerloop evaluate'")
    if kind.trains_on == "pairs" or config.metric.full_context:
        raise InnerloopError(f"the head of {path} compares images instead of classifying one; test it with 'evaluate'")
    if kind.predict is not None:
        raise InnerloopError(f"{path} was trained with {config.method}, which has no inner loop that is known here")
    if kind.start != "own" or kind.step_norms:
        raise InnerloopError(
            f"{path} was trained with {config.method}, whose inner loop does not begin at one set of slow weights; the "
            "analysis compares before and after for maml, fomaml, anil, boil, meta-sgd, reptile and imaml"
        )
    use_threads(config.threads, stored=True)
    images = build.load_images(config, data_dir)
    assert images is not None
    settings = config.test if episodes is None else replace(config.test, episodes=episodes)
    inner: InnerLoop = config.inner_loop
    adapts = inner.blocks != "none"
    if not adapts:
        inner = replace(inner, blocks="all")
    partly = "the inner loop of this run leaves blocks as they are" if adapts and inner.blocks != "all" else ""
    notes = (
        [f"The run's own inner loop adapts {inner.blocks}."]
        if adapts
        else [
            f"{config.method.upper()} has no inner loop: its weights are looked at with MAML's, and a head that was "
            "not trained to adapt. NIL's cosine head is what it is tested with."
        ]
    )
    config = replace(config, test=settings)
    found = look_inside(config, model, parameters, images, inner=inner, report=report)

    def one(value: Any) -> tuple:
        return (seed_value(config.seed, value),)

    rows = [Row("as trained" if adapts else "MAML's inner loop", "accuracy", one(found.whole))]
    rows += [Row(f"{_upto(r.frozen)} frozen", "accuracy", one(r.evaluation)) for r in found.frozen]
    rows += [Row(f"head: {r.name}", "accuracy", one(r.evaluation)) for r in found.heads[1:]]
    rows += [
        Row(f"{block}, {name} before / after", "similarity", one(e))
        for name, blocks in found.alike.items()
        for block, e in blocks.items()
        if e
    ]
    rows += [Row(f"{m.block}, distance of weights", "distance", one(m.distance)) for m in found.moved]
    rows += [Row(f"{m.block}, distance / norm", "relative", one(m.relative)) for m in found.moved]
    rows += [Row(f"body frozen, {n}", "accuracy", one(e)) for n, e in found.still.items() if n != NO_HEAD]
    rows.append(Row("untrained body: NIL, cosine", "accuracy", one(found.untrained)))
    rows.append(Row("the head's share of the squared support gradient", "ratio", one(found.share)))
    nil, learnt = found.still[NO_HEAD], found.learnt
    if not adapts:  # an inner loop that was not trained with
        learnt = replace(learnt, gain=claims.range_of(difference(nil, found.untrained)))
    outcomes = [
        replace(o, holds=None) if partly else o for o in found.numbers.outcomes(f"; {partly}" if partly else "")
    ]
    gap = claims.range_of(difference(nil, found.whole))
    without = claims.nil_as_good(gap, learnt, "the run", "" if adapts else "; the run has no inner loop")
    outcomes.append(without if adapts else replace(without, holds=None))
    drawing = Drawing(
        "bars",
        "",
        "similarity before / after",
        tuple(
            Series(
                n, [b for b, e in v.items() if e], [e.mean for e in v.values() if e], [e.ci95 for e in v.values() if e]
            )
            for n, v in found.alike.items()
        ),
        "ci95 over test episodes",
    )
    value = described(
        Result(tuple(rows), tuple(outcomes), drawing, notes=tuple(notes)),
        config,
        name=WHERE,
        title=f"{config.method.upper()} on {config.data}",
        where=f"run {path.name}, {which} checkpoint: step {checkpoint.step:,} of {config.outer.steps:,}",
        query=getattr(build.tasks(config, images, "test", settings.query), "query", settings.query),
        seconds=time.perf_counter() - began,
    )
    value |= {"budget": "", "seeds": [config.seed], "step": checkpoint.step}
    write_json(path / WHERE / "result.json", value)
    return value


def _upto(frozen: tuple[str, ...]) -> str:
    return "nothing" if not frozen else frozen[0] if len(frozen) == 1 else f"{frozen[0]} to {frozen[-1]}"
