"""All tasks at once in each layer: as task after task, in value, first and second derivative."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerloop.core import functional
from innerloop.core.functional import batch_statistics, forward, slow_weights
from innerloop.core.random import generator_for
from innerloop.models import Conv2d, Linear, conv4, kernel, mlp
from innerloop.rl.policy import gaussian_policy
from planting import plants

TASKS = N = 3  # equal, so that an axis taken for another does not show in the shapes


def heads(readout: str) -> nn.Sequential:
    return nn.Sequential(OrderedDict(head=Linear(2 if readout == "mean" else 8, 3, readout=readout)))  # pyright: ignore[reportArgumentType]


def without_bias() -> nn.Sequential:
    model = mlp(2, 3, hidden=(3,))
    model.head.bias = None  # pyright: ignore[reportAttributeAccessIssue]
    return model


def twice() -> nn.Sequential:
    one = mlp(2, 2, hidden=(2,)).hidden1
    return nn.Sequential(OrderedDict(first=one, second=one, head=Linear(2, 3)))  # pyright: ignore[reportArgumentType]


def with_a_bias() -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=Conv2d(2, 3, bias=True), head=Linear(12, 3)))  # pyright: ignore[reportArgumentType]


def convolutions(filters: int, **kind: Any) -> Callable[[], nn.Sequential]:
    return lambda: conv4(3, channels=2, image_size=16, filters=filters, **kind)


MODELS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = {
    "mlp": (lambda: mlp(2, 3, hidden=(3, 3)), (2,)),
    "mlp on pictures": (lambda: mlp(8, 3, hidden=(3,)), (2, 2, 2)),
    "no bias": (without_bias, (2,)),
    "one module at two places": (twice, (2,)),
    "spatial mean": (lambda: heads("mean"), (2, 2, 2)),
    "flattened": (lambda: heads("flatten"), (2, 2, 2)),
    "policy of ReLUs": (lambda: gaussian_policy(2, 3, hidden=(3, 3)), (2,)),
    "convolution with a bias": (with_a_bias, (2, 2, 2)),
    "strided convolutions": (convolutions(2), (2, 16, 16)),
    "pooled convolutions": (convolutions(2, downsample="max_pool", readout="flatten"), (2, 16, 16)),
    "the kernel": (convolutions(8, downsample="max_pool", readout="flatten"), (2, 16, 16)),
    "norms without γ and β": (convolutions(2, affine=False), (2, 16, 16)),
    "policy of tanh": (lambda: gaussian_policy(2, 3, hidden=(3,), activation="tanh", log_std=-0.3), (2,)),
}


def numbers(*shape: int, name: str) -> Tensor:
    return torch.randn(shape, generator=generator_for(0, name), dtype=torch.float64).requires_grad_()


def derivatives(out: Tensor, of: dict[str, Tensor]) -> dict[str, Tensor]:
    """By each input, and the derivative of a random function of these: the second one."""
    value = (out.sin() * numbers(*out.shape, name="out").detach()).sum()
    first = torch.autograd.grad(value, list(of.values()), create_graph=True, materialize_grads=True)
    more = sum((g.cos() * numbers(*g.shape, name=n).detach()).sum() for n, g in zip(of, first, strict=True))
    second = torch.autograd.grad(more, list(of.values()), materialize_grads=True)  # pyright: ignore[reportArgumentType]
    return dict(zip(of, first, strict=True)) | {f"second {n}": g for n, g in zip(of, second, strict=True)}


@plants(
    "a task's bias goes to the example of its number",
    "core.functional:linear_of_tasks",
    lambda right: lambda x, w, b: right(x, w, None) + (0 if b is None else b),
)
@plants(
    "the statistics of all tasks together",
    "models.conv4:norm_pool_relu",
    lambda right: lambda norm, x, pool, tasks=1: right(norm, x, pool=pool),
)
@pytest.mark.parametrize("adapts", ["nothing", "weights", "biases", "all"])
@pytest.mark.parametrize("kind", MODELS)
def test_all_tasks_at_once_are_task_after_task(kind: str, adapts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SMALLEST", dict.fromkeys(kernel.SMALLEST, 0))  # where it is there
    make, shape = MODELS[kind]
    model = make().double()
    slow = {n: numbers(*p.shape, name=n) for n, p in slow_weights(model).items()}
    own = [
        n for n in slow if adapts == "all" or (adapts != "nothing" and n.endswith("weight") == (adapts == "weights"))
    ]
    fast = {n: numbers(TASKS, *slow[n].shape, name=f"fast {n}") for n in own}
    x = numbers(TASKS, N, *shape, name="x")
    of = {"x": x, **slow, **{f"fast {n}": w for n, w in fast.items()}}
    each = [forward(model, slow, {n: w[t : t + 1] for n, w in fast.items()}, x[t : t + 1]) for t in range(TASKS)]
    monkeypatch.delattr(functional.torch, "vmap")
    wanted = derivatives(torch.cat(each), of)
    for create_graph in (False, True):
        out = forward(model, slow, fast, x, create_graph=create_graph)
        torch.testing.assert_close(out, torch.cat(each), rtol=1e-12, atol=1e-12)
        for n, found in derivatives(out, of).items():
            torch.testing.assert_close(found, wanted[n], rtol=1e-8, atol=1e-10, msg=lambda m, n=n: f"{n}: {m}")


def test_given_statistics_are_those_of_each_task() -> None:
    """They take another way, whatever the model can do."""
    model = convolutions(2)().double()
    x, support = (numbers(TASKS, N, 2, 16, 16, name=n).detach() for n in ("x", "support"))
    slow = slow_weights(model)
    given = batch_statistics(model, slow, {}, support)
    found = forward(model, slow, {}, x, statistics=given)
    for t in range(TASKS):
        alone = batch_statistics(model, slow, {}, support[t : t + 1])
        torch.testing.assert_close(found[t : t + 1], forward(model, slow, {}, x[t : t + 1], statistics=alone))


class Doubled(Linear):
    """Inherits `forward_tasks`, and computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked() -> nn.Module:
    layer = Linear(2, 3)
    layer.register_forward_hook(lambda module, given, out: 2 * out)
    return layer


