"""Tables 1, 2, 4, 5 and appendix D.1: accuracies of bodies, heads and frozen blocks on the same test episodes."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from innerloop.core.functional import block_names, slow_weights
from innerloop.evaluation import Evaluation
from innerloop.studies import claims
from innerloop.studies.lab import Lab, Trained
from innerloop.studies.published import MINI, TABLE1, TABLE2, TABLE4_NIL, TABLE5, at_shot, column
from innerloop.studies.table import Found, Table
from innerloop.training import build

MAML, BOTH, ALL = ("maml",), ("maml", "anil"), ("maml", "anil", "nil", "multitask", "multiclass")
NOTHING = "nothing frozen"
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


def frozen(lab: Lab, seed: int) -> dict[str, Evaluation]:
    """Accuracy of a MAML model with nothing, the first block, the first two, …, the whole body frozen at test time."""
    run = lab.trained("maml", seed)
    names = block_names(run.model)
    labels = [NOTHING, f"{names[0]} frozen", *(f"{names[0]} to {n} frozen" for n in names[1:-1])]
    return {
        label: lab.score(run, "maml", blocks=names[j:] if j else ()) for j, label in enumerate(labels[: len(names)])
    }


def _body_frozen(found: Found):
    return claims.body_frozen(found.range(list(found.values)[-1], NOTHING), found.learnt)


TABLE_1 = Table(
    "table1",
    "Freezing blocks at test time",
    frozen,
    compare=lambda labels: {f"{label}, against nothing": (label, NOTHING) for label in labels[1:]},
    claims=(_body_frozen,),
    where="table 1",
    paper=lambda lab: {
        label: at_shot(TABLE1.get(j, ("", "")), lab.shot)
        for j, label in enumerate([NOTHING, "conv1 frozen", *(f"conv1 to conv{n} frozen" for n in (2, 3, 4))])
    },
    paper_column=MINI,
    x="blocks frozen at test time",
    bar=lambda label: {NOTHING: "none"}.get(label, label.removesuffix(" frozen").partition(" ")[2] or label.split()[0]),
    trains=MAML,
    in_all=True,
)
_NIL = "NIL (ANIL's body)"


def _accuracies(*labels: str):
    tests = {"MAML": ("maml", "maml"), "ANIL": ("anil", "anil"), _NIL: ("anil", "nil")}
    return lambda lab, seed: {n: lab.score(lab.trained(tests[n][0], seed), tests[n][1]) for n in labels}


def _printed(lab: Lab) -> dict[str, str]:
    where = column(lab.data)
    values = {"MAML": TABLE2["maml"], "ANIL": TABLE2["anil"], _NIL: TABLE4_NIL}
    return {label: at_shot(v[where], lab.shot) for label, v in values.items()}


TABLE_2 = Table(
    "table2",
    "MAML against ANIL",
    _accuracies("MAML", "ANIL"),
    compare={"ANIL − MAML": ("ANIL", "MAML")},
    claims=(lambda found: claims.anil_as_good(found.range("ANIL", "MAML"), found.learnt),),
    where="table 2, image columns",
    paper=_printed,
    paper_column=column,
    trains=BOTH,
    in_all=True,
)
TABLE_4 = Table(
    "table4",
    "NIL: no inner loop at test time",
    _accuracies("MAML", "ANIL", _NIL),
    compare={"NIL − ANIL": (_NIL, "ANIL")},
    claims=(lambda found: claims.nil_as_good(found.range(_NIL, "ANIL"), found.learnt, "ANIL"),),
    where="table 4",
    paper=_printed,
    paper_column=column,
    trains=BOTH,
    in_all=True,
)


def _ranked(found: Found):
    def gap(a: str, b: str) -> claims.Range:
        return found.range(REGIMES[a], REGIMES[b])

    learnt = claims.Learnt(gap("maml", "random"), found.lab.shot)
    return claims.features_ranked(gap, learnt, {n: found.rows[t].mean for n, t in REGIMES.items()})


def under_nil(lab: Lab, seed: int) -> dict[str, Evaluation]:
    """Each regime's body under NIL's head: cosine attention, no inner loop."""
    return {title: lab.score(lab.trained(name, seed, "last"), "nil") for name, title in REGIMES.items()}


def under_maml(lab: Lab, seed: int) -> dict[str, Evaluation]:
    """Each regime's body under MAML's head: all blocks adapt by the inner loop."""
    runs = {name: with_own_way(lab, lab.trained(name, seed, "last")) for name in REGIMES}
    return {REGIMES[name]: lab.score(run, "maml") for name, run in runs.items()}


def with_own_way(lab: Lab, run: Trained) -> Trained:
    """The same body under an N-way head: its own if training made one, else a head of zeros."""
    if run.name in ("maml", "anil", "multitask"):
        return run
    config = lab.config("maml", run.config.seed)
    model = build.build_model(config, lab.images)
    head = block_names(model)[-1]
    parameters = {
        n: torch.zeros_like(w) if n.startswith(f"{head}.") else run.parameters[n]
        for n, w in slow_weights(model).items()
    }
    return replace(run, config=config, model=model, parameters=parameters)


def _heads_alike(found: Found):
    def gap(title: str) -> claims.Range:
        nil = {s: under_nil(found.lab, s)[title] for s in found.lab.seeds}
        return replace(found, values={**found.values, "NIL": nil}).range(title, "NIL")

    return claims.heads_alike({name: gap(title) for name, title in REGIMES.items()})


_LAST = "Last checkpoints, not the best on validation."
_SHORT_OF: Mapping[str, str] = {title: SHORT[name] for name, title in REGIMES.items()}
TABLE_5 = Table(
    "table5",
    "Bodies of six training regimes under NIL's head",
    under_nil,
    claims=(_ranked,),
    where="table 5",
    paper=lambda lab: {title: at_shot(TABLE5[name], lab.shot) for name, title in REGIMES.items()},
    paper_column=MINI,
    x="body trained by (NIL's head at test time)",
    bar=_SHORT_OF.__getitem__,
    notes=(_LAST,),
    trains=ALL,
    in_all=True,
)
REGIME_HEADS = Table(
    "regime-heads",
    "The same bodies under MAML's inner loop",
    under_maml,
    claims=(_heads_alike,),
    where="appendix D.1",
    paper_column=MINI,
    x="body trained by (MAML's inner loop at test time)",
    bar=_SHORT_OF.__getitem__,
    notes=(
        _LAST,
        "Bodies without a trained N-way head of their own (multiclass, NIL, random) get a head of zeros. Of the "
        "paper's results for these heads only that they differ little from table 5 is known to us.",
    ),
    trains=ALL,
    in_all=True,
)
