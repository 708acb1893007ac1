"""The inner loop on nets: gradcheck, the reference, chunks, recomputation, and which blocks run and adapt."""

import gc
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import reference
from innerloop.core.episodes import Episodes
from innerloop.core.functional import block_of, forward, slow_weights
from innerloop.core.inner import InnerLoop, _second_order_step, adapt, adapt_path, adapted_parameters, with_steps
from innerloop.core.losses import cross_entropy, mean_squared_error
from innerloop.core.outer import MetaGradient, meta_gradient
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.methods.method import predictor
from innerloop.models import BatchNorm2d, Conv2d, Linear
from naming import names
from planting import but, plants
from small import conv_model, each_task, images, jiggle, norm_names, pick, small_mlp, stock_model, targets

BLOCKS = ("all", "head", "body", "none")


def tiny(seed: int = 0) -> nn.Sequential:
    """Convolution, batch norm and a linear head, smooth: small enough for finite differences."""
    return jiggle(
        nn.Sequential(
            OrderedDict(
                body=nn.Sequential(Conv2d(1, 1, stride=2), BatchNorm2d(1), nn.Tanh()),
                head=Linear(9, 2),
            )
        ).double(),
        seed,
    )


def case(kind: str) -> tuple[nn.Sequential, reference.Net, Episodes, dict]:
    """(model, the same net in the reference, episodes, the two losses)"""
    if kind == "mlp":
        loss = {"loss": mean_squared_error}
        return small_mlp(), reference.mlp, targets(), loss
    if kind == "stock":
        return stock_model(), reference.stock, images(), {"loss": cross_entropy}
    if kind == "max_pool":
        return (
            conv_model(kind),
            lambda w, x: reference.conv4(w, x, pool=True, mean=False),
            images(),
            {"loss": cross_entropy},
        )
    return conv_model(), reference.conv4, images(), {"loss": cross_entropy}


def library(
    model: nn.Sequential,
    episodes: Episodes,
    inner: InnerLoop,
    *,
    loss=cross_entropy,
    rates: Mapping[str, Tensor] | None = None,
    **options,
) -> MetaGradient:
    parameters = {**slow_weights(model), **{f"rate:{n}": r for n, r in (rates or {}).items()}}
    return meta_gradient(predictor(model, inner, loss=loss), parameters, episodes, loss, **options)


def expected(kind: str, inner: InnerLoop) -> tuple[float, dict[str, Tensor]]:
    """Loss and meta-gradient by the reference; which parameters adapt is worked out here anew."""
    model, net, episodes, _ = case(kind)
    blocks = [n for n, _ in model.named_children()]
    chosen = {"all": blocks, "head": blocks[-1:], "body": blocks[:-1], "none": []}[str(inner.blocks)]
    slow = dict(model.named_parameters())
    left_out = set() if inner.adapt_norm else norm_names(model)
    adapted = [n for n in slow if n.split(".")[0] in chosen and n not in left_out]
    loss = reference.squares if kind == "mlp" else reference.nll
    value = reference.meta_loss(
        net,
        slow,
        adapted,
        each_task(episodes),
        inner.steps,
        inner.lr,
        first_order=inner.first_order,
        loss=loss,
    )
    grads = torch.autograd.grad(value, list(slow.values()), allow_unused=True)
    return float(value.detach()), {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(slow.items(), grads, strict=True)
    }


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for n in wanted:
        torch.testing.assert_close(found[n], wanted[n], atol=1e-10, rtol=1e-8, msg=lambda m, n=n: f"{n}: {m}")


def differ(a: Tensor, b: Tensor, by: float = 1e-3) -> None:
    assert float((a - b).norm() / b.norm()) > by


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("recompute", [False, True])
def test_gradcheck_through_three_steps(blocks: str, recompute: bool) -> None:
    """The meta-gradient is the derivative of the meta-loss, by finite differences."""
    model, episodes = tiny(), images(tasks=2, way=2, shot=1, query=2, size=5, channels=1)
    slow = slow_weights(model)
    inner = InnerLoop(blocks=blocks, steps=3, lr=0.3, recompute=recompute, adapt_norm=True)
    predict = predictor(model, inner)

    def meta_loss(*weights: Tensor) -> Tensor:
        return cross_entropy(predict(dict(zip(slow, weights, strict=True)), episodes), episodes.query_y).mean()

    assert torch.autograd.gradcheck(meta_loss, tuple(slow.values()), fast_mode=recompute)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["steps", "parameters"])
