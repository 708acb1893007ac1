"""conv2d and batch_norm against torch's own, in value and in first and second derivatives, alone and under vmap."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.random import generator_for
from innerloop.models import BatchNorm2d, Conv2d
from innerloop.models.convolution import conv2d
from innerloop.models.normalisation import batch_norm
from planting import plants

GEOMETRIES = [  # pixels, kernel, stride, padding
    (6, 3, 1, 1),
    (7, 3, 2, 1),
    (6, 3, 2, 1),
    (7, 3, 2, 0),
    (5, 1, 1, 0),
    (8, 2, 3, 1),
]


def doubled(i: int) -> Callable[[partial], partial]:
    """Of a kernel in both its forms, the i-th of the gradients of its backward pass twice as large."""

    def twice(gradients: tuple) -> tuple:
        return tuple(2 * g if j == i and g is not None else g for j, g in enumerate(gradients))

    def wrong(kernel: partial) -> partial:
        for function in kernel.args[:2]:
            function.backward = staticmethod(lambda ctx, *v, right=function.backward: twice(right(ctx, *v)))
        return kernel

    return wrong


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator_for(seed, *shape), dtype=torch.float64)


def layout(x: Tensor, channels_last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def derivatives(f, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """f, its gradients in a random direction, and the gradients of a random sum of those."""
    inputs = tuple(t.detach().requires_grad_() for t in inputs)
    y = f(*inputs)
    first = torch.autograd.grad(y, inputs, draw(*y.shape, seed=1), create_graph=True)
    mixed = sum((g * draw(*g.shape, seed=2)).sum() for g in first)
    second = torch.autograd.grad(mixed, inputs, allow_unused=True)
    return [
        y,
        *first,
        *(torch.zeros_like(t) if g is None else g for g, t in zip(second, inputs, strict=True)),
    ]


def check(f, g, inputs: tuple[Tensor, ...]) -> None:
    for i, (a, b) in enumerate(zip(derivatives(f, inputs), derivatives(g, inputs), strict=True)):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8, msg=lambda m, i=i: f"{i}: {m}")


@pytest.fixture(params=["host", "device"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the vmap rules: one call a task, and all tasks in one grouped call, as on a GPU."""
    if request.param == "device":
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda t: True), raising=False)
    return request.param


@plants("the convolution's second derivative by its input twice", "models.convolution:_gradients", doubled(1))
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolution_equals_torch(geometry: tuple[int, int, int, int], channels_last: bool) -> None:
    """Catches: stride or padding lost in a derivative, image and kernel exchanged, an odd pixel lost."""
    pixels, kernel, stride, padding = geometry
    inputs = (layout(draw(2, 3, pixels, pixels), channels_last), draw(4, 3, kernel, kernel))
    check(
        lambda x, w: conv2d(x, w, stride=stride, padding=padding),
        lambda x, w: F.conv2d(x, w, stride=stride, padding=padding),
        inputs,
    )


@pytest.mark.parametrize("geometry", [(4, 3, 1, 1), (5, 3, 2, 1), (4, 3, 2, 1)])
def test_convolution_by_finite_differences(geometry: tuple[int, int, int, int]) -> None:
    pixels, kernel, stride, padding = geometry
    inputs = (draw(2, 1, pixels, pixels).requires_grad_(), draw(2, 1, kernel, kernel).requires_grad_())

    def f(x: Tensor, w: Tensor) -> Tensor:
        return conv2d(x, w, stride=stride, padding=padding)

    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


def test_convolution_has_a_third_derivative() -> None:
    """The three maps are closed under differentiation."""
    x, w = draw(1, 1, 4, 4).requires_grad_(), draw(1, 1, 3, 3).requires_grad_()

    def third(conv) -> tuple[Tensor, ...]:
        y = conv(x, w, stride=2, padding=1).pow(3).sum()
        for _ in range(2):
            gx, gw = torch.autograd.grad(y, (x, w), create_graph=True)
            y = gx.pow(2).sum() + gw.pow(2).sum()
        return torch.autograd.grad(y, (x, w))

    for a, b in zip(third(conv2d), third(F.conv2d), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0), (1, 2)])
@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_convolution_under_vmap(path: str, geometry: tuple[int, int, int, int], dims: tuple) -> None:
    """Per-task or shared images and kernels = one call a task, with both derivatives."""
    pixels, kernel, stride, padding = geometry
    x, w = draw(3, 2, 2, pixels, pixels), draw(3, 4, 2, kernel, kernel)
    x = x[0] if dims[0] is None else x.movedim(0, dims[0])
    w = w[0] if dims[1] is None else w.movedim(0, dims[1])

    def one(x: Tensor, w: Tensor) -> Tensor:
        return conv2d(x, w, stride=stride, padding=padding)

    def loop(x: Tensor, w: Tensor) -> Tensor:
        xs = [x] * 3 if dims[0] is None else x.unbind(dims[0])
        ws = [w] * 3 if dims[1] is None else w.unbind(dims[1])
        return torch.stack([F.conv2d(a, b, stride=stride, padding=padding) for a, b in zip(xs, ws, strict=True)])

    check(torch.vmap(one, in_dims=dims), loop, (x, w))


