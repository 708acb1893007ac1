"""Other heads on a trained body, other labellings of its own head, and the freezing test at its ends."""

import itertools
import math
import sys
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from innerloop.analysis import freezing, fresh_head, heads, label_permutations
from innerloop.core.episodes import Episodes, ImageTasks
from innerloop.core.functional import batch_statistics, block_names, forward, slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import accuracy
from innerloop.core.random import generator_for
from innerloop.data.sinusoid import Sinusoid
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, evaluate, fixed_episodes
from innerloop.methods.catalogue import ANIL, MAML, NIL
from innerloop.methods.gradient import body_features
from innerloop.methods.method import predictor
from innerloop.methods.metric import cosine_attention, euclidean_means
from innerloop.models import conv4, mlp
from innerloop.training import build
from naming import names
from planting import plants
from tiny import CONFIG, blobs

FAMILY = ImageTasks(blobs().split("test"), 3, 2, 3)
SETTINGS = EvalSettings(episodes=6, inner_steps=2)
INNER = InnerLoop(lr=0.4, steps=5)
COLUMNS = list(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    return build.build_model(CONFIG, blobs())


def batch(tasks: int = 4) -> Episodes:
    return FAMILY.sample(tasks, generator_for(0, "t"))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator_for(0, "heads", *shape))


# ── Euclidean distance to class means


def test_euclidean_means_equal_a_loop() -> None:
    q, s = normal(2, 4, 7), normal(2, 6, 7)
    y = torch.tensor([[0, 0, 0, 1, 2, 2], [2, 1, 1, 0, 1, 2]])
    found = euclidean_means(q, s, y)
    assert found.shape == (2, 4, 3)
    for t, i, c in itertools.product(range(2), range(4), range(3)):
        mean = np.mean([s[t, j].numpy() for j in range(6) if y[t, j] == c], axis=0)
        assert float(found[t, i, c]) == pytest.approx(-float(((q[t, i].numpy() - mean) ** 2).sum()), rel=1e-5)


def test_euclidean_means_of_single_unit_vectors_are_cosines() -> None:
    """‖q − s‖² = 2 − 2 cos, so that with one support image a class both heads order the classes alike."""
    q, s = (nn.functional.normalize(normal(3, n, 5), dim=-1) for n in (8, 4))
    y = torch.tensor([[0, 1, 2, 3]]).expand(3, -1)
    found = euclidean_means(q, s, y)
    torch.testing.assert_close(found, 2 * torch.einsum("tqd,tsd->tqs", q, s) - 2)
    assert torch.equal(found.argmax(-1), cosine_attention(q, s, y).argmax(-1))


def test_euclidean_means_keep_their_digits_far_from_zero_and_know_absent_classes() -> None:
    q, s, y = normal(1, 5, 3).double(), normal(1, 4, 3).double(), torch.tensor([[0, 1, 1, 0]])
    near, far = euclidean_means(q, s, y), euclidean_means(q + 1e6, s + 1e6, y)
    torch.testing.assert_close(near, far, rtol=1e-6, atol=1e-6)
    wide = euclidean_means(q, s, y, way=3)
    assert torch.equal(wide[..., :2], near)
    assert bool((wide[..., 2] == -torch.inf).all())


