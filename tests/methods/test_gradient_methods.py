"""The named methods: which blocks adapt, step by step outputs, and NIL's attention."""

import inspect
import math
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import reference
from innerloop.core.episodes import Episodes
from innerloop.core.functional import batch_statistics, forward, slow_weights
from innerloop.core.inner import InnerLoop, with_steps
from innerloop.core.losses import cross_entropy, mean_squared_error
from innerloop.core.outer import meta_gradient
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.methods.catalogue import ANIL, BOIL, FOMAML, MAML, MULTICLASS, MULTITASK, NIL, method
from innerloop.methods.gradient import body_features, learned, own_weights
from innerloop.methods.method import predictor
from innerloop.methods.metric import cosine_attention, nearest_pair
from naming import names
from planting import but, plants
from small import conv_model, each_task, images, small_mlp, step_outputs, targets

METHODS = (MAML, FOMAML, ANIL, BOIL, NIL, MULTITASK, MULTICLASS)
"""those of Raghu et al. 2020; the others are tested in test_families.py"""


@plants(
    "a method drops the loop's order",
    "methods.catalogue:Method.inner",
    lambda right: lambda self, loop: replace(right(self, loop), first_order=self.first_order),
)
@plants(
    "FOMAML of second order",
    "methods.catalogue:Method.inner",
    lambda right: lambda self, loop: replace(right(self, loop), first_order=loop.first_order),
)
@plants(
    "BOIL adapts the head",
    "methods.catalogue:Method.inner",
    lambda right: lambda self, loop: replace(right(self, loop), **({"blocks": "all"} if self.name == "boil" else {})),
)
def test_the_methods_are_what_their_papers_say() -> None:
    """Blocks, order and head of each; the loop's own steps and rate are kept."""
    loop = InnerLoop(blocks="none", steps=7, lr=0.3, recompute=True)
    table = {m.name: (m.inner(loop).blocks, m.inner(loop).first_order, m.head) for m in METHODS}
    assert table == {
        "maml": ("all", False, "model"),
        "fomaml": ("all", True, "model"),
        "anil": ("head", False, "model"),
        "boil": ("body", False, "model"),
        "nil": ("none", False, "cosine"),
        "multitask": ("none", False, "model"),
        "multiclass": ("none", False, "model"),
    }
    assert {m.name for m in METHODS if m.at_test.head == "cosine"} == {"nil", "multitask", "multiclass"}
    for m in METHODS:
        inner = m.inner(loop)
        assert (inner.steps, inner.lr, inner.recompute) == (7, 0.3, True)
        assert method(m.name) is m
    assert ANIL.inner(InnerLoop(first_order=True)).first_order
    with pytest.raises(InnerloopError, match=names("'maml2'", "maml", "fomaml", "anil", "boil", "meta-sgd")):
        inspect.unwrap(method)("maml2")


@pytest.mark.parametrize("m", METHODS, ids=lambda m: m.name)
def test_a_method_equals_the_reference(m) -> None:
    """From the method's name to its meta-gradient, against plain autograd. Catches an exchange of methods."""
    model, e = conv_model(), images()
    slow = slow_weights(model)
    inner = m.inner(InnerLoop(steps=2, lr=0.2))
    out = meta_gradient(predictor(model, inner, head=m.head), slow, e, cross_entropy)
    convs, head = [f"conv{i}.conv.weight" for i in (1, 2, 3, 4)], ["head.weight", "head.bias"]
    adapted = {"maml": convs + head, "fomaml": convs + head, "anil": head, "boil": convs}
    adapted |= {"multitask": [], "multiclass": []}
    if m.name == "nil":
        eye = {**slow, "head.weight": torch.eye(4, dtype=torch.float64), "head.bias": torch.zeros(4)}
        values = []
        for sx, sy, qx, qy in each_task(e):
            a, b = reference.conv4(eye, qx), reference.conv4(eye, sx)
            p = explicit_attention(a, b, sy, 3)
            values.append(-p[range(len(qy)), qy].log().mean())
        value = torch.stack(values).mean()
    else:
        first = m.name == "fomaml"
        value = reference.meta_loss(reference.conv4, slow, adapted[m.name], each_task(e), 2, 0.2, first_order=first)
    grads = torch.autograd.grad(value, list(slow.values()), allow_unused=True)
    assert out.loss == pytest.approx(float(value.detach()))
    for n, g in zip(slow, grads, strict=True):
        wanted = torch.zeros_like(slow[n]) if g is None else g
        torch.testing.assert_close(out.gradient[n], wanted, atol=1e-10, rtol=1e-8, msg=lambda t, n=n: f"{n}: {t}")


