"""The two error bars, which are never mixed: ci95 over test episodes, seed_std over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class Estimate:
    """A mean over test episodes with its interval."""

    mean: float
    ci95: float
    """half width of the 95 % interval of the mean: 1.96 · sd / √episodes, sd with n − 1"""
    episodes: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.ci95:.4f} (ci95, {self.episodes} episodes)"


def over_episodes(values: Float[Tensor, " episodes"]) -> Estimate:
    """Mean and ci95 of one number per episode, of one trained model (normal approximation)."""
    n = values.numel()
    if values.ndim != 1 or n < 2:
        raise InnerloopError(
            f"an interval needs one number for each of 2 or more episodes, got shape {tuple(values.shape)}"
        )
    v = values.double()
    return Estimate(float(v.mean()), 1.96 * float(v.std(correction=1)) / math.sqrt(n), n)


def paired_difference(a: Float[Tensor, " episodes"], b: Float[Tensor, " episodes"]) -> Estimate:
    """Mean of a − b on the same episodes, with the ci95 of that difference."""
    if a.shape != b.shape:
        raise InnerloopError(f"paired values need the same episodes, got {tuple(a.shape)} and {tuple(b.shape)}")
    return over_episodes(a.double() - b.double())


@dataclass(frozen=True)
class Share:
    """How many of n, and Wilson's 95 % interval of their share (Wilson 1927), as if they were independent."""

    count: int
    n: int

    @property
    def value(self) -> float:
        """0 to 1"""
        return self.count / self.n

    @property
    def wilson95(self) -> tuple[float, float]:
        """Low and high, within 0..1."""
        p, n, z = self.value, self.n, 1.96
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


def seed_std(values: Sequence[float]) -> float:
    """Standard deviation over seeds (n − 1), the ± of Raghu et al. 2020."""
    n = len(values)
    if n < 2:
        raise InnerloopError(f"seed_std needs 2 or more seeds, got {n}")
    mean = math.fsum(values) / n
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
