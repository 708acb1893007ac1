"""What scikit-learn asks of every estimator, on features; and its tools, on pictures."""

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from innerloop.core.random import generator_for
from innerloop.estimator import FewShotClassifier

RNG = np.random.default_rng(0)
CENTRES = RNG.random((3, 6, 6, 3)).astype(np.float32)
Y = np.array(["ant", "bee", "cat"] * 4)
X = (0.8 * CENTRES[[0, 1, 2] * 4] + 0.2 * RNG.random((12, 6, 6, 3))).astype(np.float32)


def body() -> nn.Sequential:
    linear = nn.Linear(108, 7)
    with torch.no_grad():
        for p in linear.parameters():
            p.copy_(torch.randn(p.shape, generator=generator_for(0)))
    return nn.Sequential(OrderedDict(features=nn.Sequential(nn.Flatten(), linear)))


@parametrize_with_checks(
    [FewShotClassifier(method="nil"), FewShotClassifier(method="means"), FewShotClassifier(method="anil", steps=20)]
)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    """None is expected to fail; a check whose package is absent (pandas, array API) is skipped by scikit-learn."""
    check(estimator)


def test_cross_validation_and_grid_search() -> None:
    model = FewShotClassifier(body(), steps=20)
    assert cross_val_score(model, X, Y, cv=3).tolist() == [1, 1, 1]
    grid = {"method": ["nil", "anil"], "temperature": [1.0, 10.0]}
    search = GridSearchCV(model, grid, cv=2, scoring="neg_log_loss").fit(list(X), Y)
    assert search.best_params_["temperature"] == 10.0 or search.best_params_["method"] == "anil"
    assert search.predict(X).tolist() == Y.tolist()


@pytest.mark.parametrize("method", ["nil", "means", "anil", "finetune"])
def test_a_copy_and_a_pickle_predict_the_same(method: str) -> None:
    fitted = FewShotClassifier(body(), method=method, steps=3).fit(X, Y)
    expected = fitted.predict_proba(X)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), expected)
    copy = clone(fitted)
    with pytest.raises(NotFittedError):
        copy.predict(X)  # type: ignore[union-attr]
    assert np.array_equal(copy.fit(X, Y).predict_proba(X), expected)  # type: ignore[union-attr]


def test_the_pretrained_body_can_be_pickled() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 30, 30), dtype=np.uint8)
    fitted = FewShotClassifier(image_size=32).fit(images, [True, False])
    content = pickle.dumps(fitted)
    assert len(content) < 25e6, "the weights are in it once"
    assert np.array_equal(pickle.loads(content).predict_proba(images), fitted.predict_proba(images))


@pytest.mark.parametrize("labels", [["b", "a", "c"], [-3, 7, 0], [2.0, 1.0, 3.0], [True, False, True]])
def test_labels_of_any_type(labels: list[Any]) -> None:
    y = np.array(labels)[[0, 1, 2] * 4]
    model = FewShotClassifier(body()).fit(X, y)
    assert model.classes_.tolist() == sorted(set(labels))
    found = model.predict(X)
    assert found.dtype == y.dtype
    if len(set(labels)) == 3:
        assert found.tolist() == y.tolist()
        assert model.classes_[model.predict_proba(X).argmax(1)].tolist() == y.tolist()
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
