"""Figures 3 and 5: what holds early in training, and the learning curves."""

from innerloop.core.functional import block_names
from innerloop.runs import RunError
from innerloop.studies import claims
from innerloop.studies.inside import CUT
from innerloop.studies.lab import Lab
from innerloop.studies.published import MINI
from innerloop.studies.result import Drawing, Result, Row, SeedValue, Series, difference, seed_value
from innerloop.studies.similarity_tables import before_and_after
from innerloop.studies.stage import Stage


def figure3(lab: Lab) -> Result:
    """Freezing the whole body, and the body's CCA before and after adaptation, at checkpoints along the training."""
    steps = lab.train("maml", lab.seeds[0]).kept
    rows: list[Row] = []
    lost: list[Row] = []
    alike: dict[str, claims.Range] = {}
    for step in steps:
        which = f"step{step}"
        frozen: list[SeedValue] = []
        cca: dict[str, list[SeedValue]] = {"CCA": [], CUT: []}
        for seed in lab.seeds:
            run = lab.trained("maml", seed, which)
            head = block_names(run.model)[-1:]
            whole = lab.score(run, "maml")
            frozen.append(seed_value(seed, difference(lab.score(run, "maml", blocks=head), whole)))
            lab.report(Stage(f"similarity at step {step}", lab.seeds.index(seed), len(lab.seeds)))
            found = before_and_after(lab, run)
            for measure, values in cca.items():
                body = [e for b, e in found[measure].items() if b not in head]
                if body:
                    values.append(seed_value(seed, min(body, key=lambda e: e.mean)))
        whole_row = lab.per_seed(lambda s, w=which: lab.score(lab.trained("maml", s, w), "maml"))
        rows.append(Row(f"step {step}: MAML", "accuracy", whole_row))
        lost.append(Row(f"step {step}: body frozen − nothing frozen", "points", tuple(frozen), "about 0"))
        rows.append(lost[-1])
        for measure, values in cca.items():
            if values:
                paper = "> 0.9" if measure == CUT else ""
                rows.append(Row(f"step {step}: lowest {measure} of the body", "similarity", tuple(values), paper))
                if measure == CUT:
                    alike[f"step {step}"] = claims.range_of(rows[-1])
    ranges = {f"step {step}": claims.range_of(row) for step, row in zip(steps, lost, strict=True)}
    outcomes = (
        claims.body_frozen_early(ranges, lab.learnt()),
        claims.body_alike(CUT, alike, early=True),
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
    return Result(tuple(rows), outcomes, drawing, f"{MINI} 5-shot", notes)


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
        last[name] = table[-1]
        series.append(Series(name.upper(), steps, [100 * r.mean for r in table],
                             [100 * (r.seed_std or 0) for r in table]))  # fmt: skip
    gaps = [a.mean - m.mean for a, m in zip(last["anil"].values, last["maml"].values, strict=True)]
    claim = claims.learn_alike(claims.range_of([SeedValue(s, g) for s, g in zip(lab.seeds, gaps, strict=True)]))
    drawing = Drawing("lines", "outer steps", "validation accuracy (%)", tuple(series), "seed_std")
    return Result(tuple(rows), (claim,), drawing, "", (f"{n} validation episodes, the same at each point.",))
