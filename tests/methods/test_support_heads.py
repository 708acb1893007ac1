"""Heads of support features: each against a loop over images, and what it must not depend on."""

import math
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.episodes import Episodes
from innerloop.core.functional import batch_statistics, slow_weights
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import cross_entropy
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.methods.gradient import body_features, pair_outputs
from innerloop.methods.heads import Metric, normalised, pair_logits, support_logits
from innerloop.methods.method import predictor
from innerloop.methods.metric import cosine_attention, cosine_means, euclidean_means, nearest_pair
from innerloop.models.head import FullContext, Linear, PairHead
from naming import names
from planting import plants
from small import conv_model, images, jiggle


def drawn(seed: int, support: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Query [2, 3, 4], support [2, n, 4], labels of 3 classes in no order, as many as come."""
    g = generator_for(seed, "heads")
    q, s = (torch.randn(2, n, 4, generator=g, dtype=torch.float64) for n in (3, support))
    y = (torch.arange(support) % 3).expand(2, -1).clone()
    return q, s, torch.stack([row[torch.randperm(support, generator=g)] for row in y])


def members(s: Tensor, y: Tensor, c: int) -> list[Tensor]:
    return [s[i] for i in range(len(s)) if int(y[i]) == c]


@given(st.integers(0, 10**6), st.integers(3, 8))
def test_cosine_means_equal_a_loop(seed: int, support: int) -> None:
    """The cosine with the mean, not the mean of the cosines; within −1 and 1."""
    q, s, y = drawn(seed, support)
    found = cosine_means(q, s, y)
    for t in range(2):
        for c in range(3):
            own = members(s[t], y[t], c)
            mean = torch.stack(own).sum(0) / len(own)
            for i in range(3):
                wanted = (q[t, i] * mean).sum() / (q[t, i].norm() * mean.norm())
                torch.testing.assert_close(found[t, i, c], wanted)
    assert float(found.abs().max()) <= 1 + 1e-12


@plants(
    "class means by plain distance",
    "methods.metric:euclidean_means",
    lambda right: lambda *given, **more: -(-right(*given, **more)).sqrt(),
)
@given(st.integers(0, 10**6), st.integers(3, 8))
def test_euclidean_means_equal_a_loop(seed: int, support: int) -> None:
    """Labels in no order and classes of different size."""
    q, s, y = drawn(seed, support)
    found = euclidean_means(q, s, y)
    for t in range(2):
        for c in range(3):
            own = members(s[t], y[t], c)
            mean = sum(own[1:], own[0]) / len(own)
            for i in range(3):
                torch.testing.assert_close(found[t, i, c], -((q[t, i] - mean) ** 2).sum())


def test_the_gradient_of_euclidean_means_is_the_closed_form_even_at_distance_0() -> None:
    """∂/∂q −‖q − μ‖² = −2 (q − μ): 0, not NaN, for a query that is its class's only image."""
    q, s, y = drawn(0, 3)
    q[:, 0] = s[:, 0]
    q.requires_grad_()
    euclidean_means(q, s, y).sum().backward()
    wanted = -2 * (3 * q - s.sum(1, keepdim=True))
    torch.testing.assert_close(q.grad, wanted.detach())


def test_one_exact_match_beats_three_near_ones_only_for_the_nearest_pair() -> None:
    z = torch.tensor([[[5.0, 4.9, 4.8, 4.7], [0.0, -1.0, 2.0, 1.0]]])
    y = torch.tensor([[0, 1, 1, 1]])
    torch.testing.assert_close(nearest_pair(z, y), torch.tensor([[[5.0, 4.9], [0.0, 2.0]]]))
    assert nearest_pair(z, y).argmax(-1).tolist() == [[0, 1]]
    s = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]]])
    assert cosine_attention(s[:, :1], s, y).argmax(-1).tolist() == [[1]]


