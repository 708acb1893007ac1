"""A model that several threads run, blocks that share modules, layers that keep or change something."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.core.bind import Bound, NotBindable
from innerloop.core.functional import block_names, forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import cross_entropy
from innerloop.core.outer import meta_gradient
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.methods.method import predictor
from innerloop.methods.objectives import implicit
from naming import names
from planting import plants
from small import conv_model, images

INNER = InnerLoop("all", 2, 0.1)


def flat(found: Any) -> list[Tensor]:
    """The tensors of a result, in order."""
    if isinstance(found, Tensor):
        return [found]
    return [t for v in (found.values() if isinstance(found, dict) else found) for t in flat(v)]


def adapted(model: nn.Sequential, seed: int) -> list[Tensor]:
    e, slow = images(seed=seed), slow_weights(model)
    with torch.no_grad():
        fast = adapt(model, slow, e.support_x, e.support_y, INNER)
        return [*fast.values(), forward(model, slow, fast, e.query_x)]


def trained(model: nn.Sequential, seed: int) -> list[Tensor]:
    predict = predictor(model, INNER)
    found = meta_gradient(predict, slow_weights(model), images(seed=seed), cross_entropy, task_chunk=1 + seed % 3)
    return list(found.gradient.values())


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("work", [adapted, trained])
def test_threads_share_a_model(work: Callable[[nn.Sequential, int], list[Tensor]], threads: int) -> None:
    """Catches: weights that are swapped into the model itself, which another thread then runs with."""
    model = conv_model("max_pool")
    before = {n: p.clone() for n, p in model.state_dict().items()}
    expected = [work(model, seed) for seed in range(4)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(2):
            for found, right in zip(pool.map(partial(work, model), range(4)), expected, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())


def plain(model: nn.Sequential, x: Tensor, y: Tensor, copy: Callable[[nn.Module], nn.Module]) -> dict[str, Tensor]:
    """The fast weights of one task after INNER, by `functional_call`."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for _ in range(INNER.steps):
        value = F.cross_entropy(functional_call(copy(model), weights, (x,)), y)
        grads = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        weights = {n: w - INNER.lr * g for (n, w), g in zip(weights.items(), grads, strict=True)}
    return weights


def assert_as_plain(
    model: nn.Sequential, tasks: int = 2, copy: Callable[[nn.Module], nn.Module] = lambda model: model
) -> None:
    """Fast weights, query outputs and the second-order gradient equal those of a plain loop over the tasks."""
    e, slow = images(tasks), slow_weights(model)
    fast = adapt(model, slow, e.support_x, e.support_y, INNER)
    out = forward(model, slow, fast, e.query_x)
    found = torch.autograd.grad(cross_entropy(out, e.query_y).sum(), list(slow.values()), allow_unused=True)
    total = [torch.zeros_like(p) for p in slow.values()]
    for t in range(tasks):
        w = plain(model, e.support_x[t], e.support_y[t], copy)
        y = functional_call(copy(model), w, (e.query_x[t],))
        torch.testing.assert_close(out[t], y)
        for n, v in w.items():
            torch.testing.assert_close(fast[n][t], v)
        grads = torch.autograd.grad(F.cross_entropy(y, e.query_y[t]), list(slow.values()), allow_unused=True)
        total = [a if g is None else a + g for a, g in zip(total, grads, strict=True)]
    for g, right in zip(found, total, strict=True):
        torch.testing.assert_close(torch.zeros_like(right) if g is None else g, right)


def layers(**blocks: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(blocks)).double()


@pytest.mark.parametrize("tasks", [1, 2])
def test_one_activation_at_two_places(tasks: int) -> None:
    """Catches: `named_children`, which leaves out a module that it has met before."""
    bend = nn.Tanh()
    model = layers(flat=nn.Flatten(), l1=nn.Linear(578, 6), a1=bend, l2=nn.Linear(6, 6), a2=bend, head=nn.Linear(6, 3))
    assert block_names(model) == ("flat", "l1", "a1", "l2", "a2", "head")
    x = images(tasks).query_x
    torch.testing.assert_close(forward(model, slow_weights(model), {}, x)[0], model(x[0]))
    assert_as_plain(model, tasks)


