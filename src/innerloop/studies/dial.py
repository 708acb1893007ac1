"""The dial: where the head starts decides whether MAML reuses its features. Not in the paper."""

from innerloop.analysis import head_share
from innerloop.core.functional import block_names
from innerloop.evaluation import fixed_episodes
from innerloop.studies import claims
from innerloop.studies.inside import CUT
from innerloop.studies.lab import Lab, Trained
from innerloop.studies.result import Drawing, Outcome, Series, Unit, Value
from innerloop.studies.similarity_tables import before_and_after
from innerloop.studies.stage import MOVEMENT_EPISODES
from innerloop.studies.table import Found, Table

STARTS = {"ordinary (Xavier)": 1.0, "20 times smaller": 0.05, "zeros": 0.0, "one column for all": None}
"""factor of the head's first weights; None: UNICORN, whose classes share one learned column"""
WHOLE, FROZEN, NIL, SHARE = "all blocks adapt", "body frozen", "NIL", "head's share of the first gradient"
LOW_CCA, LOW_CKA = f"lowest {CUT} of the body", "lowest CKA of the body"
ACCURACIES = (WHOLE, FROZEN, NIL)


def _trained(lab: Lab, seed: int, scale: float | None) -> Trained:
    if scale is None:
        return lab.trained("unicorn", seed)
    return lab.trained("maml", seed) if scale == 1 else lab.trained("maml", seed, head_scale=scale)


def _measure(lab: Lab, seed: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for start, scale in STARTS.items():
        run = _trained(lab, seed, scale)
        test = "unicorn" if scale is None else "maml"
        head = block_names(run.model)[-1:]
        found |= {
            f"{start}, {WHOLE}": lab.score(run, test),
            f"{start}, {FROZEN}": lab.score(run, test, blocks=head),
            f"{start}, {NIL}": lab.score(run, "nil"),
        }
        if scale is None:  # its columns are equal at the start: the body's first gradient is zero
            continue
        alike = before_and_after(lab, run)
        for measure, label in ((CUT, LOW_CCA), ("CKA", LOW_CKA)):
            if body := [e for b, e in alike[measure].items() if b not in head]:
                found[f"{start}, {label}"] = min(body, key=lambda e: e.mean)
        few = lab.few(MOVEMENT_EPISODES)
        found[f"{start}, {SHARE}"] = head_share(
            run.model, run.parameters, fixed_episodes(lab.family, few), task_chunk=lab.chunk
        )
    return found


def _unit(label: str) -> Unit:
    return "accuracy" if label.endswith(ACCURACIES) else "similarity"


def _claims(found: Found) -> list[Outcome]:
    outcomes = []
    for start in STARTS:
        lost = found.range(f"{start}, {FROZEN}", f"{start}, {WHOLE}")
        gain = found.learnt.gain
        outcomes.append(
            claims.Learnt(gain, found.lab.shot).loss(
                f"Head from {start}: freezing the body at test time costs next to nothing",
                "body frozen − all blocks adapt",
                lost,
                (),
            )
        )
    return outcomes


def _draw(found: Found) -> Drawing:
    series = []
    for name in ACCURACIES:
        rows = [found.rows[f"{start}, {name}"] for start in STARTS]
        errors = [100 * (r.ci95 or 0.0) for r in rows]
        series.append(Series(name, [s.replace(" ", "\n", 1) for s in STARTS], [100 * r.mean for r in rows], errors))
    return Drawing("bars", "where the head starts", "accuracy (%)", tuple(series), "ci95 over test episodes")


DIAL = Table(
    "dial",
    "Where the head starts, and whether features are reused",
    _measure,
    compare={f"{s}, {FROZEN} − {WHOLE}": (f"{s}, {FROZEN}", f"{s}, {WHOLE}") for s in STARTS},
    claims=(_claims,),
    unit=_unit,
    draw=_draw,
    notes=(
        "MAML, trained from the same first weights but for the head's: as drawn, 20 times smaller, zeros, or one "
        "column that all classes share and that is learned (UNICORN). Learnt: of the ordinary one.",
    ),
    trains=("maml", "unicorn"),
)
