"""Convolution whose derivatives of every order are again plain convolutions.

A convolution is bilinear in image and kernel, so three maps are closed under differentiation:

    y  = C(x, w)        gx = T(gy, w)        gw = G(x, gy)

and each derivative of each is one of the three. PyTorch's own double backward writes the derivative of G as a
convolution with an image-sized kernel, which the CPU libraries run slowly; here each is a call of the ordinary forward,
input-gradient or weight-gradient routine. Images stay in channels-last memory, in which those routines are fastest.
"""

from functools import partial

import torch
from torch import Tensor, nn

from innerloop.models.function import call, eager

_conv = torch.ops.aten.convolution.default
_conv_backward = torch.ops.aten.convolution_backward.default


class _Convolution(torch.autograd.Function):
    """y = C(x, w)"""

    @staticmethod
    def forward(x: Tensor, w: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        return _conv(x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ARG004
        x, w, *ctx.geometry = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx, gy: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w = ctx.saved_tensors
        gx = _input_gradient(gy, w, x.shape, *ctx.geometry) if ctx.needs_input_grad[0] else None
        gw = _weight_gradient(x, gy, w.shape, *ctx.geometry) if ctx.needs_input_grad[1] else None
        return gx, gw, None, None, None

    @staticmethod
    def vmap(info, in_dims, x: Tensor, w: Tensor, stride: int, padding: int, groups: int):  # pyright: ignore[reportIncompatibleMethodOverride]
        tasks = info.batch_size
        x = x.movedim(in_dims[0], 0) if in_dims[0] is not None else x.expand(tasks, *x.shape)
        if in_dims[1] is None:  # the kernel is shared: the tasks are more images
            y = _convolve(x.flatten(0, 1), w, stride, padding, groups)
            return y.unflatten(0, (tasks, -1)), 0
        w = w.movedim(in_dims[1], 0)
        if not x.is_cuda:
            return torch.stack([_convolve(x[t], w[t], stride, padding, groups) for t in range(tasks)]), 0
        y = _convolve(x.transpose(0, 1).flatten(1, 2), w.flatten(0, 1), stride, padding, groups * tasks)
        return y.unflatten(1, (tasks, -1)), 1


class _InputGradient(torch.autograd.Function):
    """gx = T(gy, w)"""

    @staticmethod
    def forward(gy: Tensor, w: Tensor, x_shape, stride: int, padding: int, groups: int) -> Tensor:
        like = w.new_empty((1,)).expand(x_shape)  # only its shape is read
        mask = [True, False, False]
        args = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, mask)
        return _conv_backward(gy, like, w, None, *args)[0]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ARG004
        gy, w, _, *ctx.geometry = inputs
        ctx.save_for_backward(gy, w)

    @staticmethod
    def backward(ctx, v: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        gy, w = ctx.saved_tensors
        ggy = _convolve(v, w, *ctx.geometry) if ctx.needs_input_grad[0] else None
        gw = _weight_gradient(v, gy, w.shape, *ctx.geometry) if ctx.needs_input_grad[1] else None
        return ggy, gw, None, None, None, None


class _WeightGradient(torch.autograd.Function):
    """gw = G(x, gy)"""

    @staticmethod
    def forward(x: Tensor, gy: Tensor, w_shape, stride: int, padding: int, groups: int) -> Tensor:
        like = x.new_empty((1,)).expand(w_shape)  # only its shape is read
        mask = [False, True, False]
        args = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, mask)
        return _conv_backward(gy, x, like, None, *args)[1]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ARG004
        x, gy, _, *ctx.geometry = inputs
        ctx.save_for_backward(x, gy)

    @staticmethod
    def backward(ctx, v: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gy = ctx.saved_tensors
        gx = _input_gradient(gy, v, x.shape, *ctx.geometry) if ctx.needs_input_grad[0] else None
        ggy = _convolve(x, v, *ctx.geometry) if ctx.needs_input_grad[1] else None
        return gx, ggy, None, None, None, None


_convolve = partial(call, _Convolution, eager(_Convolution))
_input_gradient = partial(call, _InputGradient, eager(_InputGradient))
_weight_gradient = partial(call, _WeightGradient, eager(_WeightGradient))


def conv2d(x: Tensor, w: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolve images [n, in, h, w] with kernels [out, in, k, k]; differentiable to any order, and under `vmap`."""
    return _convolve(x, w, stride, padding, 1)


class Conv2d(nn.Module):
    """A 2-d convolution with square kernels; initialised as Glorot & Bengio 2010 (Xavier, uniform), bias 0."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(filters, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(filters)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights anew."""
        nn.init.xavier_uniform_(self.weight, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, filters, h', w']"""
        y = conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return y if self.bias is None else y + self.bias[:, None, None]

    def extra_repr(self) -> str:
        filters, channels, kernel, _ = self.weight.shape
        return f"{channels}, {filters}, kernel={kernel}, stride={self.stride}, padding={self.padding}"
