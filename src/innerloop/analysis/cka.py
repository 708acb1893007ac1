"""Centred kernel alignment: how alike the similarity structures of two representations are (Kornblith et al. 2019).

Data points are rows, neurons columns, and all is computed in float64.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InnerloopError


def linear_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, unbiased: bool = False) -> float:
    """Linear CKA ‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖) of column-centred X and Y (Kornblith et al. 2019, equation 5).

    Rows are the same data points in both. 0 to 1; unchanged by rotation and isotropic scaling of either. NaN where a
    representation is constant over the data points: there is nothing to compare.

    With few data points and many neurons this is near 1 for unrelated representations. `unbiased` puts the estimator
    HSIC₁ (Song et al. 2012, equation 5; for CKA: Nguyen, Raghu, Kornblith 2021, section 2) in the place of each norm:
    about 0 for unrelated representations, perhaps a little below. ValueError with fewer than 4 data points then.
    """
    x, y = centred_pair(x, y)
    if unbiased:
        _check_unbiased(len(x))
    own_x, own_y = _linear_hsic(x, x, unbiased), _linear_hsic(y, y, unbiased)
    return _ratio(_linear_hsic(x, y, unbiased), own_x, own_y)


def rbf_cka(
    x: Float[Tensor, "n p"], y: Float[Tensor, "n q"], *, bandwidth: float = 1.0, unbiased: bool = False
) -> float:
    """CKA with the kernel exp(−‖x_i − x_j‖² / 2σ²), where σ is `bandwidth` times the median distance of two different
    data points of the same representation (Kornblith et al. 2019, section 4, who compare 0.2, 0.4 and 0.8).

    0 to 1; unchanged by rotation and isotropic scaling of either. NaN where half of the distances are 0 (a constant
    representation, for one): the kernel has no width. `unbiased` as for `linear_cka`. Holds n × n matrices: a few
    thousand data points at most. ValueError if the bandwidth is not above 0.
    """
    if not bandwidth > 0:
        raise InnerloopError(f"bandwidth is a part of the median distance, above 0; got {bandwidth}")
    x, y = centred_pair(x, y)
    if unbiased:
        _check_unbiased(len(x))
    k, m = _rbf_kernel(x, bandwidth), _rbf_kernel(y, bandwidth)
    if k is None or m is None:
        return float("nan")
    hsic = _hsic_unbiased if unbiased else _hsic
    return _ratio(hsic(k, m), hsic(k, k), hsic(m, m))


def centred_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 with the mean of each column taken off; columns that are constant become exactly 0.

    Raises ValueError where they are not two matrices with a row for each data point.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise InnerloopError(f"x and y need one row for each data point, got {tuple(x.shape)} and {tuple(y.shape)}")
    return _centred(x), _centred(y)


def _centred(x: Tensor) -> Tensor:
    if not x.numel():
        return x.double()
    z = x.double()
    mean = z.mean(0)
    z = z - mean
    # what a constant column leaves behind is rounding: of the mean, or of the activations themselves
    rounding = (1e-14 if x.dtype == torch.float64 else 1e-6) * mean.abs()
    return z.masked_fill_(z.abs().amax(0) <= rounding, 0.0)


def _linear_hsic(x: Tensor, y: Tensor, unbiased: bool) -> Tensor:
    """HSIC of the kernels X Xᵀ and Y Yᵀ for centred X and Y, without the constants that the ratio takes away."""
    n, p, q = len(x), x.shape[1], y.shape[1]
    few = p * q > n * (p + q)  # many more neurons than data points: the n × n matrices are the smaller ones
    cross = ((x @ x.T) * (y @ y.T)).sum() if few else (y.T @ x).square().sum()
    if not unbiased:
        return cross
    # The rows of a centred Gram matrix sum to 0, so without its diagonal d they sum to −d.
    d, e = x.square().sum(1), y.square().sum(1)
    return _hsic1(cross - d @ e, d.sum() * e.sum(), d @ e, n)


def _rbf_kernel(x: Tensor, bandwidth: float) -> Tensor | None:
    gram = x @ x.T
    norm = gram.diagonal()
    squared = (norm[:, None] + norm - 2 * gram).clamp_min(0.0)
    squared.fill_diagonal_(0.0)
    n = len(x)
    if n < 2:
        return None
    others = squared[*torch.triu_indices(n, n, 1, device=x.device)]
    median = others.median()
    if float(median) <= 1e-12 * float(norm.max()):
        return None
    return torch.exp(squared / (-2 * bandwidth**2 * median))


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    """tr(K H M H), without the constant that the ratio takes away."""
    return ((k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()) * m).sum()


def _hsic_unbiased(k: Tensor, m: Tensor) -> Tensor:
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    return _hsic1((k * m).sum(), k.sum() * m.sum(), k.sum(0) @ m.sum(0), len(k))


def _hsic1(trace: Tensor, sums: Tensor, rows: Tensor, n: int) -> Tensor:
    """HSIC₁, Song et al. 2012, equation 5, without its factor 1 / (n (n − 3)): `trace` is tr(K M), `sums` the product
    of both sums, `rows` 1ᵀ K M 1, of kernels without their diagonals."""
    value = trace + sums / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)
    return value.masked_fill(value.abs() <= 1e-13 * (trace.abs() + rows.abs()), 0.0)  # what rounding left of nothing


def _ratio(cross: Tensor, own_x: Tensor, own_y: Tensor) -> float:
    """NaN where one of them has no structure of its own."""
    a, b = float(own_x), float(own_y)
    return float(cross) / (a**0.5 * b**0.5) if a > 0 and b > 0 else float("nan")


def _check_unbiased(n: int) -> None:
    if n < 4:
        raise InnerloopError(f"the unbiased estimator needs 4 data points or more, got {n}")
