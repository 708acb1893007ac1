"""Appendix B.3 and section 4: how far weights move, what a step costs; and what a head's labelling is worth."""

import torch

from innerloop.analysis import label_permutations, movement, step_costs
from innerloop.core.inner import with_steps
from innerloop.core.random import generator_for
from innerloop.studies.lab import Lab, seed_value
from innerloop.studies.paper import COST
from innerloop.studies.result import Claim, Drawing, Result, Row, SeedValue, Series, at_least, at_most, bars_of
from innerloop.studies.study import MOVEMENT_EPISODES, Stage
from innerloop.training import build


def distances(lab: Lab) -> Result:
    """Euclidean distance of each block's weights before and after the inner loop, and relative to their norm."""
    distance: dict[str, list[SeedValue]] = {}
    relative: dict[str, list[SeedValue]] = {}
    for i, seed in enumerate(lab.seeds):
        lab.report(Stage("distance of weights", i, len(lab.seeds)))
        run = lab.trained("maml", seed)
        inner = with_steps(run.config.inner_loop, lab.settings.inner_steps)
        for m in movement(run.model, run.parameters, lab.episodes(MOVEMENT_EPISODES), inner, task_chunk=lab.chunk):
            distance.setdefault(m.block, []).append(seed_value(seed, m.distance))
            relative.setdefault(m.block, []).append(seed_value(seed, m.relative))
    far = {b: Row(f"{b}, ‖after − before‖", "distance", tuple(v)) for b, v in distance.items()}
    for_size = {b: Row(f"{b}, divided by ‖before‖", "relative", tuple(v)) for b, v in relative.items()}
    head = list(far)[-1]
    claims = tuple(
        Claim(
            f"The head moves farthest, though the body has far more weights ({what})",
            "head above every body block",
            at_most([max(r.mean for b, r in of.items() if b != head) - of[head].mean], 0.0),
            ", ".join(f"{b} {r.mean:.3f}" for b, r in of.items()),
        )
        for what, of in (("distance", far), ("relative distance", for_size))
    )
    drawing = Drawing(
        "bars",
        "",
        "distance of weights",
        tuple(
            Series(name, list(of), [r.mean for r in of.values()], [r.ci95 or 0.0 for r in of.values()])
            for name, of in (("‖after − before‖", far), ("divided by ‖before‖", for_size))
        ),
        "ci95 over test episodes",
    )
    notes = ("The paper shows bars only: visible for the head, near zero for every convolution.",)
    return Result((*far.values(), *for_size.values()), claims, drawing, "", notes)


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
    spread = rows[1].mean - rows[2].mean
    claim = Claim(
        "A trained MAML's accuracy depends on which class is given to which column of its head",
        "not tested: best and worst are chosen by the query labels, so any model whose columns differ has a spread",
        None,
        f"{100 * spread:.1f} points between best and worst of {n} permutations, averaged over episodes",
    )
    drawing = Drawing(
        "bars",
        "",
        "accuracy (%)",
        (bars_of("ours", ["mean", "best", "worst"], rows, by=100.0),),
        "ci95 over test episodes",
    )
    return Result(tuple(rows), (claim,), drawing, "", ("An experiment of Ye & Chao 2022, not of the paper.",))


def cost(lab: Lab) -> Result:
    """CPU time of one outer step and of one episode at test: MAML, first-order MAML, ANIL, NIL, on one thread."""
    run = lab.trained("maml", lab.seeds[0])
    device = lab.images.images.device
    tasks = build.tasks(run.config, lab.images, "train")
    batch = tasks.sample(run.config.outer.meta_batch, generator_for(run.config.seed, "cost")).to(device)
    one = lab.family.sample(1, generator_for(run.config.seed, "cost", 1)).to(device)
    lab.report(Stage("time of a step", 0, 1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        training, inference = step_costs(
            run.model,
            run.parameters,
            batch,
            one,
            run.config.inner_loop,
            test_steps=lab.settings.inner_steps,
            task_chunk=lab.chunk,
        )
    finally:
        torch.set_num_threads(threads)
    rows = []
    for title, found, paper in (("training", training, COST["train"]), ("inference", inference, COST["inference"])):
        for name, ms in found.milliseconds.items():
            rows.append(Row(f"{title}, {name}", "ms", (SeedValue(run.config.seed, ms),)))
        ratio = found.ratio("maml", "anil")
        rows.append(Row(f"{title}, MAML / ANIL", "ratio", (SeedValue(run.config.seed, ratio),), paper))
    by = {r.label: r.mean for r in rows}
    claims = (
        Claim(
            "ANIL trains faster than MAML",
            "MAML / ANIL per outer step ≥ 1.3",
            at_least([by["training, MAML / ANIL"]], 1.3),
            f"{by['training, MAML / ANIL']:.2f}×",
        ),
        Claim(
            "ANIL is at least four times as fast at test with 10 inner steps",
            f"MAML / ANIL per episode ≥ 4 (here {lab.settings.inner_steps} steps)",
            at_least([by["inference, MAML / ANIL"]], 4.0) if lab.settings.inner_steps == 10 else None,
            f"{by['inference, MAML / ANIL']:.2f}×",
        ),
    )
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
    return Result(tuple(rows), claims, drawing, "average over its settings", notes)
