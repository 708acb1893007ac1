"""One trained run looked into: freezing, similarity, movement and heads, in one table and one figure."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from innerloop.analysis import freezing, heads, linear_cka, mean_cca, movement, similarity
from innerloop.core.inner import InnerLoop, with_steps
from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError
from innerloop.evaluation import evaluate, fixed_episodes
from innerloop.methods.catalogue import method
from innerloop.methods.method import predictor
from innerloop.runs import RunFolder, write_json
from innerloop.studies.lab import seed_value
from innerloop.studies.result import Claim, Drawing, Result, Row, Series, at_least, at_most, described
from innerloop.studies.study import MOVEMENT_EPISODES, Stage
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
    settings = config.test if episodes is None else replace(config.test, episodes=episodes)
    few = replace(settings, episodes=min(MOVEMENT_EPISODES, settings.episodes))
    family = build.tasks(config, images, "test", settings.query)
    where = build.choose_device(config.device)
    chunk = build.chunk_size(config, where)
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
    at_test = with_steps(inner, settings.inner_steps)

    report(Stage("test episodes", 0, 1))
    whole = evaluate(predictor(model, inner), parameters, family, settings, task_chunk=chunk, each_step=False)
    frozen = freezing(
        model,
        parameters,
        family,
        inner,
        settings,
        task_chunk=chunk,
        whole=whole if inner.blocks == "all" else None,
        report=lambda done, total: report(Stage("freezing test", done, total)),
    )
    classified = heads(
        model,
        parameters,
        family,
        inner,
        settings,
        task_chunk=chunk,
        whole=whole,
        report=lambda done, total: report(Stage("heads", done, total)),
    )
    report(Stage("movement and similarity", 0, 1))
    moved = movement(model, parameters, fixed_episodes(family, few), at_test, task_chunk=chunk)
    alike = similarity(
        model,
        parameters,
        fixed_episodes(family, few),
        at_test,
        measures={"CCA": mean_cca, "CKA": linear_cka},
        statistics=few.statistics,
        task_chunk=chunk,
    )

    def one(value: Any) -> tuple:
        return (seed_value(config.seed, value),)

    rows = [Row("as trained" if adapts else "MAML's inner loop", "accuracy", one(whole))]
    rows += [Row(f"{_upto(r.frozen)} frozen", "accuracy", one(r.evaluation)) for r in frozen]
    rows += [Row(f"head: {r.name}", "accuracy", one(r.evaluation)) for r in classified[1:]]
    rows += [
        Row(f"{block}, {name} before / after", "similarity", one(e))
        for name, blocks in alike.items()
        for block, e in blocks.items()
        if e
    ]
    rows += [Row(f"{m.block}, distance of weights", "distance", one(m.distance)) for m in moved]
    rows += [Row(f"{m.block}, distance / norm", "relative", one(m.relative)) for m in moved]
    body = [e.mean for b, e in alike["CKA"].items() if e and b != moved[-1].block]
    last = frozen[-1].difference
    (nil,) = (r.difference for r in classified if r.name == "NIL, cosine")
    because = f"; {partly}" if partly else ""
    claims = (
        Claim(
            "Features are reused: the body need not adapt at test",
            "all but the head frozen − nothing frozen ≥ −2 points",
            None if partly else at_least([last.mean], -0.02),
            f"{100 * last.mean:+.1f} ± {100 * last.ci95:.1f} points (ci95){because}",
        ),
        Claim(
            "Features are reused: the inner loop leaves the body's representation alike",
            "CKA of every body block ≥ 0.9",
            None if partly else at_least(body, 0.9),
            (f"lowest {min(body):.3f}" if body else "every block is constant") + because,
        ),
        Claim(
            "No inner loop is needed at test",
            "NIL, cosine − as trained ≥ −2 points",
            at_least([nil.mean], -0.02) if adapts else None,
            f"{100 * nil.mean:+.1f} points" + ("" if adapts else "; the run has no inner loop"),
        ),
        Claim(
            "The head moves farthest for its size",
            "distance / norm of the head above every other block's",
            None if partly else at_most([max(m.relative.mean for m in moved[:-1]) - moved[-1].relative.mean], 0.0),
            ", ".join(f"{m.block} {m.relative.mean:.3f}" for m in moved) + because,
        ),
    )
    drawing = Drawing(
        "bars",
        "",
        "similarity before / after",
        tuple(
            Series(
                n, [b for b, e in v.items() if e], [e.mean for e in v.values() if e], [e.ci95 for e in v.values() if e]
            )
            for n, v in alike.items()
        ),
        "ci95 over test episodes",
    )
    value = described(
        Result(tuple(rows), claims, drawing, notes=tuple(notes)),
        replace(config, test=settings),
        name=WHERE,
        title=f"{config.method.upper()} on {config.data}",
        where=f"run {path.name}, {which} checkpoint: step {checkpoint.step:,} of {config.outer.steps:,}",
        query=getattr(family, "query", settings.query),
        seconds=time.perf_counter() - began,
    )
    value |= {"budget": "", "seeds": [config.seed], "step": checkpoint.step}
    write_json(path / WHERE / "result.json", value)
    return value


def _upto(frozen: tuple[str, ...]) -> str:
    return "nothing" if not frozen else frozen[0] if len(frozen) == 1 else f"{frozen[0]} to {frozen[-1]}"
