"""A linear head's inner loop in closed form equals the general loop through autograd, in value and every derivative."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import innerloop.core.inner as inner_module
from innerloop.core import linear_head
from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop, adapt, adapt_path
from innerloop.core.linear_head import _descend, _gram, _Sums
from innerloop.core.losses import cross_entropy, mean_squared_error
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.models import Linear
from planting import but, plants

TASKS, WAY, N, FEATURES = 2, 3, 5, 4
ANIL = InnerLoop("head", 3, 0.7)
LOSSES = {"classes": cross_entropy, "numbers": mean_squared_error}


class Looped(Linear):
    """The same layer; its own `forward` keeps it from being taken for a linear head."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def numbers(*shape: int, name: str = "numbers", dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator_for(0, name), dtype=torch.float64).to(dtype)


def model_of(head: nn.Module) -> nn.Sequential:
    with torch.no_grad():
        for name, p in head.named_parameters():
            p.copy_(0.5 * numbers(*p.shape, name=name))
    return nn.Sequential(OrderedDict(head=head)).double()


def target(kind: str, n: int = N, way: int = WAY) -> Tensor:
    if kind == "numbers":
        return numbers(TASKS, n, way, name="targets").requires_grad_()
    return torch.arange(n).remainder(way).expand(TASKS, n)


def learned(kind: str, bias: bool = True) -> dict[str, Tensor]:
    """Inner rates, some of them negative."""
    own = {"weight": numbers(WAY, FEATURES, name="rates"), "bias": numbers(WAY, name="rates of bias")}
    own = own if bias else {"weight": own["weight"]}
    found = {
        "given": {},
        "block": {"head": torch.tensor(0.4)},
        "step": {"head": torch.tensor([0.9, -0.2])},  # fewer than the steps: the last serves the third
        "parameter": {f"head.{n}": w for n, w in own.items()},
        "one": {"head.weight": own["weight"]},
        "other": {f"head.{n}": w for n, w in own.items() if n == "bias"},
        "both": {**{f"head.{n}": w for n, w in own.items()}, "head": torch.tensor([0.9, 0.2])},
        "mixed": {"head.weight": own["weight"], "head": torch.tensor([0.9, 0.2])},
    }
    return {n: r.double().requires_grad_() for n, r in found[kind].items()}


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes down a word for each inner step that the general loop takes."""
    steps: list[str] = []
    right = inner_module._support_gradient
    monkeypatch.setattr(inner_module, "_support_gradient", lambda *a, **k: (steps.append("step"), right(*a, **k))[1])
    return steps


def derivatives(
    head: nn.Module,
    inner: InnerLoop,
    kind: str,
    *,
    rates: str = "given",
    start: tuple[str, ...] = (),
    each_step: bool = True,
    shape: tuple[int, ...] = (FEATURES,),
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
    """The path, and the derivative of a random function of all of it by all that it may depend on."""
    model = model_of(head)
    slow = slow_weights(model)
    x, y = numbers(TASKS, N, *shape, name="x").requires_grad_(), target(kind)
    given = learned(rates, bias="head.bias" in slow)
    begin = {n: numbers(TASKS, *slow[n].shape, name=n).requires_grad_() for n in start}
    path = list(adapt_path(model, slow, x, y, inner, loss=LOSSES[kind], rates=given, start=begin, each_step=each_step))
    value = sum((w.sin() * numbers(*w.shape, name=f"{i}{n}")).sum() for i, f in enumerate(path) for n, w in f.items())
    assert isinstance(value, Tensor)
    of = {
        "x": x,
        **slow,
        **given,
        **{f"start {n}": w for n, w in begin.items()},
        **({} if kind == "classes" else {"y": y}),
    }
    grads = torch.autograd.grad(value, list(of.values()), allow_unused=True, materialize_grads=True)
    return path, dict(zip(of, grads, strict=True))


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], **within: float) -> None:
    assert list(found) == list(wanted)
    for n, w in wanted.items():
        torch.testing.assert_close(
            found[n], w, **(within or {"rtol": 1e-9, "atol": 1e-11}), msg=lambda m, n=n: f"{n}: {m}"
        )


def agrees(general: list[str], make: Callable[..., nn.Module], inner: InnerLoop, kind: str, **more: object) -> None:
    """The closed form takes no step of the general loop, and finds what that finds."""
    found = derivatives(make(Linear), inner, kind, **more)  # pyright: ignore[reportArgumentType]
    assert not general
    wanted = derivatives(make(Looped), inner, kind, **more)  # pyright: ignore[reportArgumentType]
    assert len(general) == inner.steps
    assert len(found[0]) == len(wanted[0]) == (inner.steps + 1 if more.get("each_step", True) else 1)
    for a, b in zip(found[0], wanted[0], strict=True):
        same(a, b)
    same(found[1], wanted[1])


def head(kind: type[Linear]) -> Linear:
    return kind(FEATURES, WAY)


def without_bias(kind: type[Linear]) -> Linear:
    made = kind(FEATURES, WAY)
    made.bias = None  # pyright: ignore[reportAttributeAccessIssue]
    return made


# ---- the same as the general loop


@plants(
    "the bias is left out of the Gram matrix",
    "core.linear_head:_gram",
    lambda right: lambda x, a, b: right(x, a, 0 * b),
)
@plants(
    "the sums begin a step late",
    "core.linear_head:_asked",
    lambda right: lambda sums, each: right(sums[:1] + sums[:-1], each),
)
@plants(
    "learned rates stay at the first step's",
    "core.linear_head:_split",
    lambda right: (
        lambda rates, *more: (lambda s: s if s is None or s[2] is None else (*s[:2], s[2][:1].expand_as(s[2])))(
            right(rates, *more)
        )
    ),
)
@plants(
    "the derivative of the softmax is its diagonal alone",
    "core.linear_head:torch",
    lambda right: but(
        right,
        ops=but(
            right.ops,
            aten=but(right.ops.aten, _softmax_backward_data=but(right.ops, default=lambda v, p, *_: v * p * (1 - p))),
        ),
    ),
)
@pytest.mark.parametrize("each_step", [True, False])
@pytest.mark.parametrize("rates", ["given", "block", "step", "parameter", "one", "other", "both"])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_values_and_derivatives_are_those_of_the_general_loop(
    general: list[str], kind: str, first_order: bool, rates: str, each_step: bool
) -> None:
    inner = replace(ANIL, first_order=first_order)
    agrees(general, head, inner, kind, rates=rates, each_step=each_step)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("start", [("head.weight", "head.bias"), ("head.weight",), ("head.bias",)])
def test_it_starts_where_it_is_told(general: list[str], start: tuple[str, ...], first_order: bool) -> None:
    """From weights of each task's own, for both tensors or one, and from the shared ones."""
    agrees(general, head, replace(ANIL, first_order=first_order), "classes", start=start)


