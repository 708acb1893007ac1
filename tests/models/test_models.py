"""The models' shape, their init from a generator, and that a forward pass is a pure function."""

import pytest
import torch
from torch.nn import functional as F

import reference
from innerloop.core.functional import block_names, slow_weights
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.models import conv4, mlp, resnet12
from naming import names
from planting import but, plants
from small import conv_model, images, small_mlp, stock_model


def test_a_forward_pass_changes_nothing() -> None:
    """No running statistics, no buffers: the state is the same to the byte."""
    for model in (conv_model(), stock_model(), conv_model("max_pool")):
        before = {n: t.clone() for n, t in model.state_dict().items()}
        x = images().support_x[0]
        first = model(x)
        model(x + 1)
        assert torch.equal(model(x), first)
        assert not list(model.buffers())
        assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


@plants("ReLU lost", "models.kernel:torch", lambda right: but(right, relu=lambda x: x))
@pytest.mark.parametrize("size", [16, 17, 28, 32])
def test_conv4_is_the_net_of_the_paper(size: int) -> None:
    """ReLU after the pooling is the same function as before it; both forms of the head."""
    x = images(size=size).support_x[0]
    for kind in ("stride", "max_pool"):
        model = conv_model(kind, size=size)
        pool = kind == "max_pool"
        wanted = reference.conv4(slow_weights(model), x, pool=pool, mean=not pool)
        torch.testing.assert_close(model(x), wanted)


def test_sizes_and_names() -> None:
    assert block_names(conv4(5)) == ("conv1", "conv2", "conv3", "conv4", "head")
    mini = conv4(5, channels=3, image_size=84, filters=32, downsample="max_pool", readout="flatten")
    assert mini.get_parameter("head.weight").shape == (5, 800)
    assert conv4(20).get_parameter("head.weight").shape == (20, 64)
    assert block_names(mlp(1, 1)) == ("hidden1", "hidden2", "head")
    assert sum(p.numel() for p in mlp(1, 1).parameters()) == 40 + 40 + 40 * 40 + 40 + 40 + 1
    net = resnet12(5, filters=(4, 5, 6, 7), image_size=19)
    assert block_names(net) == ("block1", "block2", "block3", "block4", "head")
    assert net(torch.zeros(2, 3, 19, 19)).shape == (2, 5)
    with pytest.raises(InnerloopError, match=names(10, 16)):
        conv4(5, image_size=10, downsample="max_pool")
    with pytest.raises(InnerloopError, match=names(10, 16)):
        resnet12(5, image_size=10)


def test_resnet12_block_is_the_net_of_the_paper() -> None:
    """Three convolutions, a 1×1 short cut, LeakyReLU 0.1, then the pool."""
    model = resnet12(3, channels=2, filters=(3, 4), image_size=9).double()
    w, x = slow_weights(model), images(size=9).support_x[0]

    def norm(h, name: str):
        return F.batch_norm(h, None, None, w[f"{name}.weight"], w[f"{name}.bias"], training=True, eps=1e-3)

    h = x
    for b in ("block1", "block2"):
        y = h
        for i in (1, 2, 3):
            y = norm(F.conv2d(y, w[f"{b}.conv{i}.weight"], padding=1), f"{b}.norm{i}")
            y = F.leaky_relu(y, 0.1) if i < 3 else y
        short = norm(F.conv2d(h, w[f"{b}.short_cut.weight"]), f"{b}.short_norm")
        h = F.max_pool2d(F.leaky_relu(y + short, 0.1), 2)
    torch.testing.assert_close(model(x), h.mean((2, 3)) @ w["head.weight"].T + w["head.bias"])


def test_mlp_is_plain() -> None:
    model, x = small_mlp(), torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(model(x), reference.mlp(slow_weights(model), x))


@plants(
    "init from the global generator",
    "models.conv4:reset_parameters",
    lambda right: lambda model, generator: right(model, None),
)
@pytest.mark.parametrize("build", [lambda g: conv4(5, filters=4, generator=g), lambda g: mlp(1, 1, generator=g)])
def test_init_is_a_function_of_the_generator(build) -> None:
    """The same generator gives the same weights, another gives others, and the global one is not touched by a draw."""
    a, b, c = (build(generator_for(s, "init")).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["head.weight"], c["head.weight"])
    torch.manual_seed(0)
    d = build(generator_for(0, "init")).state_dict()
    torch.manual_seed(1)
    assert all(torch.equal(t, d[n]) for n, t in build(generator_for(0, "init")).state_dict().items())
    for n, t in a.items():
        if n.endswith("bias"):
            assert not t.any()
        elif t.ndim > 1:  # Xavier, uniform
            fan = (t.shape[0] + t.shape[1]) * t[0, 0].numel()
            bound = (6 / fan) ** 0.5
            assert 0.8 * bound < float(t.abs().max()) <= bound