@pytest.mark.parametrize("statistics", ["batch", "support"])
@pytest.mark.parametrize("blocks", ["all", "head", "body", "none", ["conv4", "head"], ["conv2"]])
def test_step_outputs_are_those_of_k_steps(blocks, statistics) -> None:
    """Entry k = the whole method with k inner steps: what every curve over inner steps rests on."""
    model, e = conv_model(), images()
    slow = slow_weights(model)
    inner = InnerLoop(blocks, 3, 0.3)
    found = step_outputs(model, slow, e, inner, statistics=statistics)
    assert len(found) == (1 if blocks == "none" else 4)
    assert not found.requires_grad
    for k, out in enumerate(found):
        wanted = predictor(model, with_steps(inner, k), statistics=statistics)(slow, e)
        torch.testing.assert_close(out, wanted.detach())
        if k:
            assert not torch.allclose(out, found[k - 1])


@plants(
    "step outputs without learned rates",
    "methods.gradient:adapt_path",
    lambda right: lambda *given, rates=None, **more: right(*given, **more),
)
def test_step_outputs_with_learned_rates_and_another_loss() -> None:
    model, e = small_mlp(), targets()
    rates = {"rate:head": torch.tensor([0.1, 0.02], dtype=torch.float64)}
    parameters = {**slow_weights(model), **rates}
    inner = InnerLoop("all", 3, 0.05)
    found = step_outputs(model, parameters, e, inner, loss=mean_squared_error)
    for k, out in enumerate(found):
        wanted = predictor(model, with_steps(inner, k), loss=mean_squared_error)(parameters, e)
        torch.testing.assert_close(out, wanted.detach())
    slow, rates = own_weights(parameters), learned(parameters, "rate")
    assert set(slow) == set(slow_weights(model))
    assert set(rates) == {"head"}


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("kind", ["stride", "max_pool"])
def test_body_features_are_what_the_head_reads(kind: str, tasks: int) -> None:
    """The head's linear layer on them gives the model's output, with fast weights of the body too."""
    model, e = conv_model(kind), images()[:tasks]
    slow = slow_weights(model)
    fast = {n: p.expand(tasks, *p.shape) * 1.1 for n, p in slow.items() if n.startswith(("conv3", "head"))}
    for of in (None, batch_statistics(model, slow, fast, e.support_x)):
        f = body_features(model, slow, fast, e.query_x, of)
        out = torch.stack([F.linear(f[t], fast["head.weight"][t], fast["head.bias"][t]) for t in range(tasks)])
        torch.testing.assert_close(out, forward(model, slow, fast, e.query_x, statistics=of))


@plants(
    "transductive where it should not be",
    "methods.gradient:forward",
    lambda right: lambda *given, statistics=None, **more: right(*given, **more),
)
def test_nil_with_support_statistics_is_independent_of_the_other_queries() -> None:
    model, e = conv_model(), images()
    other = e.query_x.clone()
    other[:, 1:] += 1
    changed = Episodes(e.support_x, e.support_y, other, e.query_y)
    for statistics, same in (("support", True), ("batch", False)):
        predict = predictor(model, InnerLoop("none"), head="cosine", statistics=statistics)
        a, b = predict(slow_weights(model), e), predict(slow_weights(model), changed)
        assert torch.allclose(a[:, 0], b[:, 0]) == same


