"""Sinusoid regression (Finn, Abbeel, Levine, ICML 2017, section 5.1): a task is y = a · sin(x − φ)."""

import math
from dataclasses import dataclass

import torch

from innerloop.core.episodes import Episodes
from innerloop.data.dataset import Regression
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class Sinusoid:
    """Tasks with amplitude a ~ U[0.1, 5], phase φ ~ U[0, π] and inputs x ~ U[−5, 5]; no noise.

    The sign of the phase is as in the paper's code (the paper's text does not give it).
    """

    shot: int = 10
    query: int = 10
    amplitude: tuple[float, float] = (0.1, 5.0)
    phase: tuple[float, float] = (0.0, math.pi)
    x: tuple[float, float] = (-5.0, 5.0)

    def __post_init__(self) -> None:
        for name in ("shot", "query"):
            if getattr(self, name) < 1:
                raise InnerloopError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("amplitude", "phase", "x"):
            low, high = getattr(self, name)
            if not low <= high:
                raise InnerloopError(f"{name} must go from low to high, got {(low, high)}")

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` tasks: x and y are float32 [tasks, shot or query, 1], on the generator's device."""
        points = self.shot + self.query
        amplitude = _uniform(self.amplitude, (tasks, 1, 1), generator)
        phase = _uniform(self.phase, (tasks, 1, 1), generator)
        x = _uniform(self.x, (tasks, points, 1), generator)
        y = amplitude * torch.sin(x - phase)
        k = self.shot
        return Episodes(x[:, :k], y[:, :k], x[:, k:], y[:, k:])


def _uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    low, high = bounds
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low


SINUSOID = Regression("sinusoid", Sinusoid)