@pytest.mark.parametrize("rates", ["given", "step", "parameter"])
@pytest.mark.parametrize("kind", LOSSES)
def test_a_head_without_a_bias(general: list[str], kind: str, rates: str) -> None:
    agrees(general, without_bias, ANIL, kind, rates=rates)


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("readout", ["mean", "flatten"])
def test_feature_maps_are_read_as_the_head_reads_them(general: list[str], readout: str, steps: int) -> None:
    shape = (4, 2, 3) if readout == "mean" else (2, 1, 2)
    agrees(general, lambda kind: kind(4, WAY, readout=readout), replace(ANIL, steps=steps), "classes", shape=shape)


def test_a_linear_layer_of_pytorch(general: list[str]) -> None:
    found = derivatives(nn.Linear(FEATURES, WAY), ANIL, "classes")
    assert not general
    wanted = derivatives(Looped(FEATURES, WAY), ANIL, "classes")
    same(found[1], wanted[1])
    same(found[0][-1], wanted[0][-1])


def test_a_start_of_another_way(general: list[str]) -> None:
    """More classes than the model's own head has."""
    found = []
    for kind in (Linear, Looped):
        model = model_of(kind(FEATURES, WAY))
        x = numbers(TASKS, N, FEATURES).requires_grad_()
        start = {"head.weight": numbers(TASKS, 5, FEATURES), "head.bias": numbers(TASKS, 5)}
        fast = adapt(model, slow_weights(model), x, target("classes", way=5), ANIL, start=start)
        (gradient,) = torch.autograd.grad(sum(w.sin().sum() for w in fast.values()), x)  # pyright: ignore[reportArgumentType]
        found.append({**fast, "x": gradient})
        assert len(general) == (ANIL.steps if kind is Looped else 0)
    same(*found)


