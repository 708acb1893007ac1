"""Appendix B.3 and section 4: how far weights move, what a step costs; and what a head's labelling is worth."""

from torch import nn

from innerloop.analysis import Cost, label_permutations, movement, step_costs
from innerloop.core.episodes import ClassImages
from innerloop.core.functional import Weights
from innerloop.core.inner import with_steps
from innerloop.core.random import generator_for
from innerloop.core.statistics import Estimate
from innerloop.core.threads import one_thread
from innerloop.studies import claims
from innerloop.studies.lab import Lab
from innerloop.studies.published import COST
from innerloop.studies.result import Drawing, Outcome, Result, Row, SeedValue, Series, bars_of, seed_value
from innerloop.studies.stage import MOVEMENT_EPISODES, Stage
from innerloop.studies.table import Found, Table
from innerloop.training import Config, build

FAR, FOR_SIZE = "‖after − before‖", "divided by ‖before‖"


def _distances(lab: Lab, seed: int) -> dict[str, Estimate]:
    lab.report(Stage("distance of weights", lab.seeds.index(seed), len(lab.seeds)))
    run = lab.trained("maml", seed)
    inner = with_steps(run.config.inner_loop, lab.settings.inner_steps)
    moved = movement(run.model, run.parameters, lab.episodes(MOVEMENT_EPISODES), inner, task_chunk=lab.chunk)
    return {
        **{f"{m.block}, {FAR}": m.distance for m in moved},
        **{f"{m.block}, {FOR_SIZE}": m.relative for m in moved},
    }


def _distance_claims(found: Found) -> list[Outcome]:
    return [
        claims.head_moves_most({r.split(",")[0]: found.range(r) for r in found.rows if r.endswith(kind)}, what)
        for kind, what in ((FAR, "distance"), (FOR_SIZE, "distance / norm"))
    ]


DISTANCES = Table(
    "distances",
    "How far each block's weights move",
    _distances,
    claims=(_distance_claims,),
    where="appendix B.3",
    unit=lambda label: "distance" if label.endswith(FAR) else "relative",
    y="distance of weights",
    grouped=True,
    notes=("The paper shows bars only: visible for the head, near zero for every convolution.",),
    trains=("maml",),
    in_all=True,
)


def permutations(lab: Lab) -> Result:
    """A trained MAML under permuted labels: its head's columns are not interchangeable."""
    kinds = {
        "mean over permutations": [],
        "best permutation of each episode": [],
        "worst permutation of each episode": [],
    }
    n = 0
    for i, seed in enumerate(lab.seeds):
        lab.report(Stage("label permutations", i, len(lab.seeds)))
        run = lab.trained("maml", seed)
        found = label_permutations(
            run.model,
            run.parameters,
            lab.family,
            run.config.inner_loop,
            lab.few(50),
            permutations=24,
            task_chunk=lab.chunk,
        )
        n = len(found.permutations)
        for values, e in zip(kinds.values(), (found.mean, found.best, found.worst), strict=True):
            values.append(seed_value(seed, e))
    rows = [Row(k, "accuracy", tuple(v)) for k, v in kinds.items()]
    spread = 100 * (rows[1].mean - rows[2].mean)
    notes = (
        "An experiment of Ye & Chao 2022, not of the paper. Best and worst are chosen by the query labels, so that any "
        f"model whose columns differ has a spread: here {spread:.1f} points over {n} permutations. No claim is tested.",
    )
    drawing = Drawing(
        "bars",
        "",
        "accuracy (%)",
        (bars_of("ours", ["mean", "best", "worst"], rows, by=100.0),),
        "ci95 over test episodes",
    )
    return Result(tuple(rows), (), drawing, "", notes)


def step_times(config: Config, model: nn.Sequential, parameters: Weights, images: ClassImages) -> tuple[Cost, Cost]:
    """Time of one outer step and of one episode at test time (`analysis.step_costs`), on one thread."""
    device = images.images.device
    batch = build.tasks(config, images, "train").sample(config.outer.meta_batch, generator_for(config.seed, "cost"))
    family = build.tasks(config, images, "test", config.test.query)
    with one_thread():
        return step_costs(
            model,
            parameters,
            batch.to(device),
            family.sample(1, generator_for(config.seed, "cost", 1)).to(device),
            config.inner_loop,
            test_steps=config.test.inner_steps,
            task_chunk=build.chunk_size(config, device),
        )


def cost(lab: Lab) -> Result:
    """CPU time of one outer step and of one episode at test time: MAML, first-order MAML, ANIL, NIL, on one thread."""
    run = lab.trained("maml", lab.seeds[0])
    lab.report(Stage("time of a step", 0, 1))
    training, inference = step_times(run.config, run.model, run.parameters, lab.images)
    rows = []
    for title, found, paper in (("training", training, COST["train"]), ("inference", inference, COST["inference"])):
        for name, ms in found.milliseconds.items():
            rows.append(Row(f"{title}, {name}", "ms", (SeedValue(run.config.seed, ms),)))
        ratio = found.ratio("maml", "anil")
        rows.append(Row(f"{title}, MAML / ANIL", "ratio", (SeedValue(run.config.seed, ratio),), paper))
    ratios = [found.ratio("maml", "anil") for found in (training, inference)]
    outcomes = claims.anil_faster(ratios[0], ratios[1], lab.settings.inner_steps)
    common = [n for n in training.milliseconds if n in inference.milliseconds]
    drawing = Drawing(
        "bars",
        "",
        "milliseconds",
        tuple(
            Series(title, [n.upper() for n in common], [found.milliseconds[n] for n in common])
            for title, found in (("training step", training), ("inference, one episode", inference))
        ),
    )
    notes = (
        f"{training.clock} on one thread, medians of {training.repeats} interleaved repeats; training: a meta-batch of "
        f"{run.config.outer.meta_batch}; inference: one episode, the features of blocks that do not adapt computed "
        "once. The paper's ratios are averages over its data sets.",
    )
    return Result(tuple(rows), outcomes, drawing, "average over its settings", notes)