def test_gradcheck_of_learned_rates(kind: str, recompute: bool) -> None:
    """Per block and step (MAML++) and per parameter (Meta-SGD)."""
    model, episodes = tiny(), images(tasks=2, way=2, shot=1, query=2, size=5, channels=1)
    slow = {n: p.detach() for n, p in slow_weights(model).items()}
    inner = InnerLoop(steps=3, lr=0.3, recompute=recompute)
    names = adapted_parameters(model, inner) if kind == "parameters" else ("body", "head")
    g = generator_for(0, "rates")
    shapes = [slow[n].shape if kind == "parameters" else (3,) for n in names]
    rates = tuple((0.1 + 0.3 * torch.rand(s, generator=g, dtype=torch.float64)).requires_grad_() for s in shapes)

    def meta_loss(*given: Tensor) -> Tensor:
        parameters = {**slow, **{f"rate:{n}": r for n, r in zip(names, given, strict=True)}}
        return cross_entropy(predictor(model, inner)(parameters, episodes), episodes.query_y).mean()

    assert torch.autograd.gradcheck(meta_loss, rates, fast_mode=recompute)


@plants(
    "body detached in ANIL",
    "core.inner:forward",
    lambda right: (
        lambda model, slow, fast, x, **more: (
            right(model, slow, fast, x, **more) if fast else right(model, slow, fast, x, **more).detach()
        )
    ),
)
@pytest.mark.parametrize("kind", ["stride", "max_pool", "mlp", "stock"])
@pytest.mark.parametrize(
    "inner",
    [
        InnerLoop("all", 2, 0.2),
        InnerLoop("all", 2, 0.2, first_order=True),
        InnerLoop("all", 2, 0.2, adapt_norm=True),
        InnerLoop("head", 3, 0.3),
        InnerLoop("head", 3, 0.3, first_order=True),
        InnerLoop("body", 2, 0.2),
        InnerLoop("none", 2, 0.2),
        InnerLoop("all", 0, 0.2),
    ],
    ids=lambda i: f"{i.blocks}{i.steps}{'_first' * i.first_order}{'_norm' * i.adapt_norm}",
)
def test_equals_the_reference(kind: str, inner: InnerLoop) -> None:
    """Tasks as one tensor program, in chunks, and recomputed = one task after the other in plain autograd."""
    model, _, episodes, options = case(kind)
    value, gradient = expected(kind, inner)
    for chunk in (1, 2, 3, None):
        out = library(model, episodes, inner, task_chunk=chunk, **options)
        assert out.loss == pytest.approx(value, rel=1e-10)
        same(out.gradient, gradient)
    if not inner.first_order:
        recomputed = InnerLoop(inner.blocks, inner.steps, inner.lr, adapt_norm=inner.adapt_norm, recompute=True)
        for chunk in (1, None):
            out = library(model, episodes, recomputed, task_chunk=chunk, **options)
            assert out.loss == pytest.approx(value, rel=1e-10)
            same(out.gradient, gradient)


@plants(
    "recomputation forgets learned rates",
    "core.inner:_recomputed_step",
    lambda right: (
        lambda rest, own, fast, rates, *more: right(rest, own, fast, {n: r.detach() for n, r in rates.items()}, *more)
    ),
)
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("blocks", ["all", "head", "body"])
def test_learned_rates_equal_the_reference(blocks: str, recompute: bool) -> None:
    """A rate a step for the blocks, and one a number for the last convolution; gradients of rates and weights."""
    model, episodes = conv_model(), images()
    g = generator_for(0, "rates")
    rates = {
        b: (0.1 + 0.2 * torch.rand(2, generator=g, dtype=torch.float64)).requires_grad_()
        for b, _ in model.named_children()
        if blocks == "all" or (b == "head") == (blocks == "head")
    }
    if blocks != "head":
        shape = model.get_parameter("conv4.conv.weight").shape
        rates["conv4.conv.weight"] = (0.2 * torch.rand(shape, generator=g, dtype=torch.float64)).requires_grad_()
    slow = slow_weights(model)
    adapted = [n for n in slow if block_of(n) in rates and "norm" not in n]
    value = reference.meta_loss(
        reference.conv4,
        slow,
        adapted,
        each_task(episodes),
        2,
        lambda n, step: rates[n] if n in rates else rates[n.split(".")[0]][step],
    )
    used = {k: r for k, r in rates.items() if k != "conv4"}
    grads = torch.autograd.grad(value, [*slow.values(), *used.values()])
    wanted = dict(zip([*slow, *(f"rate:{n}" for n in used)], grads, strict=True))
    if "conv4" in rates:
        wanted["rate:conv4"] = torch.zeros(2, dtype=torch.float64)
    for chunk in (1, None):
        out = library(model, episodes, InnerLoop(blocks, 2, 9.0, recompute=recompute), rates=rates, task_chunk=chunk)
        same(out.gradient, wanted)