class Tied(nn.Module):
    """Two layers with one weight, or one layer at two places."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.there, self.back = nn.Linear(6, 6), nn.Linear(6, 6)
        if how == "weight":
            self.back.weight = self.there.weight
        else:
            self.back = self.there

    def forward(self, x: Tensor) -> Tensor:
        return self.back(torch.tanh(self.there(x)))


@pytest.mark.parametrize("how", ["weight", "layer"])
def test_parameters_tied_within_a_block_adapt_as_one(how: str) -> None:
    """(On copies: `functional_call` leaves a model that has one layer at two places destroyed.)"""
    assert_as_plain(
        layers(flat=nn.Flatten(), first=nn.Linear(578, 6), body=Tied(how), head=nn.Linear(6, 3)), copy=deepcopy
    )


@plants("tied blocks are taken", "core.functional:check_sharing", lambda right: lambda model: None)
def test_parameters_tied_across_blocks_are_refused() -> None:
    """One of the blocks may adapt and the other not."""
    tied = nn.Linear(6, 6)
    model = layers(flat=nn.Flatten(), l1=nn.Linear(578, 6), l2=tied, bend=nn.Tanh(), l4=tied, head=nn.Linear(6, 3))
    e = images()
    with pytest.raises(InnerloopError, match=names("l2", "l4")):
        adapt(model, slow_weights(model), e.support_x, e.support_y, InnerLoop("head", 1, 0.1))


@pytest.mark.parametrize("tasks", [1, 2])
def test_the_callers_images_are_left_alone(tasks: int) -> None:
    """A first block that works in place works on a copy; so does the first adapted block in every step."""
    model = layers(
        bend=nn.ReLU(inplace=True),
        flat=nn.Flatten(),
        l1=nn.Linear(578, 6),
        head=nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)),
    )
    e = images(tasks)
    before = e.support_x.clone(), e.query_x.clone()
    for blocks in ("all", "head"):
        fast = adapt(model, slow_weights(model), e.support_x, e.support_y, InnerLoop(blocks, 2, 0.1))
        forward(model, slow_weights(model), fast, e.query_x)
    assert torch.equal(e.support_x, before[0])
    assert torch.equal(e.query_x, before[1])
    twin = layers(
        bend=nn.ReLU(), flat=nn.Flatten(), l1=nn.Linear(578, 6), head=nn.Sequential(nn.ReLU(), nn.Linear(6, 3))
    )
    for a, b in zip(
        fast.values(),
        adapt(twin, slow_weights(twin), e.support_x, e.support_y, InnerLoop("head", 2, 0.1)).values(),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


class Words(nn.Module):
    """Rows of an image as words."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed = nn.Linear(34, 8)
        self.kind = kind
        if kind == "encoder":
            self.net = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, activation=F.gelu, batch_first=True)
        elif kind == "attention":
            self.net = nn.MultiheadAttention(8, 2, batch_first=True)
        elif kind in ("LSTM", "GRU"):
            self.net = getattr(nn, kind)(8, 8, batch_first=True)
        else:
            self.net = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.movedim(2, 1).flatten(2))
        if self.kind == "function":
            x = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        elif self.kind == "attention":
            x = self.net(x, x, x, need_weights=False)[0]
        else:
            x = self.net(x)
            x = x[0] if isinstance(x, tuple) else x
        return x.mean(1)


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("kind", ["function", "attention", "encoder", "LSTM", "GRU"])
def test_second_order_through_attention_and_recurrence(kind: str, tasks: int) -> None:
    """Catches fused attention in the inner loop, which has no second derivative; and `vmap` over what it cannot run.

    The derivative of the meta-loss along a random direction equals its difference quotient.
    """
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(body=Words(kind), head=nn.Linear(8, 3))).double()
    e, slow = images(tasks), slow_weights(model)
    predict = predictor(model, INNER)
    found = meta_gradient(predict, slow, e, cross_entropy).gradient
    direction = {n: torch.randn_like(p) for n, p in slow.items()}
    h = 1e-5
    values = [
        meta_gradient(
            predict,
            {n: (p + s * h * direction[n]).detach().requires_grad_() for n, p in slow.items()},
            e,
            cross_entropy,
        ).loss
        for s in (1, -1)
    ]
    slope = sum(float((found[n] * d).sum()) for n, d in direction.items())
    assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-9)