@plants("the norm's second derivative by its input twice", "models.normalisation:_normalise_backward", doubled(1))
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(3, 2, 5, 5), (4, 3, 1, 3), (2, 1, 4, 4)])
def test_batch_norm_equals_torch(shape: tuple[int, ...], affine: bool, channels_last: bool) -> None:
    """Catches: a wrong coefficient in the double backward, statistics over the wrong axes, n − 1 in the variance."""
    x = layout(draw(*shape) + 0.7, channels_last)
    scale = (draw(shape[1], seed=3), draw(shape[1], seed=4)) if affine else ()
    eps = 0.02
    check(
        lambda x, *p: batch_norm(x, *p, eps=eps),
        lambda x, *p: F.batch_norm(x, None, None, *p, training=True, eps=eps),
        (x, *scale),
    )


@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_by_finite_differences(affine: bool) -> None:
    x = draw(2, 2, 3, 2).requires_grad_()
    p = (draw(2, seed=3).requires_grad_(), draw(2, seed=4).requires_grad_()) if affine else ()
    assert torch.autograd.gradcheck(lambda x, *p: batch_norm(x, *p, eps=0.02), (x, *p))
    assert torch.autograd.gradgradcheck(lambda x, *p: batch_norm(x, *p, eps=0.02), (x, *p))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_batch_norm_where_only_some_inputs_learn(wanted: tuple[int, ...]) -> None:
    """A frozen scale, or frozen images, takes nothing from the others' derivatives."""
    given = (draw(3, 2, 3, 3), draw(2, seed=3), draw(2, seed=4))

    def fill(learnt: tuple[Tensor, ...]) -> list[Tensor]:
        found = dict(zip(wanted, learnt, strict=True))
        return [found.get(i, t) for i, t in enumerate(given)]

    def mine(*learnt: Tensor) -> Tensor:
        return batch_norm(*fill(learnt), eps=0.02).pow(3)

    def torchs(*learnt: Tensor) -> Tensor:
        x, gamma, beta = fill(learnt)
        return F.batch_norm(x, None, None, gamma, beta, training=True, eps=0.02).pow(3)

    check(mine, torchs, tuple(given[i] for i in wanted))


@pytest.mark.parametrize("dims", [(0, None, None), (0, 0, 0), (None, 0, 0), (1, 0, None), (0,)])
def test_batch_norm_under_vmap(path: str, dims: tuple) -> None:
    """Each task has its own statistics, whether scale and shift are shared, per task or absent."""
    x = draw(3, 4, 2, 3, 3) + torch.arange(3.0, dtype=torch.float64).view(3, 1, 1, 1, 1)
    x = x[0] if dims[0] is None else x.movedim(0, dims[0])
    p = [draw(3, 2, seed=i) if d == 0 else draw(2, seed=i) for i, d in enumerate(dims[1:])]

    def loop(x: Tensor, *p: Tensor) -> Tensor:
        out = []
        for t in range(3):
            xt = x if dims[0] is None else x.select(dims[0], t)
            pt = [q[t] if d == 0 else q for q, d in zip(p, dims[1:], strict=True)]
            out.append(F.batch_norm(xt, None, None, *pt, training=True, eps=0.02))
        return torch.stack(out)

    check(torch.vmap(lambda *a: batch_norm(*a, eps=0.02), in_dims=dims), loop, (x, *p))


def test_layers_equal_torchs() -> None:
    """The modules hand their settings on: stride, padding, bias, ε, affine."""
    x = draw(2, 3, 7, 7)
    for bias in (False, True):
        layer = Conv2d(3, 4, 3, stride=2, padding=1, bias=bias).double()
        if layer.bias is not None:
            torch.nn.init.normal_(layer.bias, generator=generator_for(0))
        torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias, 2, 1))
    norm = BatchNorm2d(3).double()
    assert norm.eps == 1e-3
    torch.testing.assert_close(norm(x), F.batch_norm(x, None, None, training=True, eps=1e-3))
    assert not list(BatchNorm2d(3, affine=False).parameters())
    assert not list(norm.buffers())
    torch.testing.assert_close(norm.eval()(x), norm.train()(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_kernels_on_a_gpu() -> None:
    """The grouped calls for all tasks at once, on the device itself."""
    x, w = draw(3, 2, 2, 7, 7).cuda(), draw(3, 4, 2, 3, 3).cuda()
    mine = torch.vmap(lambda x, w: batch_norm(conv2d(x, w, stride=2, padding=1)))(x, w)
    for t in range(3):
        y = F.conv2d(x[t], w[t], stride=2, padding=1)
        torch.testing.assert_close(mine[t], F.batch_norm(y, None, None, training=True))
