"""Batch normalisation by the statistics of the batch at hand, with a cheap double backward and no running statistics.

With x̂ = (x − μ) r, r = (σ² + ε)^(−1/2), the Jacobian J(g) = r (g − mean(g) − x̂ mean(g x̂)) is symmetric (means over the
examples and the pixels of a channel). For a cotangent v of the input gradient J(g), with a = mean(g x̂), b = mean(v x̂),
c = mean(v g) − mean(v) mean(g), the second derivative is

    ∂⟨v, J g⟩/∂g = J v        ∂⟨v, J g⟩/∂x = −r² [(c − 3ab) x̂ + a (v − mean(v)) + b (g − mean(g))]

so that a double backward costs four channel sums and two passes, where PyTorch's composes some twenty.
"""

from functools import partial

import torch
from torch import Tensor, nn

from innerloop.core.functional import one_derivative
from innerloop.models.function import call, each_task, eager, transformed

_DIMS = (0, 2, 3)
_norm = torch.native_batch_norm
_norm_backward = torch.ops.aten.native_batch_norm_backward.default


class _BatchNorm(torch.autograd.Function):
    """y = γ x̂ + β; also gives μ and r, which are not differentiable."""

    @staticmethod
    def forward(x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float):
        return _norm(x, gamma, beta, None, None, True, 0.0, eps)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, gamma, _, ctx.eps = inputs
        _, mean, r = output
        ctx.mark_non_differentiable(mean, r)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, gamma, mean, r)

    @staticmethod
    def backward(ctx, gy: Tensor | None, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        if gy is None:
            return None, None, None, None
        x, gamma, mean, r = ctx.saved_tensors
        gx, g_gamma, g_beta = _normalise_backward(gy, x, gamma, mean, r, ctx.eps)
        return (
            gx,
            g_gamma if ctx.needs_input_grad[1] else None,
            g_beta if ctx.needs_input_grad[2] else None,
            None,
        )

    @staticmethod
    def vmap(  # pyright: ignore[reportIncompatibleMethodOverride]
        info, in_dims, x: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
    ):
        tasks = info.batch_size
        x = x.movedim(in_dims[0], 0) if in_dims[0] is not None else x.expand(tasks, *x.shape)
        each = [
            None if p is None else p.expand(tasks, *p.shape) if d is None else p.movedim(d, 0)
            for p, d in zip((gamma, beta), in_dims[1:3], strict=True)
        ]
        if not x.is_cuda:
            outs = [_normalise(x[t], *(None if p is None else p[t] for p in each), eps) for t in range(tasks)]
            return tuple(torch.stack(o) for o in zip(*outs, strict=True)), (0, 0, 0)
        # every (task, channel) pair is a channel with statistics of its own
        wide = x.transpose(0, 1).flatten(1, 2)
        y, mean, r = _normalise(wide, *(None if p is None else p.flatten() for p in each), eps)
        return (y.unflatten(1, (tasks, -1)), mean.view(tasks, -1), r.view(tasks, -1)), (1, 0, 0)


class _BatchNormBackward(torch.autograd.Function):
    """(gy, x) -> γ J(gy), Σ gy x̂, Σ gy"""

    @staticmethod
    def forward(gy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, r: Tensor, eps: float):
        layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        gy = gy.contiguous(memory_format=layout)
        gx, g_gamma, g_beta = _norm_backward(gy, x, gamma, None, None, mean, r, True, eps, [True, True, True])
        if gamma is None:
            g_gamma, g_beta = r.new_empty(0), r.new_empty(0)
        return gx, g_gamma, g_beta

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        gy, x, gamma, mean, r, ctx.eps = inputs
        if gamma is None:
            ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gy, x, gamma, mean, r)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v, v_gamma, v_beta):  # pyright: ignore[reportIncompatibleMethodOverride]
        gy, x, gamma, mean, r = ctx.saved_tensors
        m = x.numel() // x.shape[1]
        wide = (1, -1, 1, 1)
        d_gy = d_x = d_gamma = None
        xhat = (x - mean.view(wide)) * r.view(wide)
        if v is None:
            v = torch.zeros_like(x)
        g = gy
        # sums over examples and pixels; the three means of v come with J v itself
        need = [True, True, True]
        jv, sum_vx, sum_v = _norm_backward(
            v.contiguous(memory_format=_layout(x)),
            x,
            r.new_ones(r.shape),
            None,
            None,
            mean,
            r,
            True,
            ctx.eps,
            need,
        )
        b, v_mean = sum_vx / m, sum_v / m
        a = (g * xhat).sum(_DIMS) / m
        g_mean = g.sum(_DIMS) / m
        vg = (v * g).sum(_DIMS) / m
        scale = r.new_ones(r.shape) if gamma is None else gamma
        c = vg - v_mean * g_mean
        if ctx.needs_input_grad[0]:
            d_gy = jv * scale.view(wide) if gamma is not None else jv
            if v_gamma is not None:
                d_gy = d_gy + v_gamma.view(wide) * xhat
            if v_beta is not None:
                d_gy = d_gy + v_beta.view(wide)
        if ctx.needs_input_grad[1]:
            k = -r.square() * scale
            pull_g = k * b
            pull_x = k * (c - 3 * a * b)
            shift = -(k * a * v_mean) - pull_g * g_mean
            if v_gamma is not None:  # + v_γ J g
                pull_g = pull_g + v_gamma * r
                pull_x = pull_x - v_gamma * r * a
                shift = shift - v_gamma * r * g_mean
            d_x = torch.addcmul(shift.view(wide), v, (k * a).view(wide))
            d_x.addcmul_(g, pull_g.view(wide)).addcmul_(xhat, pull_x.view(wide))
        if gamma is not None and ctx.needs_input_grad[2]:
            d_gamma = m * r * (c - a * b)
        return d_gy, d_x, d_gamma, None, None, None


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


_normalise = partial(call, _BatchNorm, eager(_BatchNorm))
_normalise_backward = partial(call, _BatchNormBackward, eager(_BatchNormBackward))


def batch_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalise [n, channels, h, w] by its own mean and (biased) variance; differentiable twice, and under `vmap`."""
    if one_derivative() and not transformed():  # PyTorch's own has the cheaper call
        return torch.batch_norm(x, gamma, beta, None, None, True, 0.0, eps, False)
    return _normalise(x, gamma, beta, eps)[0]


class BatchNorm2d(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation that keeps no running statistics: a pure function of the images it is given.

    The statistics come from all the images at hand (each task's support or query set: transductive) unless
    `innerloop.core.functional.forward` is given others. ε is 1e-3, as in the reference code of MAML; `affine` adds the
    learned scale γ and shift β.
    """

    def __init__(self, channels: int, *, eps: float = 1e-3, affine: bool = True) -> None:
        super().__init__(channels, eps=eps, affine=affine, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[n, channels, h, w] -> the same shape"""
        return batch_norm(x, self.weight, self.bias, self.eps)

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, channels, h, w] -> the same shape, each task by itself; γ and β may have a task axis"""
        return each_task(partial(batch_norm, eps=self.eps), x, self.weight, self.bias, axes=(1, 1))