def test_what_has_no_second_derivative_is_said() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, g: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return 2 * g

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Once.apply(x)

    model, e = layers(flat=nn.Flatten(), l1=nn.Linear(578, 6), once=Layer(), head=nn.Linear(6, 3)), images(1)
    for inner in (INNER, replace(INNER, recompute=True)):
        with pytest.raises(InnerloopError, match=names("first_order=True")):
            meta_gradient(predictor(model, inner), slow_weights(model), e, cross_entropy)
    ordinary = layers(flat=nn.Flatten(), l1=nn.Linear(578, 6), head=nn.Linear(6, 3))  # a loss can be at fault, too
    with pytest.raises(InnerloopError, match=names("first_order=True")):
        adapt(
            ordinary,
            slow_weights(ordinary),
            e.support_x,
            e.support_y,
            INNER,
            loss=lambda p, y: cross_entropy(Once.apply(p), y),
        )
    adapt(ordinary, slow_weights(ordinary), e.support_x, e.support_y, INNER)
    with pytest.raises(InnerloopError, match=names("first_order=True")):
        implicit(model, replace(INNER, proximal=2.0))(slow_weights(model), e)
    first = InnerLoop("all", 2, 0.1, first_order=True)
    meta_gradient(predictor(model, first), slow_weights(model), e, cross_entropy)


def test_a_layer_that_keeps_something_is_refused() -> None:
    """Spectral normalisation improves a vector at each pass, and counters count: both would be lost, or shared."""
    e = images(1)
    model = layers(flat=nn.Flatten(), l1=nn.utils.spectral_norm(nn.Linear(578, 6)), head=nn.Linear(6, 3))
    before = {n: b.clone() for n, b in model.named_buffers()}
    with pytest.raises(InnerloopError, match=names("l1.weight_u")):
        forward(model, slow_weights(model), {}, e.query_x)
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert torch.equal(forward(model.eval(), slow_weights(model), {}, e.query_x)[0], model(e.query_x[0]))


class Causal(nn.Module):
    """Attention among four tokens of six numbers, each of which sees those before it only."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(4, 4, dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0].flatten(1)


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("create_graph", [False, True])
def test_attention_keeps_its_mask(create_graph: bool, tasks: int) -> None:
    """Catches arguments that get lost on the way to the attention that can be differentiated."""
    model = layers(causal=Causal(), head=nn.Linear(24, 3))
    x = torch.randn(tasks, 5, 4, 6, generator=generator_for(0, "tokens"), dtype=torch.float64)
    out = forward(model, slow_weights(model), {}, x, create_graph=create_graph)
    torch.testing.assert_close(out, torch.stack([model(one) for one in x]))


def test_examples_may_be_single_numbers() -> None:
    """[tasks, examples], without an axis for what an example has."""

    class Column(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, None]

    model = layers(column=Column(), head=nn.Linear(1, 3))
    x = torch.randn(2, 3, generator=generator_for(0, "numbers"), dtype=torch.float64)
    y = torch.tensor([[0, 1, 2], [2, 1, 0]])
    fast = adapt(model, slow_weights(model), x, y, InnerLoop("all", 1, 0.1))
    weight = model.get_parameter("head.weight")
    for t in range(2):
        (g,) = torch.autograd.grad(F.cross_entropy(model(x[t]), y[t]), weight)
        torch.testing.assert_close(fast["head.weight"][t], weight - 0.1 * g)


def test_a_buffer_that_is_reached_by_another_name_is_a_copy_too() -> None:
    """Catches a copy whose plain attribute is still the original's buffer: a count that threads would share."""

    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros((), dtype=torch.float64))
            self.kept = [self.count]

        def forward(self, x: Tensor) -> Tensor:
            self.kept[0].add_(1)
            return x

    model, e = layers(flat=nn.Flatten(), counts=Counts(), head=nn.Linear(578, 3)), images(1)
    with pytest.raises(InnerloopError, match=names("counts.count")):
        forward(model, slow_weights(model), {}, e.query_x)
    assert float(model.get_buffer("counts.count")) == 0


class Odd(nn.Module):
    """Reaches its parts in other ways than as registered submodules."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        a, b = self.a, self.b
        if how == "list":
            self.run: Any = [a, b]
        elif how == "method":
            self.step = self._both
        elif how == "partial":
            self.step = partial(Odd._chain, a, b)
        elif how == "closure":
            self.step = lambda x: b(torch.tanh(a(x)))
        elif how == "hook":
            self.a.register_forward_hook(lambda _m, _i, out: b(torch.tanh(out)))
        elif how == "outside":
            object.__setattr__(self, "other", b)
        self.how = how

    def _both(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))

    @staticmethod
    def _chain(a: nn.Module, b: nn.Module, x: Tensor) -> Tensor:
        return b(torch.tanh(a(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "list":
            return self.run[1](torch.tanh(self.run[0](x)))
        if self.how == "hook":
            return self.a(x)
        if self.how == "outside":
            return self.other(torch.tanh(self.a(x)))
        return self.step(x)


@pytest.mark.parametrize("how", ["list", "method", "partial", "closure", "hook", "outside"])
def test_parts_reached_in_odd_ways_have_the_given_weights(how: str) -> None:
    """Catches a copy whose list, bound method, closure or hook still runs the original's weights."""
    assert_as_plain(layers(flat=nn.Flatten(), first=nn.Linear(578, 6), body=Odd(how), head=nn.Linear(6, 3)))


