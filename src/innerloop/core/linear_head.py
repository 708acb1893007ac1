"""The inner loop on a linear head alone (ANIL's) by hand, through the Gram matrix of the support features.

With features X [n, d], logits Z_m = X W_mᵀ + 1 b_mᵀ and D_m = ∂L/∂Z_m, a step is W ← W − α D_mᵀ X, b ← b − α D_mᵀ 1. So
the logits after m steps, and with them the whole path, are

    Z_m = Z_0 − K U_m,    U_m = Σ_{l<m} α_l D_l,    K = X Xᵀ + 1 1ᵀ

and W_m = W_0 − U_mᵀ X, b_m = b_0 − U_mᵀ 1: a step is one product with an n×n matrix, whatever the number of features.
Where each parameter has a rate of its own, a [d] for the weights of a class and β for its bias, each class has a matrix
of its own, X diag(a) Xᵀ + β 1 1ᵀ. D is (softmax Z − Y) / n for cross-entropy, 2 (Z − Y) / (n·out) for squared error.

The derivative of U by Z_0, K and α runs the steps backwards. With Ū what arrives at U_{m+1}, and H the derivative of D
by Z (diag p − p pᵀ in each row for cross-entropy, 1 for squared error),

    Z̄_m = H (α_m Ū),    ᾱ_m = ⟨Ū, D_m⟩,    Ū ← Ū − Kᵀ Z̄_m,    Z̄_0 = Σ Z̄_m,    K̄ = − Σ Z̄_m U_mᵀ

Autograd does the rest: how Z_0, K and W_m depend on features, weights and rates, and derivatives of higher order.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from innerloop.core.functional import Weights, blocks_of, one_bias_each, stands_for_forward
from innerloop.core.losses import Loss, check_labels, cross_entropy, mean_squared_error


class LinearHead(Protocol):
    """A head that is F.linear(linear_features(x), weight, bias), and has no further parameters (the bias may be None).

    One whose bias is not one number per class goes the general way.

    A subclass with a `forward` of its own has to define `linear_features` again: without, it is not such a head.
    """

    def linear_features(self, x: Tensor) -> Tensor:
        """[n, …] -> [n, features], each example by itself; `x` is not changed."""
        ...


def linear_head_path(
    rest: nn.Sequential,
    start: Weights,
    h: Float[Tensor, "tasks support *shape"],
    y: Tensor,
    loss: Loss,
    *,
    steps: int,
    lr: float,
    rates: Weights,
    first_order: bool,
    each_step: bool,
) -> Iterator[dict[str, Tensor]] | None:
    """The fast weights after each inner step (or after the last alone); None where the general loop must find them.

    `rest` are the blocks from the first adapted one on: it has to be a linear head alone (`LinearHead`, or an
    `nn.Linear`), the loss `cross_entropy` or `mean_squared_error`, in float32 or float64. `start` are the weights to
    begin with, all that adapt, [tasks, *parameter] or the shared [*parameter]. Differentiable as the general loop is.
    """
    (name, head), *others = blocks_of(rest).items()
    read, names = _reader(head), (f"{name}.weight", f"{name}.bias")
    if others or read is None or tuple(start) not in (names, names[:1]) or not one_bias_each(head):
        return None
    split = _split(rates, name, start, steps, lr)
    if split is None or not _plain(h, *start.values(), *(r for r in split if isinstance(r, Tensor))):
        return None
    w, b, (of_weight, of_bias, of_step) = start[names[0]], start.get(names[1]), split
    x = read(h.flatten(0, 1)).unflatten(0, h.shape[:2])
    way, features = w.shape[-2:]
    if x.ndim != 3 or x.shape[-1] != features or not _fits(of_weight, w):
        return None
    if b is not None and (b.shape[-1] != way or not _fits(of_bias, b)):
        return None
    n, classes = x.shape[1], way if isinstance(of_weight, Tensor) or isinstance(of_bias, Tensor) else 1
    if n * (classes * features + 2 * steps * way) > 32 * steps * way * features:
        return None  # the Gram matrices and their products would take longer than the steps

    z = x @ w.mT if b is None else x @ w.mT + b.unsqueeze(-2)
    if loss is cross_entropy:
        check_labels(z, y)
        scale, labels = 1 / n, F.one_hot(y, way).to(z.dtype)
    elif loss is mean_squared_error and y.shape == z.shape and y.dtype == z.dtype:
        scale, labels, z = 2 / (n * way), None, z - y
    else:
        return None
    of_weight, of_bias = scale * of_weight, scale * of_bias
    k = _gram(x, of_weight, 0.0 if b is None else of_bias)
    if torch.is_grad_enabled() and not first_order:
        sums = _Sums.apply(z, k, of_step, labels, steps, each_step)
    else:
        sums = _asked(_descend(z.detach(), k.detach(), of_step, labels, steps, first_order=True)[0], each_step)

    def after(u: Tensor) -> dict[str, Tensor]:
        fast = {names[0]: w - of_weight * (u.mT @ x)}
        return fast if b is None else {**fast, names[1]: b - of_bias * u.sum(1)}

    return (after(u) for u in sums)


def _reader(head: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """How `head` makes features of what it is given, if it is a linear layer on them and nothing else."""
    if stands_for_forward(head, "linear_features"):
        return head.linear_features  # pyright: ignore[reportReturnType]
    return (lambda x: x) if type(head) is nn.Linear and stands_for_forward(head, "forward") else None


def _split(
    rates: Weights, block: str, start: Weights, steps: int, lr: float
) -> tuple[float | Tensor, float | Tensor, Tensor | None] | None:
    """The rates of weight and bias, each one number or one a parameter, and what multiplies both: one number per step.

    None where the two do not change from step to step alike.
    """
    own, series = {n: rates[n] for n in start if n in rates}, rates.get(block)
    if series is None or len(own) == len(start):
        of_weight, of_bias = (own.get(f"{block}.{leaf}", lr) for leaf in ("weight", "bias"))
        return of_weight, of_bias, None
    if own:
        return None
    rows = [min(step, len(series) - 1) for step in range(steps)] if series.ndim else None
    return 1.0, 1.0, series.expand(steps) if rows is None else series[rows]


def _fits(rate: float | Tensor, w: Tensor) -> bool:
    return not isinstance(rate, Tensor) or rate.shape == w.shape[-rate.ndim :]


def _plain(*tensors: Tensor) -> bool:
    """Whether products of these are what the general loop computes, to rounding."""
    x = tensors[0]
    return (
        x.dtype in (torch.float32, torch.float64)
        and all((t.dtype, t.device) == (x.dtype, x.device) for t in tensors)
        and not torch.is_autocast_enabled(x.device.type)
        and forward_ad._current_level < 0  # `_Sums` has no rule for forward derivatives
    )


def _gram(x: Tensor, of_weight: float | Tensor, of_bias: float | Tensor) -> Tensor:
    """X diag(a) Xᵀ + β 1 1ᵀ [tasks, n, n], or [tasks, classes, n, n] where a rate is one a parameter."""
    if not isinstance(of_weight, Tensor) and not isinstance(of_bias, Tensor):
        return torch.baddbmm(x.new_full((1, 1, 1), of_bias), x, x.mT, alpha=of_weight)
    a = of_weight.unsqueeze(-2) if isinstance(of_weight, Tensor) else of_weight
    beta = of_bias[:, None, None] if isinstance(of_bias, Tensor) else of_bias
    return (x.unsqueeze(1) * a) @ x.mT.unsqueeze(1) + beta


def _times(k: Tensor, u: Tensor) -> Tensor:
    """K U [tasks, n, classes], with one matrix for all classes or one each."""
    return k @ u if k.ndim == 3 else (k @ u.mT.unsqueeze(-1)).squeeze(-1).mT


def _descend(
    z: Tensor, k: Tensor, of_step: Tensor | None, labels: Tensor | None, steps: int, *, first_order: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """U_0, …, U_steps, and the outputs (softmax Z for classes, Z for numbers) at the first to the last step."""
    sums, outputs = [torch.zeros_like(z)], []
    for step in range(steps):
        u = sums[-1].detach() if first_order else sums[-1]
        now = z - _times(k, u) if step else z
        outputs.append(now if labels is None else now.softmax(-1))
        d = outputs[-1] if labels is None else outputs[-1] - labels
        sums.append(sums[-1] + (d if of_step is None else of_step[step] * d))
    return sums, outputs


def _asked(sums: list[Tensor], each_step: bool) -> Tensor:
    return torch.stack(sums[1:] if each_step else sums[-1:])


class _Sums(torch.autograd.Function):
    """(Z_0, K, α) -> U after each step, or after the last alone: [steps, tasks, n, classes]."""

    @staticmethod
    def forward(
        ctx, z: Tensor, k: Tensor, of_step: Tensor | None, labels: Tensor | None, steps: int, each_step: bool
    ) -> Tensor:
        sums, outputs = _descend(z, k, of_step, labels, steps)
        ctx.save_for_backward(z, k, of_step, labels, torch.stack(sums[:-1]), torch.stack(outputs))
        ctx.each_step = each_step
        return _asked(sums, each_step)

    @staticmethod
    def backward(ctx, g: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        z, k, of_step, labels, sums, outputs = ctx.saved_tensors
        need, steps = ctx.needs_input_grad[:3], len(outputs)
        if torch.is_grad_enabled():  # to be differentiated again: by autograd
            z, k, of_step = z.view_as(z), k.view_as(k), None if of_step is None else of_step.view_as(of_step)
            again = _asked(_descend(z, k, of_step, labels, steps)[0], ctx.each_step)
            wanted = [t for t, needed in zip((z, k, of_step), need, strict=True) if needed and t is not None]
            found = iter(torch.autograd.grad(again, wanted, g, create_graph=True, materialize_grads=True))
            return *(next(found) if needed else None for needed in need), None, None, None
        back, of_z, of_rates = g[-1], [], []
        for step in reversed(range(steps)):
            if need[2]:
                of_rates.append((back * (outputs[step] if labels is None else outputs[step] - labels)).sum())
            v = back if of_step is None else of_step[step] * back
            if labels is not None:
                v = torch.ops.aten._softmax_backward_data.default(v, outputs[step], -1, v.dtype)
            of_z.append(v)
            if step:
                back = back - _times(k.mT, v)
                back = back + g[step - 1] if ctx.each_step else back
        of_z = torch.stack(of_z[::-1])
        to = "tij" if k.ndim == 3 else "tcij"
        of_k = -torch.einsum(f"mtic,mtjc->{to}", of_z, sums) if need[1] else None
        return of_z.sum(0), of_k, torch.stack(of_rates[::-1]) if need[2] else None, None, None, None
