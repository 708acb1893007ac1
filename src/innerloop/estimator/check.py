"""How often a classifier is right, and whether more examples would help: told from the examples themselves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core.random import generator_for
from innerloop.core.statistics import Share, over_episodes
from innerloop.errors import InnerloopError
from innerloop.estimator.choose import Refits, left_out_rows
from innerloop.notebook import html_table

DRAWS = 20
"""random support sets of each size of the learning curve"""


@dataclass(frozen=True)
class Check:
    """What the examples say about the classifier."""

    methods: tuple[str, ...]
    """of more than one, each picture was named by the one that was right most often on the other pictures"""
    right: Share
    """of the examples left out in turn, those named right from all others"""
    confused: tuple[tuple[str, str, int], ...]
    """class, what its pictures were taken for, and how many; the most frequent first"""
    curve: tuple[tuple[int, float], ...]
    """examples per class, and the mean share right (0 to 1) of those that were not among them"""
    gain: tuple[float, float, float] | None
    """what the last doubling of the examples brought: the share right more, and its 95 % interval over pictures"""
    advice: Literal["more help", "few gained", "not clear", "too few to tell"]

    def _repr_html_(self) -> str:
        """Accuracy, confusions and the learning curve, for notebooks."""
        low, high = self.right.wilson95
        rows = [("accuracy", f"{self.right.value:.3f} ({low:.3f} to {high:.3f})")]
        rows += [(f"with {n} per class", f"{share:.3f}") for n, share in self.curve]
        rows += [(f"{a} taken for {b}", n) for a, b, n in self.confused]
        note = (
            f"{self.right.count} of {self.right.n} examples, each classified from the others; in brackets Wilson's 95 %"
        )
        return html_table("Check of the classifier", ("", ""), rows, f"{note} interval. More examples: {self.advice}.")


def check(
    X: Any, y: Any, *, model: Any = "pretrained", methods: Sequence[str] = ("nil",), seed: int = 0, **options: Any
) -> Check:
    """Name each of the support images X from the others (of more than 100, 100 spread evenly over the classes), and
    all from random support sets of 1, 2, 4, … images per class.

    Where `methods` are several, that a method was chosen does not flatter the result: each picture is named by the
    method that was right most often on the other pictures. Raises InnerloopError if a class has one image only.
    `options` are arguments of FewShotClassifier.
    """
    refits = Refits(X, y, model, **options)
    y = refits.y
    names, counts = np.unique(y, return_counts=True)
    if min(counts) < 2:
        few = names[counts.argmin()]
        raise InnerloopError(f"class {str(few)!r} has one example only; to check, give two or more of each class")
    rows = left_out_rows(y)
    named = np.stack([refits.left_out(method, rows) for method in methods])
    right = named == y[rows]
    best = (right.sum(1, keepdims=True) - right).argmax(0)  # by the other pictures; among equals the first
    found = named[best, np.arange(len(rows))]
    confused = Counter((str(a), str(b)) for a, b in zip(y[rows], found, strict=True) if a != b)
    method = methods[int(right.sum(1).argmax())]
    most = int(min(counts)) - 1
    shots = sorted({most, *(2**k for k in range(most.bit_length()) if 2**k <= most), max(1, most // 2)})
    each = {shot: _share(refits, method, rows, shot, seed) for shot in shots}
    gain, advice = _gain(each[most // 2], each[most]) if most > 1 else (None, "too few to tell")
    return Check(
        tuple(methods),
        Share(int((found == y[rows]).sum()), len(rows)),
        tuple((a, b, n) for (a, b), n in confused.most_common()),
        tuple((shot, float(np.nanmean(share))) for shot, share in each.items()),
        gain,
        advice,  # pyright: ignore[reportArgumentType]
    )


def _share(refits: Refits, method: str, rows: NDArray[np.int64], shot: int, seed: int) -> NDArray[np.float64]:
    """For each of the rows how often it is named right from `shot` random images of each class, itself left out."""
    y, draw = refits.y, generator_for(seed, "learning curve", shot)
    right, asked = np.zeros(len(y)), np.zeros(len(y))
    of = [np.flatnonzero(y == c) for c in np.unique(y)]
    for _ in range(DRAWS):
        support = np.concatenate([own[torch.randperm(len(own), generator=draw)[:shot].numpy()] for own in of])
        query = np.setdiff1d(rows, support)
        right[query] += refits.predict(method, support, query) == y[query]
        asked[query] += 1
    with np.errstate(invalid="ignore"):
        return (right / asked)[rows]


def _gain(half: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[tuple[float, float, float] | None, str]:
    """The mean difference over the pictures, its interval, and what follows."""
    difference = (whole - half)[np.isfinite(whole - half)]
    if len(difference) < 2:
        return None, "too few to tell"
    e = over_episodes(torch.from_numpy(difference))
    low, high = e.mean - e.ci95, e.mean + e.ci95
    advice = "more help" if low > 0 and e.mean >= 0.01 else "few gained" if high < 0.01 else "not clear"
    return (e.mean, low, high), advice
