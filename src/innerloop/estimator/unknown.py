"""None of these: a threshold on how near a picture is to the nearest class, calibrated on the examples alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from innerloop.core.statistics import Share
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class Threshold:
    """Below which nearness a picture is none of the classes, and how often that is wrong."""

    value: float
    """a cosine"""
    known_refused: Share
    """of the examples, each left out, those taken to be none of the classes"""
    others_taken: Share
    """of the examples, each left out with its whole class, those taken to be one of the other classes"""


def nearness(
    query: NDArray[np.floating], support: NDArray[np.floating], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The cosine of each query's features to the nearest class mean (of features of length 1), [n]."""
    return (_unit(query) @ class_means(support, labels).T).max(1)


def class_means(support: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The direction of each class's mean of features of length 1, [classes, features], of length 1 itself."""
    s = _unit(support)
    return _unit(np.stack([s[labels == c].mean(0) for c in np.unique(labels)]))


def calibrate(support: NDArray[np.floating], labels: NDArray[np.int64]) -> Threshold:
    """The threshold that errs least, both kinds of error weighing the same: known pictures refused, others taken.

    Each example left out stands for a new picture of its class; left out with its whole class, for a picture of none of
    them. The error rates are for thresholds chosen without the example in question. Pictures of
    other classes may lie farther or nearer than the classes at hand lie to one another, and are then refused more or
    less often. Raises InnerloopError if no class has two examples.
    """
    n = len(labels)
    own = np.full(n, np.nan)
    for i in range(n):
        rest = np.arange(n) != i
        if (labels[rest] == labels[i]).any():
            own[i] = nearness(support[i : i + 1], support[rest], labels[rest])[0]
    if np.isnan(own).all():
        raise InnerloopError("what is none of the classes cannot be told from one example a class; give two or more")
    foreign = np.empty(n)
    for c in np.unique(labels):
        away = labels != c
        foreign[~away] = nearness(support[~away], support[away], labels[away])
    asked = np.flatnonzero(~np.isnan(own))
    refused = taken = 0
    for i in range(n):
        rest = np.arange(n) != i
        t = _best(own[rest], foreign[rest])
        refused += bool(own[i] < t)
        taken += bool(foreign[i] >= t)
    return Threshold(_best(own, foreign), Share(int(refused), len(asked)), Share(int(taken), n))


def _best(own: NDArray[np.float64], foreign: NDArray[np.float64]) -> float:
    """Half-way between two scores, where the mean of the two error rates is least; of several, the middle one."""
    own = own[~np.isnan(own)]
    scores = np.unique(np.concatenate([own, foreign]))
    between = np.concatenate([scores[:1] - 1e-6, (scores[1:] + scores[:-1]) / 2])
    error = [(own < t).mean() + (foreign >= t).mean() for t in between]
    least = np.flatnonzero(np.isclose(error, min(error)))
    return float(between[least[len(least) // 2]])


def _unit(x: NDArray[np.floating]) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
