"""Which method suits a support set, by leaving out one of its images at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from innerloop.errors import InnerloopError
from innerloop.estimator.classifier import FewShotClassifier

DEFAULT = "nil"
"""with one shot nothing can be left out; it has no rate or step to choose wrongly"""
MOST = 100
"""images that are left out: enough for a hint, and the time does not grow with the square of the support set"""


def choose_method(
    X: Any, y: Any, *, model: Any = "pretrained", methods: Sequence[str] | None = None, **options: Any
) -> tuple[str, dict[str, float]]:
    """The method that most often names the left-out support image right, and that share (0 to 1) of each method tried.

    Each image of X is left out in turn, and predicted from the others; of more than 100, 100 that are spread evenly
    over the classes. Among equals the first of `methods` is chosen. By default those are nil, means, anil, and maml for
    a run whose way fits. If a class has one image only, nothing can be left out: then the name is "nil", and the
    dictionary is empty. `options` are those of FewShotClassifier.

    The share is measured on few images (n left out: its standard error is up to 0.5/√n): a hint, no test result.
    """
    y = column_or_1d(y, warn=True)
    options = {name: value for name, value in options.items() if name != "method"}
    first = FewShotClassifier(model, method="nil", **options).fit(X, y)
    methods = first.fitting_methods() if methods is None else tuple(methods)
    if not methods:
        raise InnerloopError("methods is empty; name one or more, or leave it out for all that fit")
    if min(np.unique(y, return_counts=True)[1]) < 2:
        return DEFAULT, {}
    shares: dict[str, float] = {}
    left_out = left_out_rows(y)
    for method in methods:
        given: Any = X
        changes: dict[str, Any] = {"method": method}
        if first.has_fixed_features and not first.adapts_network(method):  # they are made once
            given = _turned(first.support_features_)
            changes["model"] = "pretrained"
            if method == "nil":
                changes["temperature"] = first.temperature_
        right = 0
        for i in left_out:
            rest = np.delete(np.arange(len(y)), i)
            trial = FewShotClassifier(**{"model": model, **options, **changes}).fit(_take(given, rest), y[rest])
            found = trial.predict(_take(given, np.array([i])))
            right += int(found[0] == y[i])
        shares[method] = right / len(left_out)
    return max(shares, key=lambda m: shares[m]), shares


def left_out_rows(y: NDArray[Any], most: int = MOST) -> NDArray[np.int64]:
    """The rows that are left out in turn, at most `most`: every so many-th in the order of their labels."""
    order = np.argsort(y, kind="stable")
    return np.sort(order[np.linspace(0, len(y) - 1, min(len(y), most)).round().astype(int)])


def _turned(features: NDArray[Any]) -> NDArray[np.float64]:
    """[n, d] -> [n, min(n, d)], with the same lengths and angles: all that a head from zero, cosines and distances
    see, in fewer numbers where the examples are few."""
    return np.linalg.qr(features.astype(np.float64).T)[1].T


def _take(X: Any, rows: NDArray[np.int64]) -> Any:
    return [X[i] for i in rows] if isinstance(X, list | tuple) else np.asarray(X)[rows]