def test_without_gradients_the_fast_weights_are_the_same() -> None:
    """Evaluation (no_grad) follows the same path as training, and gives detached weights."""
    model, episodes = conv_model(), images()
    slow = slow_weights(model)
    for inner in (InnerLoop("all", 2, 0.2), InnerLoop("head", 2, 0.2), InnerLoop("body", 2, 0.2)):
        args = (model, slow, episodes.support_x, episodes.support_y, inner)
        with torch.no_grad():
            without = list(adapt_path(*args))
        for a, b in zip(without, adapt_path(*args), strict=True):
            same(a, {n: w.detach() for n, w in b.items()})
            assert not any(w.requires_grad for w in a.values())
        assert all(p.grad is None for p in model.parameters())


def test_first_and_second_order_differ_where_they_must() -> None:
    """Catches a second order that silently is none, also where only the head adapts; and ANIL that adapts the body."""
    model, episodes = conv_model(), images()
    out = {
        (b, f): library(model, episodes, InnerLoop(b, 3, 0.3, first_order=f)).gradient
        for b in ("all", "head", "body")
        for f in (False, True)
    }
    for b in ("all", "head", "body"):
        differ(out[b, True]["conv1.conv.weight"], out[b, False]["conv1.conv.weight"])
        differ(out[b, True]["head.weight"], out[b, False]["head.weight"])
    differ(out["head", False]["conv4.conv.weight"], out["all", True]["conv4.conv.weight"])
    differ(out["head", True]["conv4.conv.weight"], out["all", True]["conv4.conv.weight"])
    differ(out["head", False]["conv4.conv.weight"], out["all", False]["conv4.conv.weight"])
    differ(out["body", False]["head.weight"], out["all", False]["head.weight"])


def test_the_support_set_teaches_and_the_query_set_does_not() -> None:
    """Fast weights depend on the support set only."""
    model, a, b = conv_model(), images(seed=0), images(seed=1)
    inner = InnerLoop("all", 1, 0.2)
    with torch.no_grad():
        mixed = Episodes(a.support_x, a.support_y, b.query_x, b.query_y)
        fast = adapt(model, slow_weights(model), a.support_x, a.support_y, inner)
        out = predictor(model, inner)(slow_weights(model), mixed)
        torch.testing.assert_close(out, forward(model, slow_weights(model), fast, b.query_x))
        other = adapt(model, slow_weights(model), b.support_x, b.support_y, inner)
    differ(fast["head.weight"], other["head.weight"])


# ---- which parameters adapt, and what runs how often