@pytest.mark.parametrize("head", [euclidean_means, cosine_means])
def test_a_class_without_support_is_never_chosen(head) -> None:
    q, s, y = drawn(0)
    wide = head(q, s, y, way=5)
    assert wide.shape == (2, 3, 5)
    assert bool((wide[..., 3:] == -math.inf).all())
    torch.testing.assert_close(wide[..., :3], head(q, s, y))
    torch.manual_seed(0)
    z = torch.randn(2, 3, 7)
    assert bool((nearest_pair(z, y, way=4)[..., 3] == -math.inf).all())


@pytest.mark.parametrize("head", ["cosine", "euclidean", "cosine_means", "pairs"])
def test_each_head_has_a_column_for_every_class_of_the_episode(head) -> None:
    """Also for the last ones, if no support image has their label."""
    q, s, y = drawn(0)
    block = PairHead(4).double()
    out = support_logits(head, q, s, y, block=block, weights=dict(block.named_parameters()), way=5)
    assert out.shape == (2, 3, 5)
    assert bool((out[..., 3:] == -math.inf).all())
    assert bool(out[..., :3].isfinite().all())


@given(st.integers(0, 10**6), st.permutations(range(7)), st.permutations(range(3)))
def test_the_order_of_the_support_set_changes_nothing_and_labels_permute_columns(
    seed: int, order: list[int], names: list[int]
) -> None:
    q, s, y = drawn(seed)
    rename = torch.tensor(names)
    for head in (cosine_attention, euclidean_means, cosine_means):
        wanted = head(q, s, y)
        torch.testing.assert_close(head(q, s[:, order], y[:, order]), wanted)
        torch.testing.assert_close(head(q, s, rename[y])[..., rename], wanted)
    z = torch.einsum("tqd,tsd->tqs", q, s)
    torch.testing.assert_close(nearest_pair(z[..., order], y[:, order]), nearest_pair(z, y))


@plants(
    "support features of the body that is not adapted",
    "methods.method:body_features",
    lambda right: lambda *given: right(*given) if len(given) == 5 else right(*given[:2], {}, given[3]),
)
@pytest.mark.parametrize("head", ["cosine", "euclidean"])
def test_an_adapted_body_sees_the_support_set_too(head) -> None:
    """Where the body adapts, support and query features are both those of the fast weights."""
    model, e = conv_model(), images()
    slow, inner = slow_weights(model), InnerLoop("body", 2, 0.3)
    out = predictor(model, inner, head=head, temperature=2.0)(slow, e)
    fast = adapt(model, slow, e.support_x, e.support_y, inner)
    q, s = (body_features(model, slow, fast, x) for x in (e.query_x, e.support_x))
    logits = cosine_attention if head == "cosine" else euclidean_means
    mine = logits(q, s, e.support_y, temperature=2.0) if head == "cosine" else 2.0 * logits(q, s, e.support_y)
    torch.testing.assert_close(out, mine)
    early = body_features(model, slow, {}, e.support_x)
    assert not torch.allclose(s, early, rtol=1e-2)


# ---- normalisation


def test_normalised_by_hand() -> None:
    """l2: length 1. centre: the mean of the support alone leaves both sets, task by task; then length 1."""
    q, s, _ = drawn(1)
    a, b = normalised(q, s, "none")
    assert a is q
    assert b is s
    a, b = normalised(q, s, "l2")
    torch.testing.assert_close(a, q / q.pow(2).sum(-1, keepdim=True).sqrt())
    torch.testing.assert_close(b, s / s.pow(2).sum(-1, keepdim=True).sqrt())
    a, b = normalised(q, s, "centre")
    for t in range(2):
        mean = sum(s[t, 1:], s[t, 0]) / 7
        for x, found in ((q[t], a[t]), (s[t], b[t])):
            for row, f in zip(x, found, strict=True):
                torch.testing.assert_close(f, (row - mean) / ((row - mean) ** 2).sum().sqrt())


