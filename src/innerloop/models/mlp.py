"""A multi-layer perceptron: `hidden1 hidden2 … head`."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from innerloop.models.conv4 import reset_parameters
from innerloop.models.head import Linear


class Hidden(nn.Module):
    """A linear layer and a ReLU; images are flattened first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[n, …] -> [n, outputs]"""
        return torch.relu(self.linear(x))

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, …] -> [tasks, n, outputs], where the weights may have a task axis"""
        return torch.relu(self.linear.forward_tasks(x))


def mlp(
    inputs: int, outputs: int, *, hidden: Sequence[int] = (40, 40), generator: torch.Generator | None = None
) -> nn.Sequential:
    """ReLU layers of the given widths, then a linear head. 40-40 is the sinusoid's net (Finn et al. 2017, section 5.1).

    Weights are drawn from `generator` (Xavier, bias 0).
    """
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    width = inputs
    for i, units in enumerate(hidden, start=1):
        blocks[f"hidden{i}"] = Hidden(width, units)
        width = units
    blocks["head"] = Linear(width, outputs)
    model = nn.Sequential(blocks)
    reset_parameters(model, generator)
    return model