class Counting(nn.Module):
    """Counts its forward passes, in an object that it shares with the copies that run."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls: Counter[str] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        self.calls["forward"] += 1
        return self.inner(x)


def counted() -> nn.Sequential:
    layers = [Counting(nn.Linear(3, 3)) for _ in range(3)]
    return nn.Sequential(OrderedDict(one=layers[0], two=layers[1], three=layers[2], head=nn.Linear(3, 2))).double()


@plants(
    "body run in each step", "core.inner:split_model", lambda right: lambda model, adapted: (nn.Sequential(), model)
)
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    ("blocks", "calls"),
    [
        ("head", (1, 1, 1)),
        (["three", "head"], (1, 1, 5)),
        (["two"], (1, 5, 5)),
        ("body", (5, 5, 5)),
        ("all", (5, 5, 5)),
        ("none", (0, 0, 0)),
    ],
)
def test_blocks_before_the_first_adapted_one_run_once(blocks, calls: tuple[int, ...], tasks: int, grad: bool) -> None:
    """What makes ANIL fast: five inner steps, one pass of the body."""
    model = counted()
    x, y = torch.randn(tasks, 4, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1]).expand(tasks, 4)
    with torch.set_grad_enabled(grad):
        adapt(model, slow_weights(model), x, y, InnerLoop(blocks, 5, 0.1))
    assert tuple(m.calls["forward"] for m in model.modules() if isinstance(m, Counting)) == calls


@plants(
    "norm adapts unasked",
    "core.inner:adapted_parameters",
    lambda right: lambda model, inner: right(model, replace(inner, adapt_norm=True)),
)
def test_the_fast_dictionary_holds_what_adapts_and_nothing_else() -> None:
    """ANIL: only the head; BOIL: only the body; scale and shift of batch norm only when asked."""
    model, episodes = conv_model(), images()
    slow = slow_weights(model)

    def names(blocks, norm: bool = False) -> set[str]:
        inner = InnerLoop(blocks, 1, 0.1, adapt_norm=norm)
        fast = adapt(model, slow, episodes.support_x, episodes.support_y, inner)
        assert all(w.shape == (len(episodes), *slow[n].shape) for n, w in fast.items())
        return set(fast)

    convs = {f"conv{i}.conv.weight" for i in (1, 2, 3, 4)}
    norms = {f"conv{i}.norm.{p}" for i in (1, 2, 3, 4) for p in ("weight", "bias")}
    head = {"head.weight", "head.bias"}
    assert names("head") == head
    assert names("body") == convs
    assert names("all") == convs | head
    assert names("all", norm=True) == convs | head | norms == set(slow)
    assert names("none") == set()
    assert names(["conv4", "head"]) == {"conv4.conv.weight"} | head
    assert with_steps(InnerLoop(steps=3), 7).steps == 7


def test_nothing_is_changed_in_place() -> None:
    """A meta-gradient leaves the slow weights, the buffers and the episodes as they were."""
    for kind in ("stride", "stock", "mlp"):
        model, _, episodes, options = case(kind)
        before = {n: t.clone() for n, t in model.state_dict().items()}
        x, y = episodes.support_x.clone(), episodes.support_y.clone()
        library(model, episodes, InnerLoop("all", 2, 0.3), **options)
        with torch.no_grad():
            predictor(model, InnerLoop("all", 2, 0.3), **options)(slow_weights(model), episodes)
        assert not list(model.buffers())
        after = model.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[n], before[n]) for n in before)
        assert torch.equal(x, episodes.support_x)
        assert torch.equal(y, episodes.support_y)
        assert all(p.grad is None for p in model.parameters())


# ---- tasks


@settings(max_examples=8)
@given(order=st.permutations(range(4)), chunk=st.sampled_from([1, 2, 3, 4]))
def test_the_order_of_tasks_does_not_matter(order: list[int], chunk: int) -> None:
    model, episodes = small_mlp(), targets(tasks=4)
    options = {"loss": mean_squared_error, "task_chunk": chunk}
    one = library(model, episodes, InnerLoop("all", 2, 0.05), loss=mean_squared_error)
    other = library(model, pick(episodes, list(order)), InnerLoop("all", 2, 0.05), **options)
    same(other.gradient, one.gradient)
    torch.testing.assert_close(other.score, one.score[list(order)])


@plants(
    "only the last chunk counts",
    "core.outer:objective_gradient",
    lambda right: (
        lambda objective, parameters, episodes, *more, task_chunk=None, **options: right(
            objective, parameters, episodes[-(task_chunk or len(episodes)) :], *more, **options
        )
    ),
)
def test_a_doubled_batch_has_the_same_mean_and_the_sum_is_tasks_times_the_mean() -> None:
    """Catches a weight by chunk instead of by task, and a sum where a mean was meant."""
    model, episodes = small_mlp(), targets(tasks=3)
    inner, loss = InnerLoop("all", 2, 0.05), {"loss": mean_squared_error}
    mean = library(model, episodes, inner, **loss)
    twice = library(model, pick(episodes, [0, 1, 2, 0, 1, 2]), inner, task_chunk=4, **loss)
    same(twice.gradient, mean.gradient)
    assert twice.loss == pytest.approx(mean.loss)
    for chunk in (1, 2, None):
        total = library(model, episodes, inner, reduction="sum", task_chunk=chunk, **loss)
        same(total.gradient, {n: 3 * g for n, g in mean.gradient.items()})
        assert total.loss == pytest.approx(3 * mean.loss)
        torch.testing.assert_close(total.score, mean.score)


@plants(
    "tasks share a dropout mask",
    "core.functional:torch",
    lambda right: but(right, vmap=lambda f, **more: right.vmap(f, **{**more, "randomness": "same"})),
)
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("adapts", [True, False])
def test_tasks_drop_units_of_their_own(adapts: bool, tasks: int) -> None:
    """Equal tasks under dropout are equal no longer, and so are their fast weights: masks are not shared."""
    layers = OrderedDict(body=nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5)), head=nn.Linear(40, 2))
    torch.manual_seed(0)
    model = nn.Sequential(layers).double()
    slow = slow_weights(model)
    x = torch.randn(1, 5, 6, dtype=torch.float64).expand(tasks, 5, 6)
    y = torch.tensor([0, 1, 0, 1, 0]).expand(tasks, 5)
    inner = InnerLoop("all" if adapts else "head", 1, 0.3)
    fast = {n: w.detach() for n, w in adapt(model, slow, x, y, inner).items()}
    equal = {n: w.detach().expand(tasks, *w.shape) for n, w in slow.items() if n in fast}
    out, again = (forward(model, slow, equal, x).detach() for _ in range(2))
    differ(again, out, 0.05)  # and each pass has its own, too
    for t in range(1, tasks):
        differ(out[t], out[0], 0.05)
        differ(fast["head.weight"][t], fast["head.weight"][0], 0.05)
    model.eval()
    still = forward(model, slow, equal, x)
    torch.testing.assert_close(still, still[:1].expand_as(still))


# ---- learned rates and the proximal term


@plants("negative rates made positive", "core.inner:_rate", lambda right: lambda *given: abs(right(*given)))
@pytest.mark.parametrize("how", ["plain", "first_order", "recompute", "no_grad"])
def test_the_proximal_pull_has_the_rate_of_its_step_and_a_negative_rate_walks_uphill(how: str) -> None:
    """θ_m = θ_{m−1} − α_m ⊙ (∇L + λ (θ_{m−1} − θ)), with rates of a block's steps, of a parameter's numbers, or the
    loop's own; written out by plain autograd."""
    model, e, pull = small_mlp(), targets(), 3.0
    slow = slow_weights(model)
    g = generator_for(0, "rates")
    rates: dict[str, Tensor] = {
        "head": torch.tensor([0.1, -0.04], dtype=torch.float64),
        "hidden1.linear.weight": 0.1 * torch.randn(6, 1, generator=g, dtype=torch.float64),
    }
    assert bool((rates["hidden1.linear.weight"] < 0).any())

    def rate(name: str, step: int) -> float | Tensor:
        return rates[name] if name in rates else rates["head"][step] if name.startswith("head") else 0.05

    inner = InnerLoop("all", 2, 0.05, proximal=pull, first_order=how == "first_order", recompute=how == "recompute")
    with torch.set_grad_enabled(how != "no_grad"):
        fast = adapt(model, slow, e.support_x, e.support_y, inner, loss=mean_squared_error, rates=rates)
    for t, (x, y, _, _) in enumerate(each_task(e)):
        w: dict[str, Tensor] = dict(slow)
        for step in range(2):
            value = reference.squares(reference.mlp(w, x), y)
            grads = dict(zip(w, torch.autograd.grad(value, list(w.values())), strict=True))
            w = {n: p - rate(n, step) * (grads[n] + pull * (p - slow[n])) for n, p in w.items()}
        same({n: v[t] for n, v in fast.items()}, w)


