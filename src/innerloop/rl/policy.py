"""A Gaussian policy as an `nn.Sequential` of named blocks: `hidden1 hidden2 head`, as for images.

The head gives the mean of the action and, beside it, the logarithm of its standard deviation, which does not depend on
the state. So one tensor [..., 2 × action] says all about the action's distribution, and the inner loop of
`innerloop.core.inner` adapts a policy as it adapts a classifier: MAML all blocks, ANIL the head.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.functional import Weights, blocks_of, forward, linear_of_tasks
from innerloop.validated import checked

Activation = Literal["relu", "tanh"]
LOWEST_LOG_STD = math.log(1e-6)
"""the standard deviation is at least this, as in the reference code"""
_LOG_TAU = math.log(2 * math.pi)


class Layer(nn.Module):
    """A linear layer and its activation; Xavier-uniform weights, bias 0."""

    def __init__(self, inputs: int, outputs: int, activation: Activation, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.activation: Activation = checked(Activation, activation, "activation")
        nn.init.xavier_uniform_(self.weight, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs] -> [n, outputs]"""
        return self._bend(F.linear(x, self.weight, self.bias))

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, inputs] -> [tasks, n, outputs], where weight and bias may have a task axis"""
        return self._bend(linear_of_tasks(x, self.weight, self.bias))

    def _bend(self, x: Tensor) -> Tensor:
        return torch.relu(x) if self.activation == "relu" else torch.tanh(x)


class GaussianHead(nn.Module):
    """The last layer: mean and log standard deviation of the action, side by side."""

    def __init__(self, inputs: int, actions: int, log_std: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(actions, inputs))
        self.bias = nn.Parameter(torch.zeros(actions))
        self.log_std = nn.Parameter(torch.full((actions,), log_std))
        nn.init.xavier_uniform_(self.weight, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs] -> [n, 2 × actions]"""
        mean = F.linear(x, self.weight, self.bias)
        return torch.cat([mean, self.log_std.clamp(min=LOWEST_LOG_STD).expand_as(mean)], -1)

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, inputs] -> [tasks, n, 2 × actions], where the parameters may have a task axis"""
        mean = linear_of_tasks(x, self.weight, self.bias)
        log_std = self.log_std.clamp(min=LOWEST_LOG_STD)
        return torch.cat([mean, (log_std if log_std.ndim == 1 else log_std.unsqueeze(1)).expand_as(mean)], -1)


def gaussian_policy(
    observation: int,
    action: int,
    *,
    hidden: Sequence[int] = (100, 100),
    activation: Activation = "relu",
    log_std: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """The policy of Finn et al. 2017, section 5.3: two layers of 100 ReLUs, standard deviation 1 at the start."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    width = observation
    for i, units in enumerate(hidden, start=1):
        blocks[f"hidden{i}"] = Layer(width, units, activation, generator)
        width = units
    blocks["head"] = GaussianHead(width, action, log_std, generator)
    return nn.Sequential(blocks)


def acting(
    policy: nn.Sequential, slow: Weights, fast: Mapping[str, Tensor]
) -> Callable[[Float[Tensor, "tasks rollouts observation"]], Float[Tensor, "tasks rollouts twice"]]:
    """`core.functional.forward` of these weights, to be called many times without a gradient.

    A step of all environments is a small call, of which `forward` spends more on its generality than on arithmetic.
    The layers of `gaussian_policy` are therefore called directly; any other model goes through `forward`.
    """
    blocks = blocks_of(policy)
    if not all(type(block) in (Layer, GaussianHead) for block in blocks.values()):
        return lambda x: forward(policy, slow, fast, x)
    layers: list[Callable[[Tensor], Tensor]] = []
    for name, block in blocks.items():
        own = {k: fast.get(f"{name}.{k}", slow[f"{name}.{k}"]).detach() for k, _ in block.named_parameters()}
        layers.append(_linear(own["weight"], own["bias"]))
        if isinstance(block, Layer):
            layers.append(torch.relu_ if block.activation == "relu" else torch.tanh_)
        else:
            log_std = own["log_std"].clamp(min=LOWEST_LOG_STD)
            layers.append(_beside(log_std if log_std.dim() == 1 else log_std[:, None]))

    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return run


def _linear(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    """[tasks, rollouts, inputs] -> [tasks, rollouts, outputs]; the weights are of all tasks, or have a task axis."""
    if weight.dim() == 2:
        shift = bias if bias.dim() == 1 else None
        return lambda x: F.linear(x, weight, shift) if shift is not None else F.linear(x, weight) + bias[:, None]
    turned, rows = weight.mT, bias if bias.dim() == 1 else bias[:, None]
    return lambda x: torch.baddbmm(rows, x, turned)


def _beside(log_std: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda mean: torch.cat([mean, log_std.expand_as(mean)], -1)


def split_output(output: Float[Tensor, "*n twice"]) -> tuple[Float[Tensor, "*n action"], Float[Tensor, "*n action"]]:
    """A policy's output as mean and log standard deviation."""
    mean, log_std = output.chunk(2, -1)
    return mean, log_std


def log_probability(output: Float[Tensor, "*n twice"], action: Float[Tensor, "*n action"]) -> Float[Tensor, "*n"]:
    """log π(action), summed over the coordinates of the action (nats)."""
    mean, log_std = split_output(output)
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * (z.square() + _LOG_TAU) - log_std).sum(-1)


def divergence(old: Float[Tensor, "*n twice"], new: Float[Tensor, "*n twice"]) -> Float[Tensor, "*n"]:
    """KL(old ‖ new) of two diagonal Gaussians, summed over the coordinates (nats)."""
    mean, log_std = split_output(old)
    other, other_log = split_output(new)
    spread = torch.exp(2 * (log_std - other_log)) + ((mean - other) * torch.exp(-other_log)).square()
    return (other_log - log_std + 0.5 * (spread - 1)).sum(-1)


def fisher_product(output: Float[Tensor, "*n twice"], v: Float[Tensor, "*n twice"]) -> Float[Tensor, "*n twice"]:
    """F v, F the Fisher information of the Gaussian in its mean and log std: 1 / σ² and 2, on the diagonal."""
    mean, log_std = split_output(v)
    _, own = split_output(output)
    return torch.cat([mean * torch.exp(-2 * own), 2 * log_std], -1)