@plants("centred by the query set", "methods.heads:normalised", lambda right: lambda q, s, how: right(s, q, how)[::-1])
def test_centring_forgets_a_shift_of_all_features_and_does_not_look_at_the_query() -> None:
    q, s, y = drawn(2)
    options = {"block": nn.Identity(), "weights": {}, "normalise": "centre"}
    a = support_logits("cosine", q, s, y, **options)
    torch.testing.assert_close(support_logits("cosine", q + 3, s + 3, y, **options), a)
    torch.testing.assert_close(support_logits("cosine", q[:, :1], s, y, **options), a[:, :1])


def test_of_unit_features_euclidean_means_of_one_shot_are_twice_the_cosine() -> None:
    """−‖q − s‖² = 2 cos − 2: the two distances differ by a constant, and temperature halves."""
    q, s, y = drawn(3, 3)
    options = {"block": nn.Identity(), "weights": {}, "normalise": "l2"}
    a = support_logits("euclidean", q, s, y, temperature=0.5, **options)
    b = support_logits("cosine_means", q, s, y, **options)
    torch.testing.assert_close(a, b - 1)


@plants(
    "temperature forgotten",
    "methods.heads:support_logits",
    lambda right: lambda *given, temperature=1.0, **more: right(*given, **more),
)
def test_temperature_multiplies_distances_and_cosines() -> None:
    q, s, y = drawn(4)
    options = {"block": nn.Identity(), "weights": {}}
    for head in ("euclidean", "cosine_means"):
        one = support_logits(head, q, s, y, **options)
        torch.testing.assert_close(support_logits(head, q, s, y, temperature=3.0, **options), 3 * one)
    hot = support_logits("cosine", q, s, y, temperature=3.0, **options)
    torch.testing.assert_close(hot, cosine_attention(q, s, y, temperature=3.0))


def test_metric_chooses_the_distance_of_the_class_means_alone() -> None:
    cosine = Metric(distance="cosine")
    assert cosine.head("euclidean") == "cosine_means"
    assert Metric().head("euclidean") == "euclidean"
    for head in ("model", "cosine", "pairs"):
        assert cosine.head(head) == head


# ---- pairs


