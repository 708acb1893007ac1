"""Each method against a slow computation of its own; what must not change a prediction; what is refused."""

import math
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.nn import functional as F

from innerloop.core.inner import InnerLoop
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.estimator import METHODS, FewShotClassifier, choose_method
from innerloop.estimator.bodies import resolve
from innerloop.estimator.choose import _turned, left_out_rows
from innerloop.estimator.heads import UnitLinear, adapt_head
from innerloop.models import conv4
from naming import names
from planting import but, plants

RNG = np.random.default_rng(0)
F_ = RNG.normal(size=(9, 4)) + np.repeat(np.eye(3, 4), 3, axis=0)
L = np.repeat([5, -1, 2], 3)
QUERY = RNG.normal(size=(7, 4)) + 0.5


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_nil_is_attention_over_support_images() -> None:
    model = FewShotClassifier(temperature=3.0).fit(F_, L)
    expected = np.zeros((7, 3))
    for q in range(7):
        weights = [math.exp(3 * float(unit(QUERY[q]) @ unit(s))) for s in F_]
        for w, label in zip(weights, L, strict=True):
            expected[q, [-1, 2, 5].index(label)] += w / sum(weights)
    np.testing.assert_allclose(model.predict_proba(QUERY), expected)
    assert model.classes_.tolist() == [-1, 2, 5]
    nearest = [int(np.argmax([unit(q) @ unit(s) for s in F_])) for q in QUERY]
    assert model.nearest_support(QUERY).tolist() == nearest
    assert np.array_equal(model.features(QUERY), QUERY)
    assert np.array_equal(model.support_features_, F_)


def test_nil_counts_the_mean_vote_of_a_class() -> None:
    """Twice as many images of a class, each one doubled, say nothing new; by the sum of votes they would."""
    more = np.concatenate([F_, F_[:3]])  # the class 5 twice
    model = FewShotClassifier(temperature=3.0).fit(more, np.concatenate([L, L[:3]]))
    np.testing.assert_allclose(
        model.predict_proba(QUERY), FewShotClassifier(temperature=3.0).fit(F_, L).predict_proba(QUERY)
    )


def test_means_is_the_nearest_class_mean() -> None:
    model = FewShotClassifier(method="means", temperature=2.0).fit(F_, L)
    means = np.stack([unit(F_)[c == L].mean(0) for c in (-1, 2, 5)])
    logits = -2 * np.square(unit(QUERY)[:, None] - means).sum(-1)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(QUERY), expected)


def test_anil_is_gradient_descent_of_a_head_from_zero() -> None:
    """By the closed form of the gradient of softmax regression."""
    model = FewShotClassifier(method="anil", steps=4, lr=2.0).fit(F_, L)
    x, onehot = unit(F_), (L[:, None] == np.array([-1, 2, 5])).astype(float)
    w, b = np.zeros((3, 4)), np.zeros(3)
    for _ in range(4):
        p = np.exp(x @ w.T + b)
        d = (p / p.sum(1, keepdims=True) - onehot) / len(x)
        w, b = w - 2.0 * d.T @ x, b - 2.0 * d.sum(0)
    expected = np.exp(unit(QUERY) @ w.T + b)
    np.testing.assert_allclose(model.predict_proba(QUERY), expected / expected.sum(1, keepdims=True))
    none = FewShotClassifier(method="anil", steps=0).fit(F_, L)
    np.testing.assert_allclose(none.predict_proba(QUERY), 1 / 3)


IMAGES = (0.7 * RNG.random((3, 1, 16, 16))[[0, 1, 2] * 2] + 0.3 * RNG.random((6, 1, 16, 16))).astype(np.float32)
Y = np.array([0, 1, 2] * 2)


def network(way: int = 3) -> nn.Sequential:
    return conv4(way, image_size=16, filters=4, generator=generator_for(0, "init"))


def loop(model: nn.Sequential, names: set[str], steps: int, lr: float) -> nn.Sequential:
    """Plain gradient descent with autograd on a copy, the parameters with these names alone."""
    x, y = torch.from_numpy(IMAGES), torch.from_numpy(Y)
    for _ in range(steps):
        p = {n: w for n, w in model.named_parameters() if n.split(".")[0] in names and ".norm." not in n}
        grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(p.values()))
        with torch.no_grad():
            for w, g in zip(p.values(), grads, strict=True):
                w -= lr * g
    return model