@pytest.mark.parametrize("kind", LOSSES)
def test_without_gradients(general: list[str], kind: str) -> None:
    """Evaluation: the same path, nothing recorded."""
    args = numbers(TASKS, N, FEATURES), target(kind), ANIL
    with torch.no_grad():
        model = model_of(head(Linear))
        found = list(adapt_path(model, slow_weights(model), *args, loss=LOSSES[kind]))
        last = adapt(model, slow_weights(model), *args, loss=LOSSES[kind])
        assert not general
        looped = model_of(head(Looped))
        wanted = list(adapt_path(looped, slow_weights(looped), *args, loss=LOSSES[kind]))
    for a, b in zip(found, wanted, strict=True):
        same(a, b)
    same(last, wanted[-1])
    assert not any(w.requires_grad for fast in found for w in fast.values())


def test_behind_a_body_that_does_not_adapt(general: list[str]) -> None:
    """The gradient of the body's weights, through the features, for second order; none of the steps' for first."""
    for first_order in (False, True):
        found = []
        for kind in (Linear, Looped):
            body = nn.Sequential(nn.Linear(6, FEATURES), nn.Tanh())
            model = model_of(kind(FEATURES, WAY))
            model = nn.Sequential(OrderedDict(body=body, head=model.head)).double()
            with torch.no_grad():
                for n, p in body.named_parameters():
                    p.copy_(numbers(*p.shape, name=n))
            slow = slow_weights(model)
            x = numbers(TASKS, N, 6)
            fast = adapt(model, slow, x, target("classes"), replace(ANIL, first_order=first_order))
            value = sum((w.sin() * numbers(*w.shape, name=n)).sum() for n, w in fast.items())
            grads = torch.autograd.grad(value, list(slow.values()), materialize_grads=True)  # pyright: ignore[reportArgumentType]
            found.append(dict(zip(slow, grads, strict=True)))
        same(*found)
        assert bool(found[0]["body.0.weight"].any()) is not first_order
    assert len(general) == 2 * ANIL.steps


# ---- derivatives by finite differences, of any order