def test_a_closure_is_noticed_and_a_compiled_block_runs() -> None:
    odd = Odd("closure")
    with pytest.raises(NotBindable):
        Bound(odd, dict(odd.named_parameters()))
    model = layers(body=nn.Sequential(nn.Flatten(), nn.Linear(578, 6), nn.Tanh()), head=nn.Linear(6, 3))
    x, slow = images(1).query_x, slow_weights(model)
    other = {n: 2 * p.detach() for n, p in slow.items()}
    expected = forward(model, other, {}, x)
    compiled = layers(body=torch.compile(model[0], backend="eager"), head=model[1])
    assert all(torch.equal(p, slow[n.replace("_orig_mod.", "")]) for n, p in slow_weights(compiled).items())
    found = forward(compiled, {n: 2 * p.detach() for n, p in slow_weights(compiled).items()}, {}, x)
    torch.testing.assert_close(found, expected)


def test_a_missing_weight_and_another_forward_are_refused() -> None:
    model, e = conv_model(), images(1)
    slow: dict[str, Tensor] = dict(slow_weights(model))
    del slow["conv2.conv.weight"]
    with pytest.raises(InnerloopError, match=names("conv2.conv.weight")):
        forward(model, slow, {}, e.query_x)
    with pytest.raises(InnerloopError, match=names("conv2.conv.weight")):
        adapt(model, slow, e.support_x, e.support_y, INNER)

    class Twice(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return 2 * super().forward(x)

    with pytest.raises(InnerloopError, match=names("Twice")):
        block_names(Twice(OrderedDict(flat=nn.Flatten(), head=nn.Linear(578, 3))))


def test_what_no_support_set_is_is_refused() -> None:
    model, e = conv_model(), images(2)
    slow, go = slow_weights(model), inspect.unwrap(adapt)  # without the signature check of the tests
    x, y = e.support_x, e.support_y
    for bad_x, bad_y, named in (
        (x[0], y[0], ("support_x", "support_y", (6, 2, 17, 17), (6,))),
        (x, y[:, :-1], ("support_x", "support_y", (2, 6, 2, 17, 17), (2, 5))),
        (x[:, :0], y[:, :0], ((2, 0, 2, 17, 17),)),
        (x.float(), y, ("support_x", "torch.float32", "torch.float64")),
        (x, y.int(), ("torch.int32", "int64", (2, 6))),
        (x, y - 100, ("-100", "-98", 2)),
        (x, y + 1, (3, 2)),
    ):
        with pytest.raises(InnerloopError, match=names(*named)):
            go(model, slow, bad_x, bad_y, INNER)
    with pytest.raises((InnerloopError, jaxtyping.TypeCheckError), match=r"uint8|u8\["):
        go(model, slow, (x * 255).to(torch.uint8), y, INNER)
    with (
        torch.inference_mode(),
        pytest.raises(InnerloopError, match=names("torch.no_grad()", "torch.inference_mode()")),
    ):
        go(model, slow, x, y, INNER)
    with pytest.raises(InnerloopError, match=names("torch.func")):
        torch.vmap(lambda a: go(model, slow, a[None], y[:1], INNER)["head.bias"])(x)


@plants(
    "a loss of any shape is taken",
    "core.losses:per_task",
    lambda right: lambda loss, prediction, target: loss(prediction, target),
)
@pytest.mark.parametrize("tasks", [1, 3])
def test_a_loss_that_is_not_one_number_a_task_is_refused(tasks: int) -> None:
    """Catches a mean over the tasks, with which the step depends on the chunk, and `F.cross_entropy`, which takes the
    examples for classes."""
    model, e = conv_model(), images(tasks, shot=1, query=1)
    slow = slow_weights(model)

    def mean(p: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(p, y).mean()

    for loss in (mean, F.cross_entropy):
        for refuses in (
            lambda loss=loss: adapt(model, slow, e.support_x, e.support_y, INNER, loss=loss),
            lambda loss=loss: meta_gradient(predictor(model, INNER), slow, e, loss),
        ):
            with pytest.raises(InnerloopError, match=names(loss.__name__, (tasks,), ())):
                refuses()
