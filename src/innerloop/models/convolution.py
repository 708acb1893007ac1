"""Convolution whose derivatives of every order are again plain convolutions.

A convolution is bilinear in image and kernel, so three maps are closed under differentiation:

    y  = C(x, w)        gx = T(gy, w)        gw = G(x, gy)

and each derivative of each is one of the three. PyTorch's own double backward writes the derivative of G as a
convolution with an image-sized kernel, which the CPU libraries run slowly; here each is a call of the ordinary forward
or backward routine. On a CPU images are brought into channels-last memory, in which those routines and the pooling are
fastest. Where only one derivative will be taken, PyTorch's own convolution has less to do and is taken.
"""

from functools import partial

import torch
from torch import Tensor, nn

from innerloop.core.functional import one_derivative
from innerloop.models.function import call, each_task, eager, transformed

_conv = torch.convolution
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
        gx, gw = _gradients(gy, x, w, *ctx.geometry, *ctx.needs_input_grad[:2])
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


class _ConvolutionBackward(torch.autograd.Function):
    """gx = T(gy, w) and gw = G(x, gy), those that are asked for, in one call."""

    @staticmethod
    def forward(gy: Tensor, x: Tensor, w: Tensor, stride: int, padding: int, groups: int, need_x: bool, need_w: bool):
        args = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, [need_x, need_w, False])
        return _conv_backward(gy, x, w, None, *args)[:2]

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ARG004
        gy, x, w, *ctx.geometry = inputs[:6]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gy, x, w)

    @staticmethod
    def backward(ctx, vx: Tensor | None, vw: Tensor | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        gy, x, w = ctx.saved_tensors
        need_gy, need_x, need_w = ctx.needs_input_grad[:3]
        ggy = d_x = d_w = None
        if need_gy:  # C(vx, w) + C(x, vw)
            parts = [_convolve(a, b, *ctx.geometry) for a, b in ((vx, w), (x, vw)) if a is not None and b is not None]
            ggy = sum(parts[1:], parts[0]) if parts else None
        need_x, need_w = need_x and vw is not None, need_w and vx is not None
        if need_x or need_w:  # d_x = T(gy, vw), d_w = G(vx, gy); where one is not wanted, x or w only lends its shape
            d_x, d_w = _gradients(gy, x if vx is None else vx, w if vw is None else vw, *ctx.geometry, need_x, need_w)
        return ggy, d_x, d_w, None, None, None, None, None


_convolve = partial(call, _Convolution, eager(_Convolution))
_gradients = partial(call, _ConvolutionBackward, eager(_ConvolutionBackward))


def _channels_last(x: Tensor) -> Tensor:
    if x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    # one channel is in either layout at once; the routines go by its stride, and it must be 1 for all that follows
    return x.reshape(x.shape[0], *x.shape[2:], 1).movedim(3, 1)


def conv2d(x: Tensor, w: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolve images [n, in, h, w] with kernels [out, in, k, k]; differentiable to any order, and under `vmap`."""
    if not transformed():
        if x.device.type == "cpu":
            x = _channels_last(x)
        if one_derivative():
            return torch.conv2d(x, w, None, stride, padding)
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
        """Draw the weights again."""
        nn.init.xavier_uniform_(self.weight, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, filters, h', w']"""
        return self._convolve(x, self.weight, self.bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = conv2d(x, weight, stride=self.stride, padding=self.padding)
        return y if bias is None else y + bias[:, None, None]

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, channels, h, w] -> [tasks, n, filters, h', w'], where the weights may have a task axis"""
        if self.weight.ndim == 4 and (self.bias is None or self.bias.ndim == 1):  # the tasks are more images
            return self.forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return each_task(self._convolve, x, self.weight, self.bias, axes=(4, 1))

    def extra_repr(self) -> str:
        filters, channels, kernel, _ = self.weight.shape
        return f"{channels}, {filters}, kernel={kernel}, stride={self.stride}, padding={self.padding}"