@pytest.mark.parametrize(
    ("method", "blocks"), [("anil", {"head"}), ("finetune", {"conv1", "conv2", "conv3", "conv4", "head"})]
)
def test_the_models_own_head_adapts_as_plain_gradient_descent(method: str, blocks: set[str]) -> None:
    given = network()
    before = {n: w.clone() for n, w in given.named_parameters()}
    model = FewShotClassifier(given, method=method, steps=3, lr=0.3, statistics="batch").fit(IMAGES, Y)
    adapted = loop(network(), blocks, 3, 0.3)
    with torch.no_grad():
        expected = adapted(torch.from_numpy(IMAGES)).softmax(1)
    np.testing.assert_allclose(model.predict_proba(IMAGES), expected, atol=1e-5)
    assert all(torch.equal(w, before[n]) for n, w in given.named_parameters()), "the user's model was changed"


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("method", ["nil", "finetune"])
def test_threads_share_a_classifier(method: str, threads: int) -> None:
    """Catches weights swapped into the shared network for the time of a call."""
    given = network()
    model = FewShotClassifier(given, method=method, steps=3, lr=0.3).fit(IMAGES, Y)
    queries = [RNG.random((2, 16, 16)).astype(np.float32) for _ in range(8)]
    expected = [model.predict_proba(q) for q in queries]

    def work(i: int) -> np.ndarray:
        if i % 2:  # another one is fitted on the same network at the same time
            FewShotClassifier(given, method=method, steps=3, lr=0.1).fit(IMAGES, Y)
        return model.predict_proba(queries[i])

    with ThreadPoolExecutor(threads) as pool:
        for found, right in zip(pool.map(work, range(8)), expected, strict=True):
            assert np.array_equal(found, right)


@pytest.mark.parametrize("method", ["nil", "means", "anil", "finetune"])
@pytest.mark.parametrize("way", [3, 5])
def test_one_query_image_does_not_depend_on_the_others(method: str, way: int) -> None:
    """The default; and what "batch" says it is. Catches batch norm over the query set, and over a chunk of it."""
    query = RNG.random((5, 16, 16)).astype(np.float32)
    model = FewShotClassifier(network(way), method=method, batch_size=2, steps=2).fit(IMAGES, Y)
    whole = model.predict_proba(query)
    np.testing.assert_allclose(whole[3:4], model.predict_proba(query[3:4]), atol=1e-5)
    batch = FewShotClassifier(network(way), method=method, batch_size=2, steps=2, statistics="batch").fit(IMAGES, Y)
    assert not np.allclose(batch.predict_proba(query)[3:4], batch.predict_proba(query[3:4]), atol=1e-5)
    np.testing.assert_allclose(batch.predict_proba(query)[::-1], batch.predict_proba(query[::-1]), atol=5e-5)


@pytest.mark.parametrize("method", ["nil", "means", "anil", "finetune"])
def test_the_order_and_the_names_of_classes_do_not_matter(method: str) -> None:
    order = RNG.permutation(6)
    a = FewShotClassifier(network(5), method=method, steps=2).fit(IMAGES, Y)
    b = FewShotClassifier(network(5), method=method, steps=2).fit(IMAGES[order], np.array(["z", "y", "x"])[Y][order])
    np.testing.assert_allclose(a.predict_proba(IMAGES), b.predict_proba(IMAGES)[:, ::-1], atol=1e-5)


def test_a_head_for_a_map_of_features_reads_it_as_the_old_one_did() -> None:
    """Another way: the head is replaced, and its width is that of the readout."""
    for readout, width in (("mean", 4), ("flatten", 4)):
        given = conv4(7, image_size=16, filters=4, readout=readout, generator=generator_for(0))  # type: ignore[arg-type]
        model = FewShotClassifier(given, method="finetune", steps=1).fit(IMAGES, Y)
        assert model.features(IMAGES).shape == (6, width)
        assert model.predict_proba(IMAGES).shape == (6, 3)
    body = nn.Sequential(OrderedDict(body=nn.Conv2d(1, 5, 3)))
    for method in ("nil", "anil", "finetune"):
        model = FewShotClassifier(body, method=method, steps=1).fit(IMAGES, Y)
        expected = body[0](torch.from_numpy(IMAGES)).mean((2, 3)).detach()
        assert model.support_features_.shape == (6, 5)
        if method != "finetune":
            np.testing.assert_allclose(model.support_features_, expected, atol=1e-6)


