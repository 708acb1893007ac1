"""Every claim once: its words, how it is tested, and on which data the paper shows it.

A claim is tested on ranges. The range of a number goes from the lowest lower to the highest upper end of its 95 %
intervals over test episodes, one for each seed. A claim holds where the whole range is on the right side of its bound,
does not hold where the whole range is on the wrong side, and is inconclusive in between.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from innerloop.core.statistics import Estimate
from innerloop.studies.published import COST
from innerloop.studies.result import Outcome, Row, SeedValue, Unit, printed

MINI, OMNIGLOT = "mini_imagenet", "omniglot"
BOTH = (MINI, OMNIGLOT)
POINTS = {1: 0.02, 5: 0.03}
"""the most that a loss may be, by shot: the paper loses 0.6 points with one shot and 2.1 with five"""
SHARE = 0.15
"""the most that a loss may be, as a part of what was learned beyond an untrained body: the paper loses 0.6 of 14 points
with one shot (its tables 1 and 5) and 2.1 of 20 with five"""
ALIKE, HEAD_CCA = 0.9, 0.5
"""figure 2: above 0.9 for every convolution, below 0.5 for the head"""
COST_PART = 0.75
"""the least part of the paper's speed-up"""


class Range(NamedTuple):
    """A number with what is known of it."""

    mean: float
    low: float
    high: float

    def minus(self, other: "Range") -> "Range":
        """self − other, as if they were independent and each range an interval."""
        down = math.hypot(self.mean - self.low, other.high - other.mean)
        up = math.hypot(self.high - self.mean, other.mean - other.low)
        gap = self.mean - other.mean
        return Range(gap, gap - down, gap + up)


def range_of(value: Row | Sequence[SeedValue] | SeedValue | Estimate | Mapping[str, float] | float) -> Range:
    """The range of a row or of the values of several seeds; of one estimate its interval; of a bare number itself."""
    if isinstance(value, float | int):
        return Range(value, value, value)
    if isinstance(value, Mapping):
        return Range(value["mean"], value["mean"] - value["ci95"], value["mean"] + value["ci95"])
    values = value.values if isinstance(value, Row) else value if isinstance(value, Sequence) else (value,)
    ends = [(v.mean - (v.ci95 or 0.0), v.mean + (v.ci95 or 0.0)) for v in values]
    mean = math.fsum(v.mean for v in values) / len(values)
    return Range(mean, min(low for low, _ in ends), max(high for _, high in ends))


def at_least(found: Range, bound: float) -> bool | None:
    """Whether the range is at or above the bound; None: some of it is below, or it is not known."""
    if math.isnan(found.low) or math.isnan(found.high) or math.isnan(bound):
        return None
    return True if found.low >= bound else False if found.high < bound else None


def at_most(found: Range, bound: float) -> bool | None:
    """Whether the range is at or below the bound."""
    return at_least(Range(-found.mean, -found.high, -found.low), -bound)


def every(outcomes: Iterable[bool | None]) -> bool | None:
    """Whether all hold: one that does not hold decides, else one that is inconclusive. None if there are none."""
    found = list(outcomes)
    return None if not found else False if False in found else None if None in found else True


@dataclass(frozen=True)
class Learnt:
    """What a training has learned: accuracy beyond that of NIL on the untrained body."""

    gain: Range
    shot: int

    @property
    def most(self) -> float:
        """The largest loss that counts as none; NaN where nothing is learned for sure."""
        return min(self.cap, SHARE * self.gain.mean) if self.gain.low > 0 else math.nan

    @property
    def cap(self) -> float:
        """The same in points alone."""
        return POINTS[5 if self.shot >= 5 else 1]

    def tested(self, what: str) -> str:
        """The predicate as text."""
        return (
            f"{what} ≥ −{100 * self.cap:.0f} points and ≥ −{100 * SHARE:.0f} % of what was learned beyond an untrained "
            "body"
        )

    def loss(self, text: str, what: str, lost: Range, data: tuple[str, ...], more: str = "") -> Outcome:
        """The claim that next to nothing is lost."""
        evidence = f"{said(lost, 'points')}, learned {said(self.gain, 'points')}{more}"
        return Outcome(text, self.tested(what), at_least(lost, -self.most), evidence, data)


def said(found: Range, unit: Unit) -> str:
    """The number and its range as text."""
    scale, digits, sign, name = {
        "accuracy": (100, 1, "", " %"),
        "points": (100, 1, "+", " points"),
        "ratio": (1, 2, "", "×"),
        "return": (1, 2, "+", ""),
    }.get(unit, (1, 3, "", ""))
    mean, low, high = (f"{scale * v:{sign}.{digits}f}".replace("-", "−") for v in found)
    return f"{mean}{name}" if low == mean == high else f"{mean}{name} ({low} to {high})"