def replaced() -> nn.Module:
    layer = Linear(2, 3)
    layer.forward = lambda x: 2 * nn.functional.linear(x, layer.weight, layer.bias)  # pyright: ignore[reportAttributeAccessIssue]
    return layer


@plants(
    "any module with forward_tasks is taken at its word",
    "core.functional:stands_for_forward",
    lambda right: lambda module, method: hasattr(module, method),
)
@pytest.mark.parametrize("make", [lambda: Doubled(2, 3), hooked, replaced])
def test_a_layer_that_computes_something_else_is_run_itself(make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(OrderedDict(head=make())).double()
    slow = {n: p.detach() for n, p in slow_weights(model).items()}
    x = numbers(TASKS, N, 2, name="x").detach()
    plain = nn.functional.linear(x, slow["head.weight"], slow["head.bias"])
    torch.testing.assert_close(forward(model, slow, {}, x), 2 * plain)


@plants("a bias of any shape is taken at once", "core.functional:one_bias_each", lambda right: lambda layer: True)
@pytest.mark.parametrize("shape", [(), (1,), (N, TASKS)])
def test_a_bias_of_another_shape_is_spread_as_pytorch_does(shape: tuple[int, ...]) -> None:
    """A number for all outputs, or one an example; each task has its own."""
    layer = Linear(2, TASKS)
    layer.bias = nn.Parameter(torch.empty(shape))
    model = nn.Sequential(OrderedDict(head=layer)).double()
    slow = {n: numbers(*p.shape, name=n).detach() for n, p in slow_weights(model).items()}
    fast = {"head.bias": numbers(TASKS, *shape, name="biases").detach()}
    x = numbers(TASKS, N, 2, name="x").detach()
    for own in ({}, fast):
        bias = [own["head.bias"][t] if own else slow["head.bias"] for t in range(TASKS)]
        wanted = [x[t] @ slow["head.weight"].mT + bias[t] for t in range(TASKS)]
        torch.testing.assert_close(forward(model, slow, own, x), torch.stack(wanted))


def test_a_module_out_of_reach_goes_the_general_way() -> None:
    """A closure holds a module, which no copy can follow: the outputs are those of each task alone all the same."""
    model = mlp(2, 3, hidden=(3,)).double()
    hidden = model.hidden1
    model.hidden1.held = lambda: hidden  # pyright: ignore[reportArgumentType]
    x = torch.randn(TASKS, 4, 2, generator=generator_for(0, "out of reach"), dtype=torch.float64)
    fast = {"head.weight": torch.randn(TASKS, 3, 3, generator=generator_for(1, "out of reach"), dtype=torch.float64)}
    found = forward(model, slow_weights(model), fast, x)
    for t in range(TASKS):
        alone = forward(model, slow_weights(model), {n: w[t : t + 1] for n, w in fast.items()}, x[t : t + 1])
        torch.testing.assert_close(found[t : t + 1], alone)