def test_finetuning_begins_where_the_head_ends() -> None:
    """With no step for the body, the head's own adaptation is what predicts; the body's steps then lower the loss."""
    body = nn.Sequential(OrderedDict(body=nn.Conv2d(1, 5, 3)))
    head = FewShotClassifier(body, method="anil").fit(IMAGES, Y).predict_proba(IMAGES)
    same = FewShotClassifier(body, method="finetune", steps=0).fit(IMAGES, Y).predict_proba(IMAGES)
    np.testing.assert_allclose(head, same, atol=1e-5)
    more = FewShotClassifier(body, method="finetune", steps=20, lr=0.1).fit(IMAGES, Y).predict_proba(IMAGES)
    rows = np.arange(6)
    assert np.log(more[rows, Y]).mean() > np.log(head[rows, Y]).mean()


def test_a_heads_rate_is_for_features_of_length_one() -> None:
    support, y = torch.from_numpy(F_), torch.from_numpy(np.repeat([0, 1, 2], 3))
    a, b = (adapt_head(k * support, y, InnerLoop("head", steps=5, lr=1.0)) for k in (1, 100))
    assert isinstance(a, UnitLinear)
    torch.testing.assert_close(a.weight, b.weight)


def test_a_diverged_inner_loop_is_said() -> None:
    model = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Flatten(), nn.Linear(256, 5)), head=nn.Linear(5, 3)))
    with pytest.raises(FloatingPointError, match=names("lr", "1e+30")):
        FewShotClassifier(model, method="finetune", steps=5, lr=1e30).fit(IMAGES, Y)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "mean"}, ("method", "'mean'", *METHODS)),
        ({"statistics": "mine"}, ("statistics", "'mine'", "support", "batch")),
        ({"steps": -1}, ("steps", "-1", 0)),
        ({"batch_size": 0}, ("batch_size", 0, 1)),
        ({"image_size": 2.5}, ("image_size", 2.5, 1)),
        ({"lr": 0.0}, ("lr", 0.0)),
        ({"temperature": float("nan")}, ("temperature", "nan", 0)),
        (
            {"model": 7},
            ("model", 7, "'pretrained'", "nn.Sequential"),
        ),
        ({"method": "finetune"}, ("X", "features", "finetune")),
        ({"method": "maml"}, ("X", "features", "maml")),
    ],
)
def test_parameters_that_do_not_fit_are_said(options: dict[str, Any], named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        FewShotClassifier(**options).fit(F_, L)


def test_data_that_does_not_fit_is_said() -> None:
    with pytest.raises(InnerloopError, match=names("y", 1.0, 2)):
        FewShotClassifier().fit(F_, np.ones(9))
    with pytest.raises(InnerloopError, match=names("X", 6, "y", 5)):
        FewShotClassifier(network()).fit(IMAGES, Y[:5])
    with pytest.raises(InnerloopError, match=names("FewShotClassifier", "y", None)):
        FewShotClassifier(network()).fit(IMAGES, None)
    with pytest.raises(InnerloopError, match=names("'maml'", "nil", "means", "anil", "finetune")):
        FewShotClassifier(network(), method="maml").fit(IMAGES, Y)
    fitted = FewShotClassifier(network()).fit(IMAGES, Y)
    with pytest.raises(InnerloopError, match=names("images", "X", "ndarray", (9, 4))):
        fitted.predict(F_)
    for call in ("predict", "predict_proba", "features", "nearest_support"):
        with pytest.raises(NotFittedError):
            getattr(FewShotClassifier(), call)(F_)


def test_a_fit_that_fails_leaves_nothing_to_predict_with(tmp_path: Path) -> None:
    """It left the new labels on the old support set."""
    few = FewShotClassifier(network()).fit(IMAGES, Y)
    with pytest.raises(InnerloopError, match=names(tmp_path / "0.png")):
        few.fit([tmp_path / f"{i}.png" for i in range(6)], np.array(["p", "q", "r"])[Y])
    with pytest.raises(NotFittedError):
        few.predict(IMAGES)
    assert few.fit(IMAGES, Y).predict(IMAGES).shape == (6,)


def test_one_image_a_class_is_no_regression() -> None:
    """scikit-learn warns of as many classes as samples; warnings are errors here."""
    assert FewShotClassifier().fit(RNG.normal(size=(30, 4)), np.arange(30)).classes_.shape == (30,)


def test_nothing_draws_from_the_global_generator() -> None:
    given = network(5)
    before = torch.get_rng_state()
    for method in ("nil", "anil", "finetune"):
        FewShotClassifier(given, method=method, steps=1).fit(IMAGES, Y).predict(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_in_training_mode_is_used_in_evaluation_mode() -> None:
    """Else dropout would make predictions random, and batch norm would change the user's statistics."""
    body = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))))
    assert not resolve(body, None, "cpu").by_batch
    model = FewShotClassifier(body).fit(IMAGES, Y)
    assert np.array_equal(model.predict_proba(IMAGES), model.predict_proba(IMAGES))
    assert body.training
    assert torch.equal(body[0][1].running_mean, torch.zeros(4))  # pyright: ignore


