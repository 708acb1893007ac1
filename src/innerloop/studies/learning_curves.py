"""Figures 3 and 5: what holds early in training, and the learning curves."""

from innerloop.analysis import mean_cca, similarity
from innerloop.core.functional import block_names
from innerloop.core.inner import with_steps
from innerloop.runs import RunError
from innerloop.studies.lab import Lab, difference, seed_value
from innerloop.studies.paper import MINI
from innerloop.studies.result import Claim, Drawing, Result, Row, SeedValue, Series, at_least, at_most
from innerloop.studies.study import MOVEMENT_EPISODES, Stage


def figure3(lab: Lab) -> Result:
    """Freezing the whole body, and the body's CCA before and after adaptation, at checkpoints along the training."""
    steps = lab.train("maml", lab.seeds[0]).kept
    rows: list[Row] = []
    lost, alike = [], []
    for step in steps:
        which = f"step{step}"
        frozen: list[SeedValue] = []
        cca: list[SeedValue] = []
        for seed in lab.seeds:
            run = lab.trained("maml", seed, which)
            head = block_names(run.model)[-1:]
            whole = lab.score(run, "maml")
            frozen.append(seed_value(seed, difference(lab.score(run, "maml", blocks=head), whole)))
            lab.report(Stage(f"similarity at step {step}", lab.seeds.index(seed), len(lab.seeds)))
            inner = with_steps(run.config.inner_loop, lab.settings.inner_steps)
            found = similarity(
                run.model, run.parameters, lab.episodes(MOVEMENT_EPISODES), inner, measures={"cca": mean_cca},
                statistics=lab.settings.statistics, task_chunk=lab.chunk,
            )["cca"]  # fmt: skip
            body = [e for b, e in found.items() if b not in head and e is not None]
            if body:
                lowest = min(body, key=lambda e: e.mean)
                cca.append(seed_value(seed, lowest))
        whole_row = lab.per_seed(lambda s, w=which: lab.score(lab.trained("maml", s, w), "maml"))
        rows.append(Row(f"step {step}: MAML", "accuracy", whole_row))
        lost.append(Row(f"step {step}: body frozen − nothing frozen", "points", tuple(frozen), "about 0"))
        rows.append(lost[-1])
        if cca:
            alike.append(Row(f"step {step}: lowest CCA of the body", "similarity", tuple(cca), "> 0.9"))
            rows.append(alike[-1])
    most = 0.02 if lab.shot < 5 else 0.03  # as for table 1
    claims = (
        Claim(
            "Freezing the body costs little already early in training",
            f"at every checkpoint, mean over seeds of (frozen − not frozen) ≥ −{100 * most:.0f} points",
            at_least([r.mean for r in lost], -most),
            ", ".join(f"{100 * r.mean:+.2f}" for r in lost) + " points",
        ),
        Claim(
            "The body's representation is hardly changed by the inner loop already early in training",
            "at every checkpoint, CCA of every body block ≥ 0.9",
            at_least([r.mean for r in alike], 0.9),
            ", ".join(f"{r.mean:.3f}" for r in alike),
        ),
    )
    drawing = Drawing(
        "lines",
        "outer steps",
        "accuracy (%)",
        (
            Series("nothing frozen", steps, [100 * r.mean for r in rows if r.label.endswith("MAML")]),
            Series(
                "body frozen",
                steps,
                [100 * (a.mean + b.mean) for a, b in zip(
                    (r for r in rows if r.label.endswith("MAML")), lost, strict=True)],
            ),
        ),
    )  # fmt: skip
    notes = ("The paper looks at 10,000, 20,000 and 30,000 steps; it prints no numbers.",)
    return Result(tuple(rows), claims, drawing, f"{MINI} 5-shot", notes)


def figure5(lab: Lab) -> Result:
    """Validation accuracy of MAML and ANIL along the training."""
    curves: dict[str, list[list[tuple[int, float]]]] = {}
    for name in ("maml", "anil"):
        for seed in lab.seeds:
            folder = lab.train(name, seed)
            curve = [(r["step"], r["validation"]) for r in folder.metrics if "validation" in r]
            if len(curve) < folder.summary["steps"] // lab.config("maml", seed).validation.every:
                raise RunError(
                    f"{folder.path / 'metrics.jsonl'} has lost lines; remove {folder.path} to train it again"
                )
            curves.setdefault(name, []).append(curve)
    n = lab.config("maml", 0).validation.episodes
    rows, series, last = [], [], {}
    for name, of in curves.items():
        steps = [step for step, _ in of[0]]
        table = [
            Row(
                f"{name.upper()}, step {step}",
                "accuracy",
                tuple(SeedValue(s, c[i][1], None, n) for s, c in zip(lab.seeds, of, strict=True)),
            )
            for i, step in enumerate(steps)
        ]
        rows += table
        last[name] = table[-1].mean
        series.append(Series(name.upper(), steps, [100 * r.mean for r in table],
                             [100 * (r.seed_std or 0) for r in table]))  # fmt: skip
    gap = last["anil"] - last["maml"]
    claim = Claim(
        "MAML and ANIL learn alike (the paper shows it on mini-ImageNet)",
        "at the end of training, |ANIL − MAML| ≤ 2 points of validation accuracy",
        at_most([abs(gap)], 0.02),
        f"{100 * gap:+.1f} points",
    )
    drawing = Drawing("lines", "outer steps", "validation accuracy (%)", tuple(series), "seed_std")
    return Result(tuple(rows), (claim,), drawing, "", (f"{n} validation episodes, the same at each point.",))
