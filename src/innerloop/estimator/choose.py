"""Which method suits a support set, by leaving out one of its images at a time."""

from collections.abc import Sequence
from functools import cached_property
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
    dictionary is empty. `options` are arguments of FewShotClassifier.

    The share is measured on few images (n left out: its standard error is up to 0.5/√n): a hint, no test result.
    """
    refits = Refits(X, y, model, **options)
    methods = refits.first.fitting_methods() if methods is None else tuple(methods)
    if not methods:
        raise InnerloopError("methods is empty; name one or more, or leave it out for all that fit")
    y = refits.y
    if min(np.unique(y, return_counts=True)[1]) < 2:
        return DEFAULT, {}
    left_out = left_out_rows(y)
    shares = {method: float((refits.left_out(method, left_out) == y[left_out]).mean()) for method in methods}
    return max(shares, key=lambda m: shares[m]), shares


class Refits:
    """Fits on parts of a support set; features that depend on an image alone are made once."""

    def __init__(self, X: Any, y: Any, model: Any, **options: Any) -> None:
        self.X, self.y, self.model = X, column_or_1d(y, warn=True), model
        self.options = {name: value for name, value in options.items() if name != "method"}
        self.first = FewShotClassifier(model, method="nil", **self.options).fit(X, self.y)

    def predict(self, method: str, support: NDArray[np.int64], query: NDArray[np.int64]) -> NDArray[Any]:
        """Labels of the rows `query`, named from the rows `support`."""
        given, changes = self._given(method)
        trial = FewShotClassifier(**{"model": self.model, **self.options, **changes, "method": method})
        return trial.fit(_take(given, support), self.y[support]).predict(_take(given, query))

    def left_out(self, method: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The label of each of these rows, named from all other rows."""
        every = np.arange(len(self.y))
        return np.array([self.predict(method, np.delete(every, i), np.array([i]))[0] for i in rows])

    def _given(self, method: str) -> tuple[Any, dict[str, Any]]:
        """What is fitted: turned features where they can be had, else X; and the parameters that go with it."""
        if not self.first.has_fixed_features or self.first.adapts_network(method):
            return self.X, {}
        changes = {"model": "pretrained"}
        return self._turned, changes | ({"temperature": self.first.temperature_} if method == "nil" else {})

    @cached_property
    def _turned(self) -> NDArray[np.float64]:
        return _turned(self.first.support_features_)


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