def bounded(
    text: str,
    what: str,
    found: Range,
    unit: Unit,
    *,
    least: float | None = None,
    most: float | None = None,
    data: tuple[str, ...] = (),
    more: str = "",
) -> Outcome:
    """The claim that a number is at least `least` and at most `most`."""
    plain = {"accuracy": " %", "points": " points", "ratio": "×"}.get(unit, "")
    scale = 100 if unit in ("accuracy", "points") else 1
    bounds = [f"{sign} {scale * b:g}{plain}" for sign, b in (("≥", least), ("≤", most)) if b is not None]
    holds = every(
        [*([] if least is None else [at_least(found, least)]), *([] if most is None else [at_most(found, most)])]
    )
    return Outcome(text, f"{what} {' and '.join(bounds)}".replace("-", "−"), holds, said(found, unit) + more, data)


def body_frozen(lost: Range, learnt: Learnt, more: str = "") -> Outcome:
    """Table 1."""
    text = "The body need not adapt: freezing all of it at test time costs next to nothing"
    return learnt.loss(text, "all but the head frozen − nothing frozen", lost, (MINI,), more)


def body_frozen_early(lost: Mapping[str, Range], learnt: Learnt) -> Outcome:
    """Figure 3."""
    return Outcome(
        "Freezing the body costs next to nothing already early in training",
        learnt.tested("at every checkpoint, body frozen − nothing frozen"),
        every(at_least(v, -learnt.most) for v in lost.values()),
        "; ".join(f"{name} {said(v, 'points')}" for name, v in lost.items()),
        (MINI,),
    )


def anil_as_good(gap: Range, learnt: Learnt, more: str = "") -> Outcome:
    """Table 2."""
    return learnt.loss("ANIL does as well as MAML", "ANIL − MAML", gap, BOTH, more)


def nil_as_good(gap: Range, learnt: Learnt, body: Literal["ANIL", "MAML", "the run"], more: str = "") -> Outcome:
    """Table 4, which takes ANIL's body."""
    text = f"Without any inner loop the features of {body}'s body do as well"
    return learnt.loss(text.replace("the run's", "the run's own"), f"NIL − {body}", gap, BOTH, more)


def body_alike(
    measure: str, body: Mapping[str, Range], *, early: bool = False, data: tuple[str, ...] = (MINI,), of: str = "",
    more: str = "",
) -> Outcome:  # fmt: skip
    """Figures 2 and 3."""
    text = "The inner loop leaves the body's representation alike" + (" already early in training" if early else "")
    what = f"{'at every checkpoint, ' if early else ''}{measure} of every body block ≥ {ALIKE}"
    holds = every(at_least(v, ALIKE) for v in body.values())
    evidence = ", ".join(f"{b} {v.mean:.3f}" for b, v in body.items()) or "every block is constant"
    return Outcome(f"{text} ({of or measure})", what, holds, evidence + more, data)


def head_changes_most(measure: str, head: Range, body: Mapping[str, Range], more: str = "") -> Outcome:
    """Figure 2: CCA below 0.5 for the head; of CKA the paper says that the pattern is the same."""
    lowest = min((v.mean for v in body.values()), default=math.nan)
    cca = measure.startswith("CCA")
    return Outcome(
        f"It changes the head's most ({measure})",
        f"{measure} of the head ≤ {HEAD_CCA}" if cca else f"{measure} of the head at most that of every body block",
        at_most(head, HEAD_CCA) if cca else every(at_most(head.minus(v), 0.0) for v in body.values()),
        f"head {head.mean:.3f}, lowest of the body {lowest:.3f}{more}",
        (MINI,),
    )


def head_moves_most(moved: Mapping[str, Range], what: str = "", data: tuple[str, ...] = (MINI,), more: str = "",
                    of: str = "") -> Outcome:  # fmt: skip
    """Appendix B.3. The last block is the head."""
    *body, head = moved
    kind = what or "distance / norm"
    return Outcome(
        f"The head moves farthest, though the body has far more weights ({of or kind})",
        f"{kind} of the head above every body block's",
        every(at_least(moved[head].minus(moved[b]), 0.0) for b in body),
        ", ".join(f"{b} {v.mean:.3f}" for b, v in moved.items()) + more,
        data,
    )


def models_alike(measure: str, cross: Range, within: Sequence[Range]) -> Outcome:
    """Table 3."""
    means = [r.mean for r in within]
    return Outcome(
        f"A MAML and an ANIL are as alike as two MAMLs or two ANILs ({measure})",
        f"{measure} of the cross pairs within the range of the two others, or outside by at most 0.02",
        every([at_least(cross, min(means) - 0.02), at_most(cross, max(means) + 0.02)]),
        f"{said(cross, 'similarity')} against {means[0]:.3f} and {means[1]:.3f}",
        (MINI,),
    )