# ---- attention


def explicit_attention(query: Tensor, support: Tensor, y: Tensor, way: int, t: float = 1.0) -> Tensor:
    """Probabilities [query, way] of one task by loops."""
    rows = []
    for q in query:
        cosines = [(q * s).sum() / (q.norm() * s.norm()) for s in support]
        weights = [(t * c).exp() for c in cosines]
        total = sum(weights)
        by_class = [torch.zeros((), dtype=query.dtype) for _ in range(way)]
        for w, label in zip(weights, y.tolist(), strict=True):
            by_class[label] = by_class[label] + w / total
        rows.append(torch.stack(by_class))
    return torch.stack(rows)


def drawn(seed: int, support: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    g = generator_for(seed, "attention")
    query = torch.randn(2, 3, 4, generator=g, dtype=torch.float64)
    return query, torch.randn(2, support, 4, generator=g, dtype=torch.float64), torch.arange(support).expand(2, -1) % 3


@plants(
    "attention without its temperature",
    "methods.metric:cosine_attention",
    lambda right: lambda *given, temperature=1.0, **more: right(*given, **more),
)
@plants("features not normalised", "methods.metric:F", lambda right: but(right, normalize=lambda x, dim: x))
@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 10.0]), st.integers(4, 7))
def test_attention_equals_the_loops(seed: int, temperature: float, support: int) -> None:
    """Classes may have different numbers of support images; probabilities sum to 1."""
    q, s, y = drawn(seed, support)
    p = cosine_attention(q, s, y, temperature=temperature).exp()
    for t in range(2):
        torch.testing.assert_close(p[t], explicit_attention(q[t], s[t], y[t], 3, temperature))
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 3, dtype=torch.float64))


@given(st.integers(0, 10**6), st.permutations(range(6)), st.floats(0.1, 50))
def test_attention_ignores_scale_and_order(seed: int, order: list[int], scale: float) -> None:
    q, s, y = drawn(seed)
    a = cosine_attention(q, s, y)
    scales = torch.linspace(1, scale, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(cosine_attention(q * scale, s * scales, y), a)
    torch.testing.assert_close(cosine_attention(q, s[:, order], y[:, order]), a)


@plants(
    "nearest instead of sum",
    "methods.metric:cosine_attention",
    lambda right: lambda q, s, y, **_: nearest_pair(F.normalize(q, dim=-1) @ F.normalize(s, dim=-1).mT, y),
)
def test_attention_of_a_class_is_a_sum_and_not_the_nearest() -> None:
    """One exact match of class 0 against three near ones of class 1: the three win."""
    s = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]])
    p = cosine_attention(torch.tensor([[[1.0, 0.0]]]), s, torch.tensor([[0, 1, 1, 1]])).exp()[0, 0]
    assert p[1] > 0.7 > 0.3 > p[0]


def test_a_class_without_support_has_no_probability() -> None:
    q, s, y = drawn(0)
    p = cosine_attention(q, s, y, way=4).exp()
    assert p.shape == (2, 3, 4)
    assert not p[..., 3].any()
    assert math.isclose(float(p.sum()), 6)


def test_any_body_will_do() -> None:
    """A body of the user's in one block: only the order of blocks has a meaning."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(2 * 17 * 17, 4), nn.Tanh())
    model = nn.Sequential(OrderedDict(body=body, head=nn.Linear(4, 3))).double()
    e = images()
    for m in METHODS:
        out = meta_gradient(
            predictor(model, m.inner(InnerLoop(steps=1)), head=m.head), slow_weights(model), e, cross_entropy
        )
        assert math.isfinite(out.loss)
        assert out.gradient["body.1.weight"].any()