@plants(
    "differentiated again as if its steps were constants",
    "core.linear_head:_Sums.backward",
    lambda right: staticmethod(torch.no_grad()(right.__func__)),
)
@plants("the Gram matrix counts as a constant", "core.linear_head:_gram", lambda right: lambda *a: right(*a).detach())
@pytest.mark.parametrize("rates", ["given", "step", "parameter"])
@pytest.mark.parametrize("kind", LOSSES)
def test_gradcheck_and_gradgradcheck(kind: str, rates: str) -> None:
    """By features, weights and rates; the second derivative goes another way, through autograd."""
    model = model_of(head(Linear))
    names, y = list(slow_weights(model)), target(kind)
    given = learned(rates)
    x = numbers(TASKS, N, FEATURES).requires_grad_()

    def last(x: Tensor, w: Tensor, b: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        own = dict(zip(given, rest, strict=True))
        fast = adapt(model, dict(zip(names, (w, b), strict=True)), x, y, ANIL, loss=LOSSES[kind], rates=own)
        return tuple(fast.values())

    inputs = (x, *slow_weights(model).values(), *given.values())
    assert torch.autograd.gradcheck(last, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(last, inputs, fast_mode=True)


def with_squares_again(right: Callable) -> Callable:
    """Squared error in place of the loss where steps are differentiated twice."""
    return lambda z, k, of_step, labels, *more, **options: right(
        z, k, of_step, None if torch.is_grad_enabled() else labels, *more, **options
    )


@plants("differentiated again by another loss", "core.linear_head:_descend", with_squares_again)
@pytest.mark.parametrize("kind", LOSSES)
def test_second_derivatives_are_those_of_the_general_loop(kind: str) -> None:
    """Finite differences of a gradient do not see that the gradient itself is another one where it has a graph."""
    found = []
    for kind_of_head in (Linear, Looped):
        model = model_of(head(kind_of_head))
        of = {"x": numbers(TASKS, N, FEATURES, name="x").requires_grad_(), **slow_weights(model)}
        fast = adapt(model, slow_weights(model), of["x"], target(kind), ANIL, loss=LOSSES[kind])
        value = sum((w.sin() * numbers(*w.shape, name=n)).sum() for n, w in fast.items())
        first = torch.autograd.grad(value, list(of.values()), create_graph=True)  # pyright: ignore[reportArgumentType]
        more = sum((g.cos() * numbers(*g.shape, name=f"more {n}")).sum() for n, g in zip(of, first, strict=True))
        second = torch.autograd.grad(more, list(of.values()))  # pyright: ignore[reportArgumentType]
        found.append({f"{n} {i}": g for i, gs in enumerate((first, second)) for n, g in zip(of, gs, strict=True)})
    same(*found)


@plants(
    "the derivative by the Gram matrix is transposed",
    "core.linear_head:_Sums.backward",
    lambda right: staticmethod(
        lambda ctx, g: tuple(t.mT if i == 1 and t is not None else t for i, t in enumerate(right.__func__(ctx, g)))
    ),
)
@pytest.mark.parametrize("each_step", [True, False])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_gradcheck_of_the_recursion(kind: str, classes: bool, each_step: bool) -> None:
    """By outputs, matrix (any matrix, not symmetric) and rates, in full."""
    z = numbers(TASKS, 3, 2, name="z").requires_grad_()
    k = numbers(TASKS, *([2] if classes else []), 3, 3, name="k").requires_grad_()
    rates = numbers(3, name="rates").requires_grad_()
    labels = None if kind == "numbers" else nn.functional.one_hot(torch.tensor([0, 1, 1])).double().expand(TASKS, 3, 2)

    def sums(z: Tensor, k: Tensor, rates: Tensor) -> Tensor:
        return _Sums.apply(z, k, rates, labels, 3, each_step)  # pyright: ignore[reportReturnType]

    def by_hand(z: Tensor, k: Tensor, rates: Tensor) -> Tensor:
        found = [torch.zeros_like(z)]
        for rate in rates:
            ku = torch.einsum("tcij,tjc->tic" if classes else "tij,tjc->tic", k, found[-1])
            d = z - ku if labels is None else torch.softmax(z - ku, -1) - labels
            found.append(found[-1] + rate * d)
        return torch.stack(found[1:] if each_step else found[-1:])

    torch.testing.assert_close(sums(z, k, rates), by_hand(z, k, rates))
    assert torch.autograd.gradcheck(sums, (z, k, rates))
    assert torch.autograd.gradgradcheck(sums, (z, k, rates), fast_mode=True)


# ---- float32, threads


@pytest.mark.parametrize("rates", ["given", "parameter"])
def test_float32_is_as_exact_as_the_general_loop(rates: str) -> None:
    """Error of the meta-gradient against float64: at 20 steps not far above the general loop's own."""
    way, n, features = 5, 20, 64
    inner = InnerLoop("head", 20, 0.1)
    own = {"head.weight": numbers(way, features, name="rates").abs() / 5} if rates == "parameter" else {}

    def gradient(kind: type[Linear], dtype: torch.dtype) -> Tensor:
        model = model_of(kind(features, way)).to(dtype)
        x = numbers(TASKS, n, features, name="x").to(dtype).requires_grad_()
        fast = adapt(
            model,
            slow_weights(model),
            x,
            target("classes", n, way),
            inner,
            rates={k: r.to(dtype) for k, r in own.items()},
        )
        value = sum((w.sin() * numbers(*w.shape, name=n).to(dtype)).sum() for n, w in fast.items())
        return torch.autograd.grad(value, x)[0].double()  # pyright: ignore[reportArgumentType]

    exact = gradient(Looped, torch.float64)
    errors = [float((gradient(k, torch.float32) - exact).norm() / exact.norm()) for k in (Linear, Looped)]
    assert errors[1] > 0
    assert errors[0] < max(4 * errors[1], 2e-6)


def test_threads_find_the_same() -> None:
    """Eight threads with one model."""
    model = model_of(head(Linear))
    x, y = numbers(TASKS, N, FEATURES), target("classes")
    found: list[Tensor] = []

    def work() -> None:
        own = x.clone().requires_grad_()
        for _ in range(5):
            fast = adapt(model, slow_weights(model), own, y, ANIL)
            found.append(torch.autograd.grad(fast["head.weight"].sin().sum(), own)[0])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 40
    assert all(torch.equal(g, found[0]) for g in found)


# ---- where the general loop serves


class Scaled(Linear):
    """Inherits `linear_features`, and computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Doubled(Scaled):
    """Its features are said anew, and are right."""

    def linear_features(self, x: Tensor) -> Tensor:
        return super().linear_features(x)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.linear_features(x), self.weight, self.bias)


def hooked() -> nn.Module:
    made = Linear(FEATURES, WAY)
    made.register_forward_hook(lambda module, given, out: 2 * out)
    return made


def replaced() -> nn.Module:
    made = Linear(FEATURES, WAY)
    made.forward = lambda x: 2 * Linear.forward(made, x)  # pyright: ignore[reportAttributeAccessIssue]
    return made


@plants(
    "any head with linear features is taken",
    "core.linear_head:_reader",
    lambda right: lambda head: getattr(head, "linear_features", None),
)
@pytest.mark.parametrize("make", [lambda: Scaled(FEATURES, WAY), hooked])
def test_a_head_that_computes_something_else_goes_the_general_way(
    general: list[str], make: Callable[[], nn.Module]
) -> None:
    """Its logits are twice those of the plain head, and so is its first gradient by the bias, at zero weights."""
    fast = {}
    for name, made in {"plain": Linear(FEATURES, WAY), "twice": make()}.items():
        model = nn.Sequential(OrderedDict(head=made)).double()
        slow = {n: torch.zeros_like(p) for n, p in slow_weights(model).items()}
        general.clear()
        fast[name] = adapt(model, slow, numbers(TASKS, N, FEATURES), target("classes"), replace(ANIL, steps=1))
        assert len(general) == (name == "twice")
    same({n: 2 * w for n, w in fast["plain"].items()}, fast["twice"])


def test_a_subclass_may_say_anew_what_its_features_are(general: list[str]) -> None:
    found = derivatives(Doubled(FEATURES, WAY), ANIL, "classes")
    assert not general
    same(found[1], derivatives(Linear(FEATURES, WAY), ANIL, "classes")[1])


@pytest.mark.parametrize("make", [replaced, lambda: nn.Sequential(nn.Linear(FEATURES, WAY))])
def test_other_heads_go_the_general_way(general: list[str], make: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(OrderedDict(head=make())).double()
    adapt(model, slow_weights(model), numbers(1, N, FEATURES), target("classes")[:1], ANIL)
    assert len(general) == ANIL.steps


@pytest.mark.parametrize(
    "case", ["proximal", "recompute", "another loss", "mixed rates", "half", "autocast", "forward", "many examples"]
)
def test_what_the_closed_form_does_not_cover_goes_the_general_way(general: list[str], case: str) -> None:
    inner, loss, dtype, n = ANIL, cross_entropy, torch.float64, N
    if case == "proximal":
        inner = replace(inner, proximal=0.1)
    if case == "recompute":
        inner = replace(inner, recompute=True)
    if case == "another loss":
        loss = lambda z, y: cross_entropy(z, y)  # noqa: E731
    if case in ("half", "autocast"):
        dtype = torch.bfloat16 if case == "half" else torch.float32
    if case == "many examples":
        n = 3000
    model = model_of(head(Linear)).to(dtype)
    x = numbers(TASKS, n, FEATURES, dtype=dtype)
    with forward_ad.dual_level() if case == "forward" else torch.autocast("cpu", enabled=case == "autocast"):
        adapt(
            model,
            slow_weights(model),
            x,
            target("classes", n),
            inner,
            loss=loss,
            rates=learned("mixed") if case == "mixed rates" else None,
        )
    assert len(general) == inner.steps


def spread_bias(right: Callable) -> Callable:
    """The closed form, given a bias for each class in place of one for all."""

    def wrong(rest: nn.Sequential, start: dict[str, Tensor], *more, **settings):
        w, b = start["head.weight"], start["head.bias"]
        return right(rest, {"head.weight": w, "head.bias": b.expand(w.shape[-2])}, *more, **settings)

    return wrong


def with_bias(kind: type[nn.Linear], *shape: int) -> nn.Module:
    made = kind(FEATURES, WAY)
    made.bias = nn.Parameter(torch.empty(shape))
    return made


@plants("a bias of any shape is taken", "core.linear_head:one_bias_each", lambda right: lambda layer: True)
@pytest.mark.parametrize("shape", [(1,), (1, WAY), (TASKS, WAY)])
@pytest.mark.parametrize("kind", [Linear, nn.Linear])
def test_a_bias_that_is_spread_over_classes_goes_the_general_way(
    general: list[str], kind: type[nn.Linear], shape: tuple[int, ...]
) -> None:
    """`F.linear` adds it to each class (or to each example its own); a step is plain autograd's of that."""
    n = shape[0] if len(shape) == 2 else N
    model = model_of(with_bias(kind, *shape))
    slow = slow_weights(model)
    x, y = numbers(TASKS, n, FEATURES), target("classes", n)
    found = adapt(model, slow, x, y, ANIL)
    assert len(general) == ANIL.steps
    for t in range(TASKS):
        w, b = (slow[f"head.{p}"].detach() for p in ("weight", "bias"))
        for _ in range(ANIL.steps):
            w, b = w.requires_grad_(), b.requires_grad_()
            loss = nn.functional.cross_entropy(nn.functional.linear(x[t], w, b), y[t])
            of_w, of_b = torch.autograd.grad(loss, (w, b))
            w, b = (w - ANIL.lr * of_w).detach(), (b - ANIL.lr * of_b).detach()
        same({n: f[t] for n, f in found.items()}, {"head.weight": w, "head.bias": b})


@plants("a slow bias of any shape is taken", "core.linear_head:linear_head_path", lambda right: spread_bias(right))
def test_a_given_bias_that_is_spread_over_classes_goes_the_general_way(general: list[str]) -> None:
    """The model's own has one number a class, the slow weights given have one for all."""
    model = model_of(head(Linear))
    slow = {n: p.detach() for n, p in slow_weights(model).items()} | {"head.bias": numbers(1, name="one bias")}
    x, y = numbers(TASKS, N, FEATURES), target("classes")
    found = adapt(model, slow, x, y, replace(ANIL, steps=1))
    assert len(general) == 1
    p = torch.softmax(x @ slow["head.weight"].mT + slow["head.bias"], -1) - nn.functional.one_hot(y, WAY)
    same(
        found,
        {
            "head.weight": slow["head.weight"] - ANIL.lr * p.mT @ x / N,
            "head.bias": slow["head.bias"] - ANIL.lr * p.sum((1, 2), keepdim=True).squeeze(-1) / N,
        },
    )


def test_it_takes_no_other_block_with_it(general: list[str]) -> None:
    """Where the block before the head adapts too, or the loss does not fit, nothing is in closed form."""
    model = nn.Sequential(OrderedDict(body=nn.Linear(FEATURES, FEATURES), head=Linear(FEATURES, WAY))).double()
    x = numbers(TASKS, N, FEATURES)
    for blocks, steps in (("all", 3), ("body", 3), ("head", 0)):
        general.clear()
        adapt(model, slow_weights(model), x, target("classes"), replace(ANIL, blocks=blocks))
        assert len(general) == steps


@plants("labels go unchecked", "core.linear_head:check_labels", lambda right: lambda logits, labels: None)
@pytest.mark.parametrize("bad", [torch.tensor([0, 1, 2, 0, -1]), torch.tensor([0, 1, 2, 0, 3]), torch.zeros(5).int()])
def test_labels_are_checked_as_the_loss_checks_them(bad: Tensor) -> None:
    words = []
    for kind in (Linear, Looped):
        model = model_of(head(kind))
        with pytest.raises(InnerloopError, match="labels must be") as error:
            adapt(model, slow_weights(model), numbers(1, N, FEATURES), bad[None], ANIL)
        words.append(str(error.value))
    assert words[0] == words[1]


def test_the_gram_matrix_by_hand() -> None:
    x, a, b = numbers(2, 3, 4), numbers(5, 4, name="a"), numbers(5, name="b")
    wanted = [[x[t] @ a[c].diag() @ x[t].T + b[c] for c in range(5)] for t in range(2)]
    torch.testing.assert_close(_gram(x, a, b), torch.stack([torch.stack(k) for k in wanted]))
    torch.testing.assert_close(_gram(x, 0.3, 0.7), 0.3 * x @ x.mT + 0.7)
    assert _descend(x, x @ x.mT, None, None, 2)[0][0].count_nonzero() == 0
    assert linear_head._times(_gram(x, a, b), numbers(2, 3, 5)).shape == (2, 3, 5)
