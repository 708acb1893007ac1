"""CCA against whitened covariances in NumPy, its invariances, and its two kinds of truncation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerloop.analysis import canonical_correlations, mean_cca, pwcca, svcca
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from naming import names
from planting import plants

seeds = st.integers(0, 99)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(seed, "cca", *shape), dtype=torch.float64)


def related(n: int, p: int, q: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    x = normal(n, p, seed=seed)
    return x, 0.7 * x @ normal(p, q, seed=seed + 1) + normal(n, q, seed=seed + 2)


def whitened(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The correlations by pseudo-inverse roots of the covariances, x's canonical directions, and the centred x."""
    x, y = x - x.mean(0), y - y.mean(0)

    def root(c: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(c)
        inverse = np.array([v**-0.5 if v > 1e-9 * values.max() > 0 else 0.0 for v in values])
        return vectors @ np.diag(inverse) @ vectors.T

    a, b = root(x.T @ x), root(y.T @ y)
    u, rho, _ = np.linalg.svd(a @ x.T @ y @ b)
    rank = min(np.linalg.matrix_rank(z, tol=1e-6) for z in (x, y))
    return rho[:rank], (x @ a @ u)[:, :rank], x


def agree(x: torch.Tensor, y: torch.Tensor) -> None:
    expected, h, centred = whitened(x.double().numpy(), y.double().numpy())
    rho = canonical_correlations(x, y)
    assert rho.dtype == torch.float64
    assert rho.shape == expected.shape
    assert rho.numpy() == pytest.approx(expected, abs=1e-6)
    assert mean_cca(x, y) == pytest.approx(expected.mean(), abs=1e-6)
    weights = np.abs(h.T @ centred).sum(1)
    assert pwcca(x, y) == pytest.approx(float(weights @ expected / weights.sum()), abs=1e-6)


@given(p=st.integers(1, 6), q=st.integers(1, 6), extra=st.integers(0, 30), seed=seeds, by=st.floats(-50, 50))
def test_is_that_of_the_whitened_covariances(p: int, q: int, extra: int, seed: int, by: float) -> None:
    x, y = related(2 * max(p, q) + 1 + extra, p, q, seed)
    agree(x + by, 3.0 * y - by)


@plants("CCA without a rank cut", "analysis.cca:_rank", lambda right: len)
@given(seed=seeds, rank=st.integers(1, 3))
def test_low_rank(seed: int, rank: int) -> None:
    x, y = related(40, 7, 5, seed)
    x = x[:, :rank] @ normal(rank, 7, seed=seed + 7)
    agree(x, y)
    agree(y, x)
    assert len(canonical_correlations(x, y)) == rank


def test_dead_and_repeated_neurons_count_for_nothing() -> None:
    x, y = related(60, 6, 5)
    more = torch.cat([x, torch.zeros(60, 2), torch.full((60, 1), 0.1), x[:, :3]], 1)
    for a, b in ((more, y), (y, more)):
        agree(a, b)
    assert canonical_correlations(more, y).tolist() == pytest.approx(canonical_correlations(x, y).tolist())
    assert mean_cca(more, y) == pytest.approx(mean_cca(x, y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_neurons_in_the_precision_of_a_network(dtype: torch.dtype) -> None:
    """A shift leaves rounding in a constant column; in a repeated one, scaled, too."""
    x, y = (z.to(dtype) for z in related(200, 6, 5))
    more = torch.cat([x, torch.full((200, 2), 1 / 3, dtype=dtype), (x[:, :2] / 3 + 1.7) * 1.3], 1)
    assert len(canonical_correlations(more, more)) == 6
    assert mean_cca(more, y) == pytest.approx(mean_cca(x, y), abs=1e-4)


@given(seed=seeds, p=st.integers(1, 6), by=st.floats(-20, 20))
def test_invertible_maps_change_nothing(seed: int, p: int, by: float) -> None:
    x, y = related(50, p, 4, seed)
    a = torch.linalg.qr(normal(p, p, seed=seed + 3)).Q * torch.logspace(-2, 2, p, dtype=torch.float64)
    assert canonical_correlations(x, x @ a + by).tolist() == pytest.approx([1.0] * p, abs=1e-9)
    assert canonical_correlations(x @ a + by, y).tolist() == pytest.approx(canonical_correlations(x, y).tolist())
    assert canonical_correlations(y, x).tolist() == pytest.approx(canonical_correlations(x, y).tolist())


def test_a_quiet_neuron_counts_as_much_as_a_loud_one() -> None:
    x, y = related(50, 4, 4)
    loud = x * torch.tensor([1e8, 1.0, 1.0, 1e-8])
    assert canonical_correlations(loud, y).tolist() == pytest.approx(canonical_correlations(x, y).tolist())


@given(seed=seeds)
def test_descending_from_1_to_0(seed: int) -> None:
    rho = canonical_correlations(*related(30, 5, 3, seed))
    assert len(rho) == 3
    assert rho.tolist() == sorted(rho.tolist(), reverse=True)
    assert 0 <= float(rho.min()) <= float(rho.max()) <= 1
    x = normal(30, 5, seed=seed)
    assert canonical_correlations(x, x).max() <= 1.0


def test_closed_forms() -> None:
    x, y = related(9, 1, 1)
    r = float(np.corrcoef(x[:, 0].numpy(), y[:, 0].numpy())[0, 1])
    for measure in (mean_cca, svcca, pwcca):
        assert measure(x, y) == pytest.approx(abs(r))
        assert measure(x, -y) == pytest.approx(abs(r))
    # several neurons against one: the multiple correlation, R of the least-squares fit
    x, y = related(40, 4, 1)
    rest = np.linalg.lstsq(np.c_[np.ones(40), x.numpy()], y[:, 0].numpy(), rcond=None)[1][0]
    assert mean_cca(x, y) == pytest.approx(math.sqrt(1 - rest / float((y - y.mean()).square().sum())))


def signals(n: int = 400) -> torch.Tensor:
    """Four centred orthonormal columns."""
    z = normal(n, 4)
    return torch.linalg.qr(z - z.mean(0)).Q


def test_the_two_truncations_are_two_things() -> None:
    s = signals()
    # x has a loud and a quiet neuron; y shares the quiet one alone
    x, y = s[:, :2] * torch.tensor([10.0, 1.0]), s[:, [2, 1]] * torch.tensor([10.0, 1.0])
    assert canonical_correlations(x, y).tolist() == pytest.approx([1.0, 0.0], abs=1e-9)
    assert mean_cca(x, y) == pytest.approx(0.5)
    assert mean_cca(x, y, cut=0.98) == pytest.approx(1.0)  # the tail of the correlations is left off
    assert svcca(x, y, keep=0.98) == pytest.approx(0.0, abs=1e-9)  # the quiet directions are, before
    assert svcca(x, y, keep=0.995) == pytest.approx(0.5)  # the loud one holds 100 / 101


def test_cut_is_a_part_of_the_sum() -> None:
    s = signals()
    rho = torch.tensor([0.9, 0.6], dtype=torch.float64)
    x, y = s[:, :2], rho * s[:, :2] + (1 - rho**2).sqrt() * s[:, 2:]
    assert canonical_correlations(x, y).tolist() == pytest.approx([0.9, 0.6])
    assert mean_cca(x, y) == pytest.approx(0.75)
    assert mean_cca(x, y, cut=0.59) == pytest.approx(0.9)  # 0.9 / 1.5 = 0.6
    assert mean_cca(x, y, cut=0.6) == pytest.approx(0.9)
    assert mean_cca(x, y, cut=0.61) == pytest.approx(0.75)


@plants(
    "SVCCA keeps one direction too few",
    "analysis.cca:_leading",
    lambda right: lambda values, part: max(1, right(values, part) - 1),
)
@plants(
    "SVCCA cut at a part of the singular values",
    "analysis.cca:_leading",
    lambda right: lambda values, part: right(values.sqrt(), part),
)
@given(seed=seeds, keep=st.floats(0.05, 1.0))
def test_svcca_is_cca_of_the_leading_components(seed: int, keep: float) -> None:
    parts = []
    x, y = related(60, 6, 5, seed)
    x, y = x * torch.logspace(1, -1, 6), y * torch.logspace(1, -1, 5)
    for z in (x.numpy(), y.numpy()):
        values, vectors = np.linalg.eigh(np.cov(z.T))
        share = np.cumsum(values[::-1]) / values.sum()
        k = int(np.searchsorted(share, keep * (1 - 1e-9))) + 1
        parts.append((z - z.mean(0)) @ vectors[:, ::-1][:, :k])
    expected = whitened(*parts)[0].mean()
    assert svcca(x, y, keep=keep) == pytest.approx(expected, abs=1e-6)


def test_svcca_of_everything_is_cca_and_takes_more_neurons_than_points() -> None:
    x, y = related(40, 5, 4)
    assert svcca(x, y, keep=1.0) == pytest.approx(mean_cca(x, y))
    wide = torch.cat([x @ normal(5, 60), torch.zeros(40, 9)], 1)  # 69 neurons, rank 5
    assert svcca(wide, y, keep=1.0) == pytest.approx(mean_cca(x, y))
    with pytest.raises(InnerloopError, match=names(39, 78, 40, "keep")):
        svcca(normal(40, 100), y, keep=1.0)


@given(seed=seeds)
def test_pwcca_lies_among_the_correlations(seed: int) -> None:
    x, y = related(50, 5, 4, seed)
    rho = canonical_correlations(x, y)
    assert float(rho.min()) - 1e-9 <= pwcca(x, y) <= float(rho.max()) + 1e-9
    assert pwcca(5.0 * x + 2.0, y @ normal(4, 4, seed=seed)) == pytest.approx(pwcca(x, y))


@plants("PWCCA weights of the second", "analysis.cca:pwcca", lambda right: lambda x, y: right(y, x))
def test_pwcca_weighs_by_the_first() -> None:
    s = signals()
    x, y = s[:, :2] * torch.tensor([3.0, 1.0]), s[:, [0, 2]]
    assert mean_cca(x, y) == pytest.approx(0.5)
    assert pwcca(x, y) == pytest.approx(0.75)  # the shared direction is the neuron of size 3 of 3 + 1
    assert pwcca(y, x) == pytest.approx(0.5)


def test_a_constant_has_no_correlation() -> None:
    x = normal(20, 3)
    for flat in (torch.zeros(20, 4), torch.full((20, 4), 0.1), torch.full((20, 4), 1e6 / 3, dtype=torch.float64)):
        for a, b in ((x, flat), (flat, x), (flat, flat)):
            assert canonical_correlations(a, b).shape == (0,)
            assert all(math.isnan(f(a, b)) for f in (mean_cca, svcca, pwcca))


@plants("CCA of half as many points", "analysis.cca:_check_points", lambda right: lambda n, *rest: right(2 * n, *rest))
@pytest.mark.parametrize("measure", [canonical_correlations, mean_cca, pwcca])
def test_too_few_points(measure) -> None:
    measure(normal(10, 5), normal(10, 2))
    for x, y in ((normal(9, 5), normal(9, 2)), (normal(9, 2), normal(9, 5))):
        with pytest.raises(InnerloopError, match=names(5, 10, 9, "svcca")):
            measure(x, y)


@pytest.mark.parametrize("part", [0.0, 1.01, -1.0, math.nan])
def test_parts_are_parts(part: float) -> None:
    with pytest.raises(InnerloopError, match=names("cut", part, 0, 1)):
        mean_cca(normal(9, 1), normal(9, 1), cut=part)
    with pytest.raises(InnerloopError, match=names("keep", part, 0, 1)):
        svcca(normal(9, 1), normal(9, 1), keep=part)
