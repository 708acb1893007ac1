"""MAML as plainly as it can be written: task after task, torch's own layers, autograd through the unrolled loop.

Imports nothing from innerloop. Slow and obvious; what the library computes must equal it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]
Net = Callable[[Weights, Tensor], Tensor]


def conv4(
    w: Weights, x: Tensor, *, pool: bool = False, mean: bool = True, statistics_of: Tensor | None = None
) -> Tensor:
    """The four-block net, in the order of the paper: conv, batch norm, ReLU, pool."""
    rows = 0 if statistics_of is None else len(statistics_of)
    if statistics_of is not None:
        x = torch.cat([statistics_of, x])
    for i in (1, 2, 3, 4):
        x = F.conv2d(x, w[f"conv{i}.conv.weight"], stride=1 if pool else 2, padding=1)
        gamma, beta = w[f"conv{i}.norm.weight"], w[f"conv{i}.norm.bias"]
        if rows:
            first = x[:rows]
            m = first.mean((0, 2, 3), keepdim=True)
            v = (first - m).pow(2).mean((0, 2, 3), keepdim=True)
            x = (x - m) / (v + 1e-3).sqrt() * gamma.view(1, -1, 1, 1) + beta.view(1, -1, 1, 1)
        else:
            x = F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-3)
        x = F.relu(x)
        if pool:
            x = F.max_pool2d(x, 2)
    x = x[rows:]
    x = x.mean((2, 3)) if mean else x.reshape(len(x), -1)
    return x @ w["head.weight"].T + w["head.bias"]


def mlp(w: Weights, x: Tensor) -> Tensor:
    """Two ReLU layers and a linear one."""
    x = x.reshape(len(x), -1)
    for i in (1, 2):
        x = F.relu(x @ w[f"hidden{i}.linear.weight"].T + w[f"hidden{i}.linear.bias"])
    return x @ w["head.weight"].T + w["head.bias"]


def stock(w: Weights, x: Tensor) -> Tensor:
    """What `small.stock_model` computes."""
    x = F.conv2d(x, w["first.weight"], w["first.bias"], stride=2, padding=1)
    x = torch.tanh(F.batch_norm(x, None, None, w["norm.weight"], w["norm.bias"], training=True))
    x = torch.tanh(F.conv2d(x, w["second.0.weight"], w["second.0.bias"]))
    return x.reshape(len(x), -1) @ w["head.weight"].T + w["head.bias"]


def nll(prediction: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, the mean over examples."""
    return -torch.stack([prediction[i].log_softmax(0)[int(y[i])] for i in range(len(y))]).mean()


def squares(prediction: Tensor, y: Tensor) -> Tensor:
    """Squared error, the mean over examples and outputs."""
    return ((prediction - y) ** 2).mean()


def adapt(
    net: Net,
    slow: Weights,
    adapted: Sequence[str],
    x: Tensor,
    y: Tensor,
    steps: int,
    rate: Callable[[str, int], float | Tensor],
    *,
    first_order: bool = False,
    loss: Callable[[Tensor, Tensor], Tensor] = nll,
) -> dict[str, Tensor]:
    """All weights of one task after `steps` gradient steps on the parameters named in `adapted`."""
    w = dict(slow)
    for step in range(steps):
        if not adapted:
            break
        value = loss(net(w, x), y)
        grads = torch.autograd.grad(value, [w[n] for n in adapted], create_graph=True)
        for n, g in zip(adapted, grads, strict=True):
            w[n] = w[n] - rate(n, step) * (g.detach() if first_order else g)
    return w


def meta_loss(
    net: Net,
    slow: Weights,
    adapted: Sequence[str],
    tasks: Iterable[tuple[Tensor, Tensor, Tensor, Tensor]],
    steps: int,
    rate: float | Callable[[str, int], float | Tensor],
    *,
    first_order: bool = False,
    loss: Callable[[Tensor, Tensor], Tensor] = nll,
) -> Tensor:
    """The mean over tasks of the query loss after adaptation; (support x, y, query x, y) a task."""
    at = rate if callable(rate) else lambda name, step: rate
    values = []
    for sx, sy, qx, qy in tasks:
        w = adapt(net, slow, adapted, sx, sy, steps, at, first_order=first_order, loss=loss)
        values.append(loss(net(w, qx), qy))
    return torch.stack(values).mean()