@plants(
    "the left-out image is an example too", "estimator.choose:np", lambda right: but(right, delete=lambda rows, i: rows)
)
def test_choose_method_is_leave_one_out() -> None:
    name, shares = choose_method(F_, L)
    assert list(shares) == ["nil", "means", "anil"]
    for method, share in shares.items():
        right = 0
        for i in range(9):
            rest = [j for j in range(9) if j != i]
            right += FewShotClassifier(method=method).fit(F_[rest], L[rest]).predict(F_[[i]])[0] == L[i]
        assert share == right / 9
    assert shares[name] == max(shares.values())


@plants(
    "the first images only are left out",
    "estimator.choose:left_out_rows",
    lambda right: lambda y, most=100: np.argsort(y, kind="stable")[:most],
)
def test_of_many_images_some_of_each_class_are_left_out() -> None:
    assert left_out_rows(L).tolist() == list(range(9))
    y = np.array(["b", "a", "c", "a"] * 100)
    rows = left_out_rows(y)
    assert len(set(rows.tolist())) == 100
    assert {c: (y[rows] == c).sum() for c in "abc"} == {"a": 50, "b": 25, "c": 25}
    x = np.eye(3)[(y == "b") + 2 * (y == "c")] + 0.01 * RNG.normal(size=(400, 3))
    y[rows[0]] = "c" if y[rows[0]] != "c" else "a"  # one wrong label, and it is one of the hundred that are asked
    again = left_out_rows(y)
    wrong = np.flatnonzero(y[again] != np.array(list("abc"))[x[again].argmax(1)])
    assert choose_method(x, y, methods=["means"])[1] == {"means": 1 - len(wrong) / 100}


def test_choose_method_for_pictures_uses_the_same_numbers() -> None:
    """Features made once give what a fit of the pictures without the left-out one gives; also with batch statistics."""
    body = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Flatten(), nn.Linear(256, 9))))
    with torch.no_grad():
        for p in body.parameters():
            p.copy_(torch.randn(p.shape, generator=generator_for(1)))
    for model in (body, network(5)):
        _, shares = choose_method(list(IMAGES), Y, model=model, methods=["nil", "means", "anil"], steps=3)
        for method, share in shares.items():
            right = 0
            for i in range(6):
                rest = [j for j in range(6) if j != i]
                few = FewShotClassifier(model, method=method, steps=3).fit(IMAGES[rest], Y[rest])
                right += few.predict(IMAGES[[i]])[0] == Y[i]
            assert share == right / 6


def test_turned_features_have_the_same_lengths_and_angles() -> None:
    for n, d in ((4, 30), (30, 4)):
        x = RNG.normal(size=(n, d)).astype(np.float32)
        turned = _turned(x)
        assert turned.shape == (n, 4)
        np.testing.assert_allclose(turned @ turned.T, x.astype(np.float64) @ x.T, atol=1e-5)


def test_choose_method_with_one_shot_is_the_default() -> None:
    assert choose_method(F_[::3], L[::3]) == ("nil", {})
    with pytest.warns(UserWarning, match="column-vector"):
        assert choose_method(F_, L[:, None]) == choose_method(F_, L)
    with pytest.raises(InnerloopError, match=names("methods")):
        choose_method(F_, L, methods=[])
    assert METHODS == ("nil", "means", "anil", "finetune", "maml")
