"""The last block: from the body's features to one logit a class."""

from typing import Literal

import torch
from torch import Tensor, nn


def features(x: Tensor, readout: Literal["mean", "flatten"]) -> Tensor:
    """[n, channels, h, w] -> [n, channels] by the spatial mean, or [n, channels·h·w]; [n, d] stays."""
    if x.ndim == 4 and readout == "mean":
        return x.mean((2, 3))
    return x.flatten(1)


class Linear(nn.Linear):
    """Spatial mean (or flatten) and a linear layer; Xavier-uniform weights, bias 0."""

    def __init__(self, inputs: int, outputs: int, *, readout: Literal["mean", "flatten"] = "flatten") -> None:
        self.readout: Literal["mean", "flatten"] = readout
        super().__init__(inputs, outputs)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew."""
        nn.init.xavier_uniform_(self.weight, generator=generator)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[n, …] -> [n, outputs]"""
        return super().forward(features(x, self.readout))