# ---- memory


class Ledger:
    """Bytes of distinct storages that autograd holds for backward passes: now, and at most."""

    def __init__(self) -> None:
        self.holders: dict[int, int] = {}
        self.now = self.peak = 0

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        ledger = self

        class Held:
            def __init__(self, t: Tensor) -> None:
                self.t = t.detach()  # autograd joins it to its graph again; else a cycle keeps it alive
                storage = t.untyped_storage()
                self.key, self.size = storage.data_ptr(), storage.nbytes()
                if ledger.holders.setdefault(self.key, 0) == 0:
                    ledger.now += self.size
                    ledger.peak = max(ledger.peak, ledger.now)
                ledger.holders[self.key] += 1

            def __del__(self) -> None:
                ledger.holders[self.key] -= 1
                if ledger.holders[self.key] == 0:
                    ledger.now -= self.size

        return torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.t)


def peak(inner: InnerLoop, tasks: int) -> int:
    """Peak bytes for one meta-gradient; many examples and few weights, so that activations are what counts."""
    model, episodes = small_mlp(), targets(tasks=tasks, support=400, query=5)
    ledger = Ledger()
    gc.collect()
    with ledger.hooks():
        library(model, episodes, inner, loss=mean_squared_error)
    return ledger.peak


@plants(
    "recomputation keeps its activations",
    "core.inner:_recomputed_step",
    lambda right: lambda *given: _second_order_step(*given),
)
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("blocks", ["all", "body"])
def test_memory_does_not_grow_with_the_steps_when_recomputing(blocks: str, tasks: int) -> None:
    """Plain back-propagation holds each step's activations; recomputation one step's, and the weights of each."""
    weights = 8 * tasks * sum(p.numel() for p in small_mlp().parameters())
    plain = [peak(InnerLoop(blocks, k, 0.01), tasks) for k in (1, 4, 8)]
    again = [peak(InnerLoop(blocks, k, 0.01, recompute=True), tasks) for k in (1, 4, 8)]
    one_step = (plain[2] - plain[1]) / 4
    assert plain[1] - plain[0] > 2.5 * one_step > 50 * weights
    assert again[2] - again[1] <= 4 * weights * 1.5
    assert again[2] - again[0] <= 7 * weights * 1.5
    assert again[2] < plain[2] / 3