def pair_model(features: int = 5) -> nn.Sequential:
    """A linear body and a `PairHead` that is not at its beginning."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(2 * 17 * 17, features), nn.Tanh())
    return jiggle(nn.Sequential(OrderedDict(body=body, head=PairHead(features))).double())


def test_siamese_training_is_the_binary_cross_entropy_of_the_weighted_l1_distance() -> None:
    """From images to the loss, by hand: −log σ(z) for one class, −log(1 − σ(z)) for two."""
    model, e = pair_model(), images()
    pairs = Episodes(e.support_x, torch.zeros_like(e.support_y), e.query_x, e.query_y % 2)
    slow = slow_weights(model)
    out = pair_outputs(model, slow, pairs, Metric())
    found = cross_entropy(out, pairs.query_y)
    w, b = slow["head.weight"], slow["head.bias"]
    for t in range(3):
        losses = []
        for i in range(6):
            f, g = (model[0](x[t, i][None])[0] for x in (pairs.support_x, pairs.query_x))
            z = b - sum(w[j] * (f[j] - g[j]).abs() for j in range(5))
            torch.testing.assert_close(out[t, i, 1] - out[t, i, 0], z)
            p = 1 / (1 + (-z).exp())
            losses.append(-(p if int(pairs.query_y[t, i]) else 1 - p).log())
        torch.testing.assert_close(found[t], torch.stack(losses).mean())
    torch.testing.assert_close(
        found,
        F.binary_cross_entropy_with_logits(out[..., 1] - out[..., 0], pairs.query_y.double(), reduction="none").mean(1),
    )


def test_siamese_test_is_the_best_match_among_all_support_images() -> None:
    model, e = pair_model(), images()
    out = predictor(model, InnerLoop("none"), head="pairs")(slow_weights(model), e)
    slow = slow_weights(model)
    w, b = slow["head.weight"], slow["head.bias"]
    q, s = (body_features(model, slow, {}, x) for x in (e.query_x, e.support_x))
    for t in range(3):
        for i in range(6):
            z = [b - (w * (q[t, i] - s[t, j]).abs()).sum() for j in range(6)]
            for c in range(3):
                own = [v for v, label in zip(z, e.support_y[t].tolist(), strict=True) if label == c]
                torch.testing.assert_close(out[t, i, c], torch.stack(own).max())


def test_the_two_images_of_a_pair_may_change_places() -> None:
    a, b, _ = drawn(5, 3)
    model = jiggle(nn.Sequential(OrderedDict(head=PairHead(4))).double())
    weights = {n.removeprefix("head."): p for n, p in model.named_parameters()}
    options = {"block": model[-1], "weights": weights}
    torch.testing.assert_close(pair_logits(a, b, **options), pair_logits(b, a, **options))
    near = pair_logits(a, a, **options)
    torch.testing.assert_close(near[..., 1], weights["bias"].expand(2, 3))
    assert not near[..., 0].any()


def test_pairs_are_normalised_as_at_test_and_cannot_be_centred() -> None:
    a, b, _ = drawn(6, 3)
    head = PairHead(4).double()
    options = {"block": head, "weights": dict(head.named_parameters())}
    found = pair_logits(2 * a, 3 * b, normalise="l2", **options)
    torch.testing.assert_close(found, pair_logits(F.normalize(a, dim=-1), F.normalize(b, dim=-1), **options))
    with pytest.raises(InnerloopError, match=names("support", "l2", "none")):
        pair_logits(a, b, normalise="centre", **options)


def test_the_pairs_head_needs_its_block() -> None:
    q, s, y = drawn(0)
    with pytest.raises(InnerloopError, match=names("PairHead", "Linear")):
        support_logits("pairs", q, s, y, block=Linear(4, 3), weights={})


# ---- a whole method by its head


@pytest.mark.parametrize("statistics", ["batch", "support"])
def test_a_head_of_features_sees_the_features_of_the_body(statistics) -> None:
    """Prototypes of the support images, distances of the query ones; the temperature and the metric arrive."""
    model, e = conv_model(), images()
    slow = slow_weights(model)
    of = batch_statistics(model, slow, {}, e.support_x) if statistics == "support" else None
    q, s = body_features(model, slow, {}, e.query_x, of), body_features(model, slow, {}, e.support_x)
    options = {"statistics": statistics, "temperature": 2.0}
    found = predictor(model, InnerLoop("none"), head="euclidean", **options)(slow, e)
    torch.testing.assert_close(found, 2 * euclidean_means(q, s, e.support_y))
    found = predictor(model, InnerLoop("none"), head="euclidean", metric=Metric(distance="cosine"), **options)(slow, e)
    torch.testing.assert_close(found, 2 * cosine_means(q, s, e.support_y))
    found = predictor(model, InnerLoop("none"), head="cosine", metric=Metric(normalise="centre"), **options)(slow, e)
    torch.testing.assert_close(found, cosine_attention(*normalised(q, s, "centre"), e.support_y, temperature=2.0))


def test_the_context_comes_before_the_cosine() -> None:
    """Matching networks with full context: attention between embedded images, which learn from the loss."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(2 * 17 * 17, 4), nn.Tanh())
    model = nn.Sequential(OrderedDict(body=body, head=FullContext(4, reads=2))).double()
    e = images()
    slow = slow_weights(model)
    out = predictor(model, InnerLoop("none"), head="cosine", temperature=3.0)(slow, e)
    q, s = (torch.stack([model[0](x[t]) for t in range(3)]) for x in (e.query_x, e.support_x))
    f, g = model[-1](q, s)
    torch.testing.assert_close(out, cosine_attention(f, g, e.support_y, temperature=3.0))
    grads = torch.autograd.grad(cross_entropy(out, e.query_y).sum(), list(slow.values()))
    assert all(bool(g.any()) for g in grads)
