"""CKA against centred Gram matrices and sums over quadruples of data points in NumPy, and its invariances."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerloop.analysis import linear_cka, rbf_cka
from innerloop.analysis.cka import centred_pair
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from naming import names
from planting import plants

seeds = st.integers(0, 99)
MEASURES = [linear_cka, rbf_cka]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed, "cka", *shape), dtype=torch.float64)


def related(n: int, p: int, q: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = normal(n, p, seed=seed)
    return x, x @ normal(p, q, seed=seed + 1) + normal(n, q, seed=seed + 2)


def linear(x: np.ndarray) -> np.ndarray:
    return x @ x.T


def rbf(x: np.ndarray, bandwidth: float) -> np.ndarray:
    n = len(x)
    distance = np.array([[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)])
    pairs = sorted(distance[i, j] for i, j in itertools.combinations(range(n), 2))
    sigma = bandwidth * pairs[(len(pairs) - 1) // 2]
    return np.exp(-(distance**2) / (2 * sigma**2))


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    h = np.eye(len(k)) - 1 / len(k)
    return float(np.trace(k @ h @ m @ h))


def hsic_unbiased(k: np.ndarray, m: np.ndarray) -> float:
    """The U-statistic itself: means over pairs, triples and quadruples of different data points."""
    n = range(len(k))
    pairs = [k[i, j] * m[i, j] for i, j in itertools.permutations(n, 2)]
    triples = [k[i, j] * m[i, o] for i, j, o in itertools.permutations(n, 3)]
    quadruples = [k[i, j] * m[o, u] for i, j, o, u in itertools.permutations(n, 4)]
    return float(np.mean(pairs) - 2 * np.mean(triples) + np.mean(quadruples))


def cka(k: np.ndarray, m: np.ndarray, of=hsic) -> float:
    return of(k, m) / math.sqrt(of(k, k) * of(m, m))


@plants(
    "CKA unbiased with a wrong constant",
    "analysis.cka:_hsic1",
    lambda right: lambda trace, sums, rows, n: right(trace, sums, rows * (n - 2) / (n - 1), n),
)
@given(n=st.integers(4, 6), p=st.integers(1, 30), q=st.integers(1, 30), seed=seeds, by=st.floats(-9, 9))
def test_unbiased_is_the_mean_over_different_points(n: int, p: int, q: int, seed: int, by: float) -> None:
    x, y = related(n, p, q, seed)
    x = x + by
    a, b = x.numpy(), y.numpy()
    if n > 4 or min(p, q) > 1:  # four points on a line may leave next to nothing to divide by
        assert linear_cka(x, y, unbiased=True) == pytest.approx(cka(linear(a), linear(b), hsic_unbiased), abs=1e-6)
        expected = cka(rbf(a, 0.7), rbf(b, 0.7), hsic_unbiased)
        assert rbf_cka(x, y, bandwidth=0.7, unbiased=True) == pytest.approx(expected, abs=1e-6)


@plants(
    "CKA kernel as wide as the square root",
    "analysis.cka:_rbf_kernel",
    lambda right: lambda x, bandwidth: right(x, bandwidth**0.5),
)
@plants("CKA forgets to centre", "analysis.cka:_centred", lambda right: lambda x: x.double())
@given(n=st.integers(3, 20), p=st.integers(1, 9), q=st.integers(1, 90), seed=seeds, bandwidth=st.floats(0.2, 3))
def test_is_that_of_the_centred_gram_matrices(n: int, p: int, q: int, seed: int, bandwidth: float) -> None:
    x, y = related(n, p, q, seed)
    a, b = x.numpy(), y.numpy()
    assert linear_cka(x, y) == pytest.approx(cka(linear(a), linear(b)))
    assert rbf_cka(x, y, bandwidth=bandwidth) == pytest.approx(cka(rbf(a, bandwidth), rbf(b, bandwidth)), abs=1e-7)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("case", ["low rank", "dead", "wide"])
def test_rank_deficient(case: str, unbiased: bool) -> None:
    x, y = related(7, 8, 5)
    if case == "low rank":
        x = x[:, :2] @ normal(2, 8)
    if case == "dead":
        x[:, 3:] = 0.1
        y[:, 0] = 0.0
    if case == "wide":
        x, y = x @ normal(8, 400), y @ normal(5, 300)
    of = hsic_unbiased if unbiased else hsic
    a, b = x.numpy(), y.numpy()
    assert linear_cka(x, y, unbiased=unbiased) == pytest.approx(cka(linear(a), linear(b), of), abs=1e-9)
    assert rbf_cka(x, y, unbiased=unbiased) == pytest.approx(cka(rbf(a, 1.0), rbf(b, 1.0), of), abs=1e-9)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
@given(seed=seeds, scale=st.floats(0.01, 100), by=st.floats(-10, 10))
def test_rotations_and_scale_change_nothing(measure, unbiased: bool, seed: int, scale: float, by: float) -> None:
    x, y = related(12, 5, 4, seed)
    rotation = torch.linalg.qr(normal(5, 5, seed=seed + 4)).Q
    value = measure(x, y, unbiased=unbiased)
    assert measure(scale * x @ rotation + by, y, unbiased=unbiased) == pytest.approx(value, abs=1e-7)
    assert measure(y, x, unbiased=unbiased) == pytest.approx(value)
    assert measure(x, scale * x @ rotation, unbiased=unbiased) == pytest.approx(1.0)
    stretched = x * torch.tensor([1.0, 30.0, 0.1, 3.0, 1.0])
    assert measure(x, stretched, unbiased=unbiased) < 0.99  # not every linear map: that is CCA
    order = torch.randperm(12, generator=generator_for(seed, "order"))
    assert measure(x[order], y[order], unbiased=unbiased) == pytest.approx(value)


def test_linear_of_one_neuron_is_the_squared_correlation() -> None:
    x, y = related(9, 1, 1)
    assert linear_cka(x, y) == pytest.approx(np.corrcoef(x[:, 0].numpy(), y[:, 0].numpy())[0, 1] ** 2)


@pytest.mark.parametrize("measure", MEASURES)
def test_few_points_of_unrelated_data(measure) -> None:
    """Twenty data points, two hundred neurons, nothing in common."""
    pairs = [(normal(20, 200, seed=2 * s), normal(20, 200, seed=2 * s + 1)) for s in range(40)]
    biased = [measure(x, y) for x, y in pairs]
    unbiased = [measure(x, y, unbiased=True) for x, y in pairs]
    assert min(biased) > 0.8
    assert abs(np.mean(unbiased)) < 0.03
    assert min(unbiased) < 0 < max(unbiased)


def test_with_many_points_the_estimators_meet() -> None:
    x, y = related(1500, 4, 3)
    assert linear_cka(x, y, unbiased=True) == pytest.approx(linear_cka(x, y), abs=0.005)
    assert rbf_cka(x, y, unbiased=True) == pytest.approx(rbf_cka(x, y), abs=0.02)


def test_a_wide_kernel_is_the_linear_one() -> None:
    x, y = related(30, 5, 4)
    assert rbf_cka(x, y, bandwidth=300.0) == pytest.approx(linear_cka(x, y), abs=1e-4)
    assert abs(rbf_cka(x, y, bandwidth=0.5) - linear_cka(x, y)) > 0.01


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_constant_has_no_structure(measure, unbiased: bool) -> None:
    x = normal(9, 3)
    for flat in (torch.zeros(9, 4), torch.full((9, 4), 0.1), torch.full((9, 4), 1e6 / 3, dtype=torch.float64)):
        for a, b in ((x, flat), (flat, x), (flat, flat)):
            assert math.isnan(measure(a, b, unbiased=unbiased))


def test_points_all_alike_apart_have_no_structure_beyond_chance() -> None:
    """Each data point has a neuron of its own: all distances are the same, and no pair is more alike than another."""
    assert math.isnan(linear_cka(torch.eye(6), normal(6, 3), unbiased=True))
    assert math.isnan(rbf_cka(torch.eye(6), normal(6, 3), unbiased=True))


def test_single_precision_comes_close_to_double() -> None:
    x, y = related(300, 6, 5)
    for measure in MEASURES:
        assert measure((x + 5).float(), y.float()) == pytest.approx(measure(x, y), abs=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_unbiased_needs_four_points(measure) -> None:
    with pytest.raises(InnerloopError, match=names(4, 3)):
        measure(normal(3, 2), normal(3, 2, seed=1), unbiased=True)
    measure(normal(3, 2), normal(3, 2, seed=1))


def test_rows_must_meet() -> None:
    """The check that all measures share; the signatures' own comes before it in the tests."""
    for x, y in ((normal(5, 2), normal(6, 2)), (normal(5), normal(5, 1)), (normal(5, 2), normal(5, 2, 2))):
        with pytest.raises(InnerloopError, match=names(tuple(x.shape), tuple(y.shape))):
            centred_pair(x, y)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan])
def test_bandwidth_is_above_0(bandwidth: float) -> None:
    with pytest.raises(InnerloopError, match=names("bandwidth", 0, bandwidth)):
        rbf_cka(normal(5, 2), normal(5, 2), bandwidth=bandwidth)