def regimes_alike(measure: str, regimes: Mapping[str, Range]) -> Outcome:
    """Appendix D.2."""
    best = max(("maml", "anil"), key=lambda n: regimes[n].mean)
    others = [r for n, r in regimes.items() if n not in ("maml", "anil")]
    above = [at_least(regimes[best].minus(r), 0.0) for r in others]
    below = [at_most(regimes["random"].minus(r), 0.0) for n, r in regimes.items() if n != "random"]
    return Outcome(
        f"MAML's body is most like another MAML's or an ANIL's, and least like an untrained one ({measure})",
        "the larger of MAML and ANIL is the highest of all regimes, random the lowest",
        every([*above, *below]),
        ", ".join(f"{n} {r.mean:.2f}" for n, r in regimes.items()),
        (MINI,),
    )


def features_ranked(
    gap: Callable[[str, str], Range], learnt: Learnt, accuracy: Mapping[str, float]
) -> tuple[Outcome, ...]:
    """Table 5; `gap(a, b)` is a − b on the same episodes."""
    better = max(("maml", "anil"), key=accuracy.__getitem__)
    worse = min(("maml", "anil"), key=accuracy.__getitem__)
    between = gap(better, worse)
    m = {name: f"{100 * a:.1f}" for name, a in accuracy.items()}
    return (
        Outcome(
            "Multitask training makes worse features than none at all",
            "multitask < random",
            at_most(gap("multitask", "random"), 0.0),
            f"{m['multitask']} against {m['random']} %",
            (MINI,),
        ),
        Outcome(
            "Training on few-shot tasks makes better features than none",
            "random < MAML and random < ANIL",
            every(at_least(gap(n, "random"), 0.0) for n in ("maml", "anil")),
            f"{m['random']} against {m['maml']} and {m['anil']} %",
            (MINI,),
        ),
        Outcome(
            "MAML's and ANIL's features are equally good",
            f"|MAML − ANIL| ≤ {100 * learnt.cap:.0f} points and ≤ {100 * SHARE:.0f} % of what was learned beyond an "
            "untrained body",
            at_most(between, learnt.most),
            f"{better.upper()} ahead by {said(between, 'points')}",
            (MINI,),
        ),
        Outcome(
            "MAML's and ANIL's features are better than those of multiclass training",
            "min(MAML, ANIL) − multiclass ≥ 0",
            every(at_least(gap(n, "multiclass"), 0.0) for n in ("maml", "anil")),
            f"{said(gap(worse, 'multiclass'), 'points')} (other published work finds well-tuned multiclass training "
            "stronger than the paper does)",
            (MINI,),
        ),
    )


def heads_alike(gaps: Mapping[str, Range]) -> Outcome:
    """Appendix D.1."""
    return Outcome(
        "Which of the two heads tests a body makes little difference",
        "|MAML's inner loop − NIL's head| ≤ 3 points for every regime",
        every(every([at_least(g, -0.03), at_most(g, 0.03)]) for g in gaps.values()),
        ", ".join(f"{n} {100 * g.mean:+.1f}" for n, g in gaps.items()) + " points",
        (MINI,),
    )


def learn_alike(gap: Range) -> Outcome:
    """Figure 5."""
    text = "MAML and ANIL learn alike"
    what = "at the end of training, ANIL − MAML of validation accuracy"
    return bounded(text, what, gap, "points", least=-0.02, most=0.02, data=(MINI,))


def seeds_unchanged(measure: str, slope: float, intercept: float, r2: float, points: int) -> Outcome:
    """Appendix B.4."""
    return Outcome(
        f"Adaptation does not change how alike two seeds are ({measure})",
        "R² > 0.9 and 0.9 < slope < 1.1",
        None if math.isnan(r2) else r2 > 0.9 and 0.9 < slope < 1.1,
        f"slope {slope:.3f}, intercept {intercept:+.3f}, R² {r2:.3f}, {points} points",
        (MINI,),
    )


def anil_faster(training: float, inference: float, steps: int) -> tuple[Outcome, Outcome]:
    """Section 4: 1.7 times in training and 4.1 times at test time with 10 steps, on average."""
    least = {part: COST_PART * (printed(text) or math.nan) for part, text in COST.items()}
    what = f"{100 * COST_PART:.0f} % of the paper's {{}}"
    first = bounded(
        "ANIL trains faster than MAML",
        "MAML / ANIL per outer step",
        range_of(training),
        "ratio",
        least=round(least["train"], 2),
        data=BOTH,
        more=f"; {what.format(COST['train'])}",
    )
    second = bounded(
        "ANIL is faster than MAML at test time with 10 inner steps",
        f"MAML / ANIL per episode (here {steps} steps)",
        range_of(inference if steps == 10 else math.nan),
        "ratio",
        least=round(least["inference"], 2),
        data=BOTH,
        more=f"; {what.format(COST['inference'])}",
    )
    return first, second if steps == 10 else Outcome(
        second.text, second.predicate, None, f"{inference:.2f}×, with {steps} steps", BOTH
    )
