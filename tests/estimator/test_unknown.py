"""None of these: the threshold and its error rates against a slow search; what the classifier makes of it."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier
from innerloop.estimator.unknown import calibrate, nearness
from innerloop.models import conv4

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], 4)
FEATURES = np.eye(3, 8)[LABELS] + 0.25 * RNG.normal(size=(12, 8))
TEXT = np.array(["ant", "bee", "cat"])[LABELS]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def near(q: np.ndarray, rows: list[int]) -> float:
    classes = sorted({LABELS[r] for r in rows})
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    return max(cosine(q, np.mean([unit[r] for r in rows if LABELS[r] == c], axis=0)) for c in classes)


def test_nearness_is_the_cosine_to_the_nearest_mean() -> None:
    query = RNG.normal(size=(5, 8))
    np.testing.assert_allclose(nearness(query, FEATURES, LABELS), [near(q, list(range(12))) for q in query])


def test_the_threshold_errs_least_and_its_rates_are_of_examples_it_has_not_seen() -> None:
    found = calibrate(FEATURES, LABELS)
    own = [near(FEATURES[i], [j for j in range(12) if j != i]) for i in range(12)]
    other = [near(FEATURES[i], [j for j in range(12) if LABELS[j] != LABELS[i]]) for i in range(12)]

    def errors(t: float) -> int:
        return sum(s < t for s in own) + sum(s >= t for s in other)

    least = min(errors(t) for t in np.linspace(-1, 1, 4001))
    assert errors(found.value) == least
    assert found.known_refused.n == found.others_taken.n == 12
    assert found.known_refused.count + found.others_taken.count >= least, "chosen without the one that is asked about"


def test_what_is_far_from_every_class_is_none_of_them(tmp_path: Path) -> None:
    for labels, unknown in ((TEXT, "none of these"), (LABELS, -1)):
        few = FewShotClassifier(unknown=unknown).fit(FEATURES, labels)
        query = np.concatenate([FEATURES[::4], np.eye(8)[5:7]])
        plain = FewShotClassifier().fit(FEATURES, labels)
        assert few.predict(query).tolist() == [*labels[::4].tolist(), unknown, unknown]
        assert np.array_equal(few.predict_proba(query), plain.predict_proba(query))
        assert plain.threshold_ is None
        few.save(tmp_path / "a.innerloop")
        loaded = FewShotClassifier.load(tmp_path / "a.innerloop")
        assert loaded.threshold_ == few.threshold_
        assert loaded.predict(query).tolist() == few.predict(query).tolist()


def test_where_it_cannot_be() -> None:
    with pytest.raises(InnerloopError, match="give two or more"):
        FewShotClassifier(unknown=-1).fit(FEATURES[::4], LABELS[::4])
    for unknown in ("ant", 3):
        with pytest.raises(InnerloopError, match="none of them"):
            FewShotClassifier(unknown=unknown).fit(FEATURES, TEXT)
    x = RNG.random((4, 16, 16)).astype(np.float32)
    with pytest.raises(InnerloopError, match="each image alone"):
        FewShotClassifier(conv4(2, image_size=16, filters=4), unknown=-1).fit(x, [0, 0, 1, 1])


def test_a_classifier_grows_without_changing() -> None:
    """The copy is what a fit on all of it gives; new classes may come."""
    for method in ("nil", "means", "anil"):
        few = FewShotClassifier(method=method, steps=5, unknown="no").fit(FEATURES[:8], TEXT[:8])
        before = few.predict_proba(FEATURES)
        more = few.extended(FEATURES[8:], TEXT[8:])
        whole = FewShotClassifier(method=method, steps=5, unknown="no").fit(FEATURES, TEXT)
        assert np.array_equal(more.predict_proba(FEATURES), whole.predict_proba(FEATURES))
        assert more.threshold_ == whole.threshold_
        assert np.array_equal(few.predict_proba(FEATURES), before)
        assert few.classes_.tolist() == ["ant", "bee"]
    with pytest.raises(InnerloopError, match="another kind"):
        few.extended(FEATURES[:1], [3])
    own = nn.Sequential(OrderedDict(features=nn.Flatten(), head=nn.Linear(8, 3)))
    with pytest.raises(InnerloopError, match="fit again"):
        FewShotClassifier(own, method="finetune", steps=1).fit(FEATURES.astype(np.float32), LABELS).extended(
            FEATURES[:1], [0]
        )