def test_recomputation_repeats_the_random_numbers_of_its_step() -> None:
    """Dropout in an adapted block: the way back must see the mask of the way there."""
    layers = OrderedDict(body=nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.5)), head=nn.Linear(8, 1))
    torch.manual_seed(0)
    model, found = nn.Sequential(layers).double(), []
    for recompute in (False, True):
        torch.manual_seed(1)
        inner = InnerLoop("all", 3, 0.1, recompute=recompute)
        found.append(library(model, targets(), inner, loss=mean_squared_error))
    assert found[0].loss == pytest.approx(found[1].loss)
    same(found[1].gradient, found[0].gradient)


# ---- what is refused


@plants("a start of other tasks is taken", "core.inner:_check_start", lambda right: lambda *given, **more: None)
@pytest.mark.parametrize("blocks", ["all", "head"])
@pytest.mark.parametrize("tasks", [1, 3])
def test_a_start_for_another_number_of_tasks_is_refused(tasks: int, blocks: str) -> None:
    model, e = small_mlp(), targets(tasks=tasks)
    slow = slow_weights(model)
    start = {"head.weight": torch.zeros(2, 1, 5, dtype=torch.float64)}
    with pytest.raises(InnerloopError, match=names("head.weight", tasks, (2, 1, 5))):
        adapt(model, slow, e.support_x, e.support_y, InnerLoop(blocks), loss=mean_squared_error, start=start)


def test_learned_rates_that_name_nothing_or_do_not_fit_are_refused() -> None:
    model, episodes = small_mlp(), targets()

    def run(key: str, rate: Tensor, blocks="head") -> None:
        adapt(
            model,
            slow_weights(model),
            episodes.support_x,
            episodes.support_y,
            InnerLoop(blocks),
            loss=mean_squared_error,
            rates={key: rate},
        )

    with pytest.raises(InnerloopError, match=names("body", "hidden1", "hidden2", "head")):
        run("body", torch.ones(()))
    with pytest.raises(InnerloopError, match=names("head.weight", (5,), (1, 5))):
        run("head.weight", torch.ones(5))
    run("hidden1", torch.tensor(1e9))  # a rate of what does not adapt is not used: the freezing test relies on it
    with pytest.raises(InnerloopError, match=names("head", (2, 2))):
        run("head", torch.ones(2, 2))
