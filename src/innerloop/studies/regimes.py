"""Table 5 and appendix D: bodies of six training regimes, tested with NIL's head, with MAML's, and compared."""

import math
from dataclasses import replace

from innerloop.core.functional import block_names, slow_weights
from innerloop.studies.lab import Lab, Trained
from innerloop.studies.paper import MINI, TABLE5, at_shot
from innerloop.studies.result import Claim, Drawing, Result, Row, at_least, at_most, bars_of
from innerloop.training import build

REGIMES = {
    "maml": "MAML",
    "anil": "ANIL",
    "multiclass": "multiclass (one classifier of all training classes)",
    "multitask": "multitask (all tasks at once, one head, no inner loop)",
    "nil": "NIL in training (cosine, no head)",
    "random": "random (untrained)",
}
SHORT = {
    "maml": "MAML", "anil": "ANIL", "multiclass": "multi-\nclass", "multitask": "multi-\ntask", "nil": "NIL",
    "random": "random",
}  # fmt: skip


def table5(lab: Lab) -> Result:
    """Each regime's body under NIL's head: cosine attention, no inner loop."""
    rows = {
        name: Row(
            title,
            "accuracy",
            lab.per_seed(lambda s, n=name: lab.score(lab.trained(n, s, "last"), "nil")),
            at_shot(TABLE5[name], lab.shot),
        )
        for name, title in REGIMES.items()
    }
    return _regimes(rows, "NIL's head at test")


def regime_heads(lab: Lab) -> Result:
    """Each regime's body under MAML's head: all blocks adapt by the inner loop (appendix D.1)."""

    def score(name: str, seed: int):
        return lab.score(with_own_way(lab, lab.trained(name, seed, "last")), "maml")

    rows = {
        name: Row(title, "accuracy", lab.per_seed(lambda s, n=name: score(n, s))) for name, title in REGIMES.items()
    }
    result = _regimes(rows, "MAML's inner loop at test")
    gaps = {
        name: math.fsum(
            score(name, s).final.mean - lab.score(lab.trained(name, s, "last"), "nil").final.mean for s in lab.seeds
        )
        / len(lab.seeds)
        for name in REGIMES
    }
    claim = Claim(
        "Which of the two heads tests a body makes little difference",
        "|MAML's inner loop − NIL's head| ≤ 3 points for every regime",
        at_most([abs(g) for g in gaps.values()], 0.03),
        ", ".join(f"{n} {100 * g:+.1f}" for n, g in gaps.items()) + " points",
    )
    return replace(
        result,
        claims=(claim,),
        notes=(
            *result.notes,
            "Bodies without an N-way head of their own (multiclass, NIL) get the head of the initialisation. "
            "Of the paper's results for these heads only that they differ little from table 5 is known to us.",
        ),
    )


def with_own_way(lab: Lab, run: Trained) -> Trained:
    """The same body under an N-way head: its own if it has one, else the head of the initialisation."""
    if run.name not in ("multiclass", "nil"):
        return run
    config = lab.config("maml", run.config.seed)
    model = build.build_model(config, lab.images)
    slow = slow_weights(model)
    head = block_names(model)[-1]
    parameters = {n: w if n.startswith(f"{head}.") else run.parameters[n] for n, w in slow.items()}
    return replace(run, config=config, model=model, parameters=parameters)


def _regimes(rows: dict[str, Row], how: str) -> Result:
    m = {n: r.mean for n, r in rows.items()}
    claims = (
        Claim(
            "Multitask training makes worse features than none at all",
            "multitask < random",
            m["multitask"] < m["random"],
            f"{100 * m['multitask']:.1f} against {100 * m['random']:.1f} %",
        ),
        Claim(
            "Training on few-shot tasks makes better features than none",
            "random < MAML and random < ANIL",
            m["random"] < min(m["maml"], m["anil"]),
            f"{100 * m['random']:.1f} against {100 * m['maml']:.1f} and {100 * m['anil']:.1f} %",
        ),
        Claim(
            "MAML's and ANIL's features are equally good (the paper shows it on mini-ImageNet)",
            "|MAML − ANIL| ≤ 2 points",
            at_most([abs(m["maml"] - m["anil"])], 0.02),
            f"{100 * (m['maml'] - m['anil']):+.2f} points",
        ),
        Claim(
            "MAML's and ANIL's features are better than those of multiclass training",
            "min(MAML, ANIL) − multiclass ≥ 0",
            at_least([min(m["maml"], m["anil"]) - m["multiclass"]], 0.0),
            f"{100 * (min(m['maml'], m['anil']) - m['multiclass']):+.1f} points "
            "(other published work finds well-tuned multiclass training stronger than the paper does)",
        ),
    )
    drawing = Drawing(
        "bars",
        f"body trained by ({how})",
        "accuracy (%)",
        (bars_of("ours", [SHORT[n] for n in rows], list(rows.values()), by=100.0),),
        "ci95 over test episodes",
    )
    return Result(tuple(rows.values()), claims, drawing, MINI, ("Last checkpoints, not the best on validation.",))
