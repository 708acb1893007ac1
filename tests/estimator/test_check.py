"""What the examples say about a classifier: shares, pairs, curves against counts made by hand."""

import numpy as np
import pytest

from innerloop.core.statistics import Share
from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier
from innerloop.estimator.check import check
from naming import names

RNG = np.random.default_rng(0)
Y = np.repeat(["ant", "bee", "cat"], 6)
NOISY = np.repeat(np.eye(3, 5), 6, axis=0) + 0.6 * RNG.normal(size=(18, 5))
CLEAR = np.repeat(np.eye(3, 5), 6, axis=0) + 0.01 * RNG.normal(size=(18, 5))


@pytest.mark.parametrize(
    ("count", "n", "low", "high"), [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (25, 25, 0.8668, 1.0)]
)
def test_the_interval_is_wilsons(count: int, n: int, low: float, high: float) -> None:
    """Its ends are the shares p at which the count lies 1.96 standard deviations away."""
    share = Share(count, n)
    assert share.wilson95 == pytest.approx((low, high), abs=1e-4)
    for p in share.wilson95:
        if 0 < p < 1:
            assert abs(share.value - p) == pytest.approx(1.96 * np.sqrt(p * (1 - p) / n))


def test_each_example_is_named_from_the_others() -> None:
    found = check(NOISY, Y, methods=("means",))
    named = [
        FewShotClassifier(method="means").fit(np.delete(NOISY, i, 0), np.delete(Y, i)).predict(NOISY[i : i + 1])[0]
        for i in range(18)
    ]
    wrong = [(a, b) for a, b in zip(Y, named, strict=True) if a != b]
    assert (found.right.count, found.right.n) == (18 - len(wrong), 18)
    assert 0 < len(wrong) < 9
    assert sorted((a, b) for a, b, n in found.confused for _ in range(n)) == sorted(wrong)
    assert [n for *_, n in found.confused] == sorted((n for *_, n in found.confused), reverse=True)


def test_the_choice_of_a_method_does_not_flatter() -> None:
    """Each picture by the method that is best on the others: between methods that are right on complementary halves
    none can be chosen well."""
    both = check(NOISY, Y, methods=("nil", "means"))
    alone = [check(NOISY, Y, methods=(m,)).right.count for m in ("nil", "means")]
    assert both.right.count <= max(alone)
    assert both.methods == ("nil", "means")


def test_the_curve_and_what_follows_from_it() -> None:
    found = check(NOISY, Y, methods=("means",))
    assert [shot for shot, _ in found.curve] == [1, 2, 4, 5]
    shares = dict(found.curve)
    assert shares[1] < shares[5]
    assert found.gain is not None
    mean, low, high = found.gain
    assert low < mean < high
    assert mean == pytest.approx(shares[5] - shares[2], abs=0.02), "up to pictures that no draw left out"
    assert check(NOISY, Y, methods=("means",)) == found, "the draws have a seed"
    clear = check(CLEAR, Y, methods=("nil",))
    assert clear.right.value == 1
    assert clear.confused == ()
    assert clear.advice == "few gained"
    # a class is two clusters: one example shows one of them, more show both
    two = np.concatenate([np.eye(6)[[c, c + 3] * 8] + 0.01 * RNG.normal(size=(16, 6)) for c in range(3)])
    assert check(two, np.repeat([0, 1, 2], 16), methods=("nil",), temperature=50.0).advice in (
        "more help",
        "few gained",
    )
    assert check(two[[0, 1, 16, 17, 32, 33, 2, 3, 18, 19, 34, 35]], [0, 0, 1, 1, 2, 2] * 2).advice == "more help"
    assert check(CLEAR[::3], Y[::3]).advice == "too few to tell"


def test_two_examples_of_each_class_are_needed() -> None:
    with pytest.raises(InnerloopError, match=names("'ant'")):
        check(NOISY[5:], Y[5:])