@pytest.mark.parametrize("statistics", ["batch", "support"])
def test_the_euclidean_head_in_prediction_and_evaluation(model, statistics) -> None:
    e, slow = batch(), slow_weights(model)
    of = batch_statistics(model, slow, {}, e.support_x) if statistics == "support" else None
    inner = replace(INNER, blocks="none")
    found = predictor(model, inner, head="euclidean", statistics=statistics)(slow, e)
    support, query = body_features(model, slow, {}, e.support_x), body_features(model, slow, {}, e.query_x, of)
    expected = torch.stack(
        [-(query - support[:, 2 * c : 2 * c + 2].mean(1, keepdim=True)).square().sum(-1) for c in range(3)], dim=-1
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    result = evaluate(predictor(model, inner, head="euclidean"), slow, FAMILY, replace(SETTINGS, statistics=statistics))
    scores = []
    for b in fixed_episodes(FAMILY, SETTINGS):
        predict = predictor(model, inner, head="euclidean", statistics=statistics)
        scores += accuracy(predict(slow, b), b.query_y).tolist()
    assert result.per_episode == tuple(scores)
    assert len(result.steps) == 1


# ── a new head


def test_fresh_head_leaves_the_given_weights_as_they_were(model) -> None:
    slow = slow_weights(model)
    before = {n: p.detach().clone() for n, p in slow.items()}
    weights = fresh_head(model, slow, generator_for(1, "head"))
    assert list(weights) == list(slow)
    assert all((weights[n] is p) == (not n.startswith("head.")) for n, p in slow.items())
    with torch.no_grad():
        for n in ("head.weight", "head.bias"):
            weights[n].add_(1.0)
    assert all(p is slow[n] and torch.equal(p, before[n]) for n, p in model.named_parameters())


@plants(
    "a new head of zeros",
    "analysis.heads:fresh_head",
    lambda right: lambda *given, **more: right(*given, **{**more, "zero": True}),
)
def test_fresh_head_is_drawn_as_models_are(model) -> None:
    weights = fresh_head(model, slow_weights(model), generator_for(1, "head"))
    expected = nn.init.xavier_uniform_(torch.empty(3, 4), generator=generator_for(1, "head"))
    assert torch.equal(weights["head.weight"], expected)
    assert not bool(weights["head.bias"].any())
    assert weights["head.weight"].requires_grad
    zero = fresh_head(model, slow_weights(model), generator_for(1, "head"), zero=True)
    assert not bool(zero["head.weight"].any())


@pytest.mark.parametrize("readout", ["mean", "flatten"])
@pytest.mark.parametrize("tasks", [1, 4])
def test_fresh_head_of_another_width(readout, tasks) -> None:
    """A classifier of seven classes gets a head of three, reads the body as before, and adapts as a net of three."""
    wide = conv4(7, image_size=16, filters=4, readout=readout, generator=generator_for(0, "wide"))
    slow = {**slow_weights(wide), "rate:head": torch.tensor([0.5])}
    weights = fresh_head(wide, slow, generator_for(0, "head"), outputs=3)
    assert weights["head.weight"].shape == (3, slow["head.weight"].shape[1])
    assert weights["head.bias"].shape == (3,)
    assert len(slow["head.weight"]) == 7
    assert weights["rate:head"] is slow["rate:head"]
    e = batch(tasks)
    expected = body_features(wide, slow, {}, e.query_x) @ weights["head.weight"].T
    torch.testing.assert_close(forward(wide, weights, {}, e.query_x), expected, rtol=1e-4, atol=1e-5)
    narrow = conv4(3, image_size=16, filters=4, readout=readout, generator=generator_for(0, "narrow"))
    narrow.load_state_dict({n: w for n, w in weights.items() if not n.startswith("rate:")})
    own = {**slow_weights(narrow), "rate:head": slow["rate:head"]}
    torch.testing.assert_close(predictor(wide, INNER)(weights, e), predictor(narrow, INNER)(own, e))


def test_fresh_head_within_a_block_and_without() -> None:
    def net(*more: nn.Module) -> nn.Sequential:
        top = nn.Sequential(nn.ReLU(), nn.Linear(5, 2, bias=False), *more)
        return nn.Sequential(OrderedDict([("body", nn.Linear(4, 5)), ("top", top)]))

    plain = net()
    weights = fresh_head(plain, slow_weights(plain), generator_for(0, "head"), outputs=3)
    assert weights["top.1.weight"].shape == (3, 5)
    assert forward(plain, weights, {}, torch.ones(1, 2, 4)).shape == (1, 2, 3)
    with pytest.raises(InnerloopError, match=names("outputs", 1, 0)):
        fresh_head(plain, slow_weights(plain), generator_for(0, "head"), outputs=0)
    for more, n in ((nn.Linear(2, 2), 2), (nn.LayerNorm(2), 1)):
        other = net(more)
        with pytest.raises(InnerloopError, match=names("top", "Sequential", n, "nn.Linear")):
            fresh_head(other, slow_weights(other), generator_for(0, "head"))


def test_table_of_heads(model) -> None:
    slow, seen = slow_weights(model), []
    rows = heads(model, slow, FAMILY, INNER, SETTINGS, report=lambda *a: seen.append(a))
    by = {r.name: r.evaluation.per_episode for r in rows}
    assert list(by) == ["as trained", "re-initialised", "zeros", "NIL, cosine", "NIL, Euclidean class means"]
    assert seen == [(i, 5) for i in range(6)]
    none = NIL.inner(INNER)
    own = evaluate(predictor(model, INNER), slow, FAMILY, SETTINGS)
    assert by["as trained"] == own.per_episode
    assert by["NIL, cosine"] == evaluate(predictor(model, none, head="cosine"), slow, FAMILY, SETTINGS).per_episode
    assert (
        by["NIL, Euclidean class means"]
        == evaluate(predictor(model, none, head="euclidean"), slow, FAMILY, SETTINGS).per_episode
    )
    drawn = {
        n: fresh_head(model, slow, generator_for(SETTINGS.seed, "fresh head"), zero=n == "zeros") for n in list(by)[1:3]
    }
    for name, weights in drawn.items():
        assert by[name] == evaluate(predictor(model, INNER), weights, FAMILY, SETTINGS).per_episode
    for r in rows:
        expected = np.array(r.evaluation.per_episode) - np.array(by["as trained"])
        assert r.difference.mean == pytest.approx(expected.mean())
    assert heads(model, slow, FAMILY, INNER, SETTINGS, whole=own)[0].evaluation is own


def test_table_of_heads_of_a_wide_classifier() -> None:
    wide = conv4(7, image_size=16, filters=4, generator=generator_for(0, "wide"))
    slow = slow_weights(wide)
    rows = heads(wide, slow, FAMILY, INNER, SETTINGS)
    assert [r.name for r in rows] == ["re-initialised", "zeros", "NIL, cosine", "NIL, Euclidean class means"]
    assert (rows[0].difference.mean, rows[0].difference.ci95) == (0.0, 0.0)
    assert len(heads(wide, slow, FAMILY, INNER, SETTINGS, whole=rows[0].evaluation)) == 5


# ── permutations of the labels


@plants(
    "the support alone is relabelled",
    "analysis.heads:_Relabelled.sample",
    lambda right: (
        lambda self, n, g: replace(
            right(self, n, g), query_y=torch.tensor(self.names).argsort()[right(self, n, g).query_y]
        )
    ),
)
@pytest.mark.parametrize(("blocks", "statistics"), [("all", "batch"), ("head", "support"), ("none", "batch")])
def test_relabelling_is_permuting_the_rows_of_the_head(model, blocks, statistics) -> None:
    bias = torch.tensor([0.1, -0.2, 0.3])  # a tie would go to the first column, whatever its name
    slow, inner = {**slow_weights(model), "head.bias": bias}, replace(INNER, blocks=blocks)
    settings = replace(SETTINGS, statistics=statistics)
    found = label_permutations(model, slow, FAMILY, inner, settings, task_chunk=4)
    assert list(found.permutations) == COLUMNS
    for p, row in zip(found.permutations, found.scores, strict=True):
        turned = {n: w[list(p)].detach() if n.startswith("head.") else w for n, w in slow.items()}
        expected = evaluate(predictor(model, inner), turned, FAMILY, settings).per_episode
        assert row.tolist() == pytest.approx(expected, abs=1e-6)
    assert len({tuple(row.tolist()) for row in found.scores}) > 1


@plants(
    "worst permutation is the mean", "analysis.heads:Permuted.worst", lambda right: property(lambda self: self.mean)
)
def test_numbers_of_the_permutations(model) -> None:
    seen: list[tuple[int, int]] = []
    found = label_permutations(model, slow_weights(model), FAMILY, INNER, SETTINGS, report=lambda *a: seen.append(a))
    scores = found.scores.numpy()
    assert scores.shape == (6, 6)
    assert seen == [(i, 6) for i in range(1, 7)]
    for e, per_episode in (
        (found.mean, scores.mean(0)),
        (found.best, scores.max(0)),
        (found.worst, scores.min(0)),
        (found.std, scores.std(0, ddof=1)),
    ):
        assert e.episodes == 6
        assert e.mean == pytest.approx(per_episode.mean())
        assert e.ci95 == pytest.approx(1.96 * per_episode.std(ddof=1) / math.sqrt(6))
    assert found.worst.mean < found.mean.mean < found.best.mean


def test_equal_columns_know_no_permutation(model) -> None:
    """A head whose columns start alike treats all classes alike, whatever adapts."""
    zero = fresh_head(model, slow_weights(model), generator_for(0, "head"), zero=True)
    same = {n: w[:1].expand_as(w) if n.startswith("head.") else w for n, w in slow_weights(model).items()}
    for slow in (zero, same):
        found = label_permutations(model, slow, FAMILY, INNER, SETTINGS)
        assert torch.equal(found.scores, found.scores[:1].expand_as(found.scores))
        assert found.std.mean == 0.0
        assert found.best == found.worst == found.mean


@plants(
    "permutations too few",
    "analysis.heads:_choose",
    lambda right: lambda way, permutations: right(way, permutations)[:-1],
)
def test_some_permutations_of_many() -> None:
    family = ImageTasks(blobs().split("test"), 5, 1, 1)
    net = mlp(256, 5, hidden=(4,), generator=generator_for(0, "net"))
    settings = replace(SETTINGS, episodes=3, inner_steps=1)
    one, other = (
        label_permutations(net, slow_weights(net), family, INNER, settings, permutations=7, task_chunk=c)
        for c in (None, 2)
    )
    p = one.permutations
    assert p[0] == (0, 1, 2, 3, 4)
    assert len(set(p)) == len(p) == 7
    assert all(sorted(q) == [0, 1, 2, 3, 4] for q in p)
    assert other.permutations == p
    assert torch.equal(one.scores, other.scores)
    assert (
        tuple(one.scores[0].tolist())
        == evaluate(predictor(net, INNER), slow_weights(net), family, settings).per_episode
    )


def test_what_cannot_be_permuted_is_refused(model) -> None:
    slow = slow_weights(model)
    with pytest.raises(InnerloopError, match=names("permutations", 2, 1)):
        label_permutations(model, slow, FAMILY, INNER, SETTINGS, permutations=1)
    with pytest.raises(InnerloopError, match=names(3, 2, "fresh_head")):
        label_permutations(model, slow, replace(FAMILY, way=2), INNER, SETTINGS)
    single = fresh_head(model, slow, generator_for(0, "head"), outputs=1)
    with pytest.raises(InnerloopError, match=names("one", 2, "ways")):
        label_permutations(model, single, replace(FAMILY, way=1), INNER, SETTINGS)
    with pytest.raises(InnerloopError, match=names("regressions")):
        label_permutations(model, slow, Sinusoid(3, 3), INNER, SETTINGS)


# ── the freezing test at its ends


def test_nothing_frozen_is_maml_and_all_but_the_head_is_anil_at_test(model) -> None:
    slow = slow_weights(model)
    rows = freezing(model, slow, FAMILY, INNER, SETTINGS)
    for row, kind in ((rows[0], MAML), (rows[-1], ANIL)):
        expected = evaluate(predictor(model, kind.inner(INNER)), slow, FAMILY, SETTINGS)
        assert row.evaluation.per_episode == expected.per_episode
    # another route to the last row: every block adapts, the body at rate 0
    still = {f"rate:{b}": torch.tensor(0.0) for b in block_names(model)[:-1]}
    e, settled = batch(), predictor(model, INNER)({**slow, **still}, batch())
    torch.testing.assert_close(predictor(model, replace(INNER, blocks="head"))(slow, e), settled, rtol=1e-4, atol=1e-5)


def test_all_frozen_under_nil_s_head_is_nil(model) -> None:
    slow = slow_weights(model)
    frozen = evaluate(predictor(model, replace(INNER, blocks=()), head="cosine"), slow, FAMILY, SETTINGS)
    assert (
        frozen.per_episode
        == evaluate(predictor(model, NIL.inner(INNER), head=NIL.head), slow, FAMILY, SETTINGS).per_episode
    )
    # the head alone adapts in vain: NIL does not look at it
    assert frozen == evaluate(predictor(model, replace(INNER, blocks="head"), head="cosine"), slow, FAMILY, SETTINGS)


def test_a_head_that_diverges_is_left_out(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One head that cannot be adapted must not cost the rest of a long analysis."""
    module = sys.modules["innerloop.analysis.heads"]  # the package's name for it is the function
    real = module.evaluate

    def diverging(net, weights, *more, **options):
        if not bool(weights["head.weight"].any()):
            raise FloatingPointError("diverged")
        return real(net, weights, *more, **options)

    monkeypatch.setattr(module, "evaluate", diverging)
    rows = heads(model, slow_weights(model), FAMILY, INNER, SETTINGS)
    assert [r.name for r in rows] == ["as trained", "re-initialised", "NIL, cosine", "NIL, Euclidean class means"]
