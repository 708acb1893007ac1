"""Table 1: a MAML model whose first blocks are kept at the meta-initialisation at test."""

from innerloop.core.functional import block_names
from innerloop.studies.lab import Lab, difference
from innerloop.studies.paper import MINI, TABLE1, at_shot
from innerloop.studies.result import Claim, Drawing, Result, Row, at_least, bars_of


def table1(lab: Lab) -> Result:
    """Accuracy with nothing, the first block, the first two, …, the whole body frozen; and what each costs."""
    runs = {s: lab.trained("maml", s) for s in lab.seeds}
    names = block_names(runs[lab.seeds[0]].model)
    rows, losses = [], []
    for j in range(len(names)):
        label = f"{names[0]} to {names[j - 1]} frozen" if j > 1 else f"{names[0]} frozen" if j else "nothing frozen"
        values = lab.per_seed(lambda s, j=j: lab.score(runs[s], "maml", blocks=names[j:] if j else ()))
        rows.append(Row(label, "accuracy", values, at_shot(TABLE1.get(j, ("", "")), lab.shot)))
    for j in range(1, len(names)):
        lost = lab.per_seed(
            lambda s, j=j: difference(lab.score(runs[s], "maml", blocks=names[j:]), lab.score(runs[s], "maml"))
        )
        losses.append(Row(f"{rows[j].label}, against nothing", "points", lost))
    last = losses[-1]
    # the paper loses 0.6 points with one shot and 2.1 with five
    most = 0.02 if lab.shot < 5 else 0.03
    claim = Claim(
        "The body need not adapt: freezing all of it at test costs little",
        f"mean over seeds of (all but the head frozen − nothing frozen) ≥ −{100 * most:.0f} points",
        at_least([last.mean], -most),
        f"{100 * last.mean:+.2f} points",
    )
    drawing = Drawing(
        "bars",
        "blocks frozen at test",
        "accuracy (%)",
        (bars_of("ours", ["none", names[0], *(f"to {n}" for n in names[1:-1])], rows, by=100.0),),
        "ci95 over test episodes",
    )
    return Result((*rows, *losses), (claim,), drawing, MINI)
