"""The last block: from the body's features to one logit a class."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.functional import linear_of_tasks
from innerloop.validated import checked

Readout = Literal["mean", "flatten"]


def features(x: Tensor, readout: Readout) -> Tensor:
    """[n, channels, h, w] -> [n, channels] by the spatial mean, or [n, channels·h·w]; [n, d] stays."""
    if x.ndim == 4 and readout == "mean":
        return x.mean((2, 3))
    return x.flatten(1)


class Linear(nn.Linear):
    """Spatial mean (or flatten) and a linear layer; Xavier-uniform weights, bias 0."""

    def __init__(self, inputs: int, outputs: int, *, readout: Readout = "flatten") -> None:
        self.readout: Readout = checked(Readout, readout, "readout")
        super().__init__(inputs, outputs)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights again."""
        nn.init.xavier_uniform_(self.weight, generator=generator)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[n, …] -> [n, outputs]"""
        return super().forward(self.linear_features(x))

    def linear_features(self, x: Tensor) -> Tensor:
        """[n, …] -> [n, inputs]: what the linear layer is given (`innerloop.core.linear_head`)"""
        return features(x, self.readout)

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, …] -> [tasks, n, outputs], where weight and bias may have a task axis"""
        h = features(x.flatten(0, 1), self.readout).unflatten(0, x.shape[:2])
        return linear_of_tasks(h, self.weight, self.bias)


class CosineLinear(nn.Module):
    """Spatial mean (or flatten) and scaled cosines to one vector a class: the head of Baseline++ (Chen et al. 2019).

    Their scale is 2 with up to 200 training classes, 10 with more. Xavier-uniform weights, no bias.
    """

    def __init__(self, inputs: int, outputs: int, *, scale: float = 10.0, readout: Readout = "flatten") -> None:
        super().__init__()
        self.readout: Readout = checked(Readout, readout, "readout")
        self.in_features, self.out_features, self.scale = inputs, outputs, scale
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights again."""
        nn.init.xavier_uniform_(self.weight, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[n, …] -> [n, outputs], each between −scale and scale"""
        x = F.normalize(features(x, self.readout), dim=-1)
        return self.scale * F.linear(x, F.normalize(self.weight, dim=-1))


class PairHead(nn.Module):
    """Are two images of one class? A weighted L1 distance of their features (Koch et al. 2015, section 3.1).

    The logit is b − Σ_j w_j |f_j − g_j|. Koch's net has a layer of 4,096 sigmoids before it and no b; here the body's
    features come as they are. It begins at w_j = 1 / √features, b = 0.
    """

    def __init__(self, inputs: int, *, readout: Readout = "flatten") -> None:
        super().__init__()
        self.readout: Readout = checked(Readout, readout, "readout")
        self.in_features = inputs
        self.weight = nn.Parameter(torch.empty(inputs))
        self.bias = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:  # noqa: ARG002
        """Back to the beginning."""
        nn.init.constant_(self.weight, self.in_features**-0.5)
        nn.init.zeros_(self.bias)

    def forward(self, distance: Tensor) -> Tensor:
        """|f − g| [..., features] -> the logit of being of one class [...]"""
        return self.bias - distance @ self.weight


class FullContext(nn.Module):
    """Full-context embeddings of matching networks: Vinyals et al. 2016, section 2.1.2, appendices A.1 and A.2.

    Support features pass a bidirectional LSTM over the support set, with a skip; query features an LSTM with attention
    over the support, `reads` times, with a skip. The order of the support set therefore matters a little.
    """

    def __init__(self, inputs: int, *, reads: int = 5, readout: Readout = "flatten") -> None:
        super().__init__()
        self.readout: Readout = checked(Readout, readout, "readout")
        self.in_features, self.reads = inputs, reads
        self.forth = nn.LSTMCell(inputs, inputs)
        self.back = nn.LSTMCell(inputs, inputs)
        self.read = nn.LSTMCell(2 * inputs, inputs)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights again: uniform in ± 1 / √features, as PyTorch's LSTMs."""
        bound = self.in_features**-0.5
        for p in self.parameters():
            nn.init.uniform_(p, -bound, bound, generator=generator)

    def forward(self, query: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
        """[tasks, q, d], [tasks, s, d] -> both of the same shapes, each in the context of the whole support set"""
        tasks, n, d = support.shape
        found = [support[:, i] for i in range(n)]
        for cell, order in ((self.forth, range(n)), (self.back, range(n - 1, -1, -1))):
            h = c = support.new_zeros(tasks, d)
            for i in order:
                h, c = cell(support[:, i], (h, c))
                found[i] = found[i] + h
        g = torch.stack(found, 1)
        flat = query.flatten(0, 1)
        h = c = r = torch.zeros_like(flat)
        for _ in range(self.reads):
            h, c = self.read(torch.cat([flat, r], -1), (h, c))
            h = h + flat
            attention = torch.einsum("tqd,tsd->tqs", h.view_as(query), g).softmax(-1)
            r = torch.einsum("tqs,tsd->tqd", attention, g).flatten(0, 1)
        return h.view_as(query), g
