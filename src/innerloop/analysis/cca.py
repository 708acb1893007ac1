"""Canonical correlation analysis: how much of one representation is a linear map of the other.

Data points are rows, neurons columns. No covariance is inverted: orthonormal bases of the centred columns are compared,
so that dead and repeated neurons count for nothing.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.analysis.cka import centred_pair
from innerloop.errors import InnerloopError

_RANK = 1e-6
"""singular values below this part of the largest are no direction: activations come in single precision"""


def canonical_correlations(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> Float[Tensor, " r"]:
    """The canonical correlations of x and y, descending, 0 to 1, in float64: as many as the smaller of their
    ranks (none if one of them is constant).

    Unchanged by invertible linear maps of either. Raises ValueError with fewer than two data points per neuron: any two
    representations would look alike.
    """
    _check_points(len(x), max(x.shape[-1], y.shape[-1]))
    x, y = _small(x, y)
    return _correlations(_basis(x), _basis(y))


def mean_cca(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, cut: float = 1.0) -> float:
    """The mean canonical correlation, 0 to 1; NaN where one of the representations is constant.

    `cut` below 1 takes the mean over the leading correlations alone, as many as make up this part of the sum of all:
    the code that Raghu et al. 2020 cite for figure 2 (github.com/google/svcca) leaves off the tail in this way at 0.98.
    This is not the truncation of `svcca`, which comes before the correlations. Raises ValueError as
    `canonical_correlations`.
    """
    if not 0 < cut <= 1:
        raise InnerloopError(f"cut is the part of the sum of correlations to keep, above 0 and up to 1; got {cut}")
    rho = canonical_correlations(x, y)
    if not len(rho):
        return float("nan")
    if cut < 1:
        rho = rho[: _leading(rho, cut)]
    return float(rho.mean())


def svcca(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, keep: float = 0.99) -> float:
    """Mean CCA of the leading singular directions that hold the part `keep` of each representation's variance
    (Raghu, Gilmer, Yosinski, Sohl-Dickstein 2017, section 2); NaN where one of them is constant.

    The truncation comes first, for each representation by itself; the mean is over all correlations that remain. Raises
    ValueError with fewer than two data points a direction kept; there may be more neurons than that.
    """
    if not 0 < keep <= 1:
        raise InnerloopError(f"keep is the part of the variance to keep, above 0 and up to 1; got {keep}")
    n = len(x)
    parts = []
    for z in _small(x, y):
        u, s, _ = torch.linalg.svd(z, full_matrices=False)
        s = s[: _rank(s)]
        parts.append(u[:, : _leading(s.square(), keep) if len(s) else 0])
    _check_points(n, max(u.shape[1] for u in parts), "directions kept")
    rho = _correlations(*parts)
    return float(rho.mean()) if len(rho) else float("nan")


def pwcca(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """Projection-weighted CCA: Σ_i w_i ρ_i, where w_i ∝ Σ_j |⟨h_i, x_j⟩| is how much of x's neurons x_j the canonical
    direction h_i of x accounts for (Morcos, Raghu, Bengio 2018, section 2.2).

    Not symmetric: the weights are x's. NaN where one of the representations is constant. Raises ValueError as
    `canonical_correlations`.
    """
    _check_points(len(x), max(x.shape[-1], y.shape[-1]))
    x, y = _small(x, y)
    a, b = _basis(x), _basis(y)
    if not a.shape[1] or not b.shape[1]:
        return float("nan")
    u, rho, _ = torch.linalg.svd(a.T @ b, full_matrices=False)
    weight = ((a @ u).T @ x).abs().sum(1)
    return float((weight * rho.clamp(0.0, 1.0)).sum() / weight.sum())


def _small(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The centred columns of both in coordinates of the space that they span: at most p + q rows, and the same inner
    products."""
    x, y = centred_pair(x, y)
    both = torch.cat([x, y], 1)
    if len(both) > both.shape[1]:
        both = torch.linalg.qr(both, mode="r").R
    return both[:, : x.shape[1]], both[:, x.shape[1] :]


def _basis(x: Tensor) -> Tensor:
    """An orthonormal basis of the columns' span. They are brought to one length first: a quiet neuron counts too."""
    length = torch.linalg.vector_norm(x, dim=0)
    u, s, _ = torch.linalg.svd(x / length.masked_fill(length == 0, 1.0), full_matrices=False)
    return u[:, : _rank(s)]


def _rank(s: Tensor) -> int:
    return int((s > _RANK * s.max()).sum()) if len(s) else 0


def _correlations(a: Tensor, b: Tensor) -> Tensor:
    if not a.shape[1] or not b.shape[1]:
        return a.new_zeros(0)
    return torch.linalg.svdvals(a.T @ b).clamp(0.0, 1.0)


def _leading(values: Tensor, part: float) -> int:
    """How many of the leading values make up this part of the sum."""
    reached = values.cumsum(0) >= part * values.sum() * (1 - 1e-12)
    return int(reached.int().argmax()) + 1


def _check_points(n: int, directions: int, what: str = "neurons") -> None:
    if n < 2 * directions:
        raise InnerloopError(
            f"CCA of {directions} {what} needs {2 * directions} data points or more, got {n}: with fewer, any two "
            "representations look alike. Take more query images, pixels as data points, fewer neurons, svcca with a "
            "smaller keep, or CKA"
        )
