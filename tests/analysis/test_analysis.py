"""Similarity by blocks, movement against a closed form, freezing against evaluation, cost by a clock of our own."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from innerloop.analysis import block_outputs, freezing, linear_cka, measure_cost, movement, similarity
from innerloop.analysis import cost as cost_module
from innerloop.analysis.similarity import as_points
from innerloop.core.episodes import Episodes, ImageTasks
from innerloop.core.functional import batch_statistics, block_names, forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import cross_entropy
from innerloop.core.random import generator_for
from innerloop.evaluation import EvalSettings, evaluate
from innerloop.methods.method import predictor
from innerloop.training import build
from tiny import CONFIG, blobs

FAMILY = ImageTasks(blobs().split("test"), 3, 1, 3)
SETTINGS = EvalSettings(episodes=6, inner_steps=2)
INNER = InnerLoop(lr=0.4, steps=2)


@pytest.fixture(scope="module")
def model() -> torch.nn.Sequential:
    return build.build_model(CONFIG, blobs())


def batch(tasks: int = 3) -> Episodes:
    return FAMILY.sample(tasks, generator_for(0, "t"))


def test_pixels_are_points() -> None:
    h = torch.arange(24.0).reshape(2, 3, 2, 2)
    points = as_points(h)
    assert points.shape == (8, 3)
    assert torch.equal(points[5], h[1, :, 0, 1])
    assert as_points(h[:, :, 0, 0]).shape == (2, 3)


def test_block_outputs_are_the_steps_of_a_forward_pass(model) -> None:
    e, slow = batch(), slow_weights(model)
    fast = adapt(model, slow, e.support_x, e.support_y, INNER)
    out = block_outputs(model, slow, fast, e.query_x)
    assert tuple(out) == block_names(model)
    assert torch.allclose(out["head"], forward(model, slow, fast, e.query_x), atol=1e-6)
    of = batch_statistics(model, slow, fast, e.support_x)
    out = block_outputs(model, slow, fast, e.query_x, of)
    assert torch.allclose(out["head"], forward(model, slow, fast, e.query_x, statistics=of), atol=1e-5)


def test_similarity_is_one_where_nothing_adapts(model) -> None:
    found = similarity(model, slow_weights(model), [batch(), batch(2)], replace(INNER, blocks="head", lr=3.0))["cka"]
    for name, e in found.items():
        assert e is not None
        assert e.episodes == 5
        if name == "head":
            assert e.mean < 0.999
        else:
            assert e.mean == pytest.approx(1.0, abs=1e-9)


def test_similarity_falls_from_the_first_adapted_block(model) -> None:
    found = similarity(model, slow_weights(model), [batch()], replace(INNER, blocks=("conv3",), lr=3.0), task_chunk=2)[
        "cka"
    ]
    means = {n: e.mean for n, e in found.items() if e}
    assert means["conv2"] == pytest.approx(1.0, abs=1e-9)
    assert max(means["conv3"], means["conv4"]) < 0.9999


@pytest.mark.parametrize("statistics", ["batch", "support"])
def test_similarity_is_that_of_the_block_outputs(model, statistics) -> None:
    e, slow = batch(), slow_weights(model)
    fast = adapt(model, slow, e.support_x, e.support_y, INNER)
    of = [batch_statistics(model, slow, w, e.support_x) if statistics == "support" else None for w in ({}, fast)]
    before, after = (block_outputs(model, slow, w, e.query_x, s)["head"] for w, s in zip(({}, fast), of, strict=True))
    expected = sum(linear_cka(b, a) for b, a in zip(before, after, strict=True)) / len(e)
    for chunk in (None, 1):
        found = similarity(model, slow, [e], INNER, statistics=statistics, task_chunk=chunk)["cka"]["head"]
        assert found is not None
        assert found.mean == pytest.approx(expected, abs=1e-5)


def test_movement_of_one_step_is_rate_times_gradient(model) -> None:
    e, slow = batch(3), slow_weights(model)
    found = {m.block: m for m in movement(model, slow, [e], replace(INNER, steps=1, lr=0.7))}
    norms: dict[str, list[float]] = {n: [] for n in found}
    for i in range(3):
        one = e[i : i + 1]
        value = cross_entropy(forward(model, slow, {}, one.support_x), one.support_y).sum()
        moved = [n for n in slow if ".norm." not in n]  # scale and shift of the normalisation do not adapt
        grads = dict(zip(moved, torch.autograd.grad(value, [slow[n] for n in moved]), strict=True))
        for block, seen in norms.items():
            seen.append(math.sqrt(sum(float(g.square().sum()) for n, g in grads.items() if n.startswith(f"{block}."))))
    for block, m in found.items():
        own = [p for n, p in slow.items() if n.startswith(f"{block}.") and ".norm." not in n]
        size = math.sqrt(sum(float(p.detach().square().sum()) for p in own))
        assert m.parameters == sum(p.numel() for p in own)
        assert m.distance.mean == pytest.approx(0.7 * sum(norms[block]) / 3, rel=1e-4)
        assert m.relative.mean == pytest.approx(m.distance.mean / size, rel=1e-5)


def test_frozen_blocks_do_not_move(model) -> None:
    found = {m.block: m for m in movement(model, slow_weights(model), [batch()], replace(INNER, blocks="head"))}
    assert {b for b, m in found.items() if m.distance.mean > 0} == {"head"}
    assert all(m.distance.mean == m.relative.ci95 == 0.0 for b, m in found.items() if b != "head")


@pytest.mark.parametrize("blocks", ["all", "head"])
def test_learned_rates_move_and_change_as_plain_ones_do(model, blocks) -> None:
    """Weights trained with learned rates must be looked at with those rates."""
    slow = dict(slow_weights(model))
    learned = {f"rate:{b}": torch.full((2,), 0.9) for b in block_names(model)}
    inner = replace(INNER, blocks=blocks)
    plain = replace(inner, lr=0.9)
    for m, expected in zip(
        movement(model, {**slow, **learned}, [batch()], inner), movement(model, slow, [batch()], plain), strict=True
    ):
        assert m.parameters == expected.parameters
        assert m.distance.mean == pytest.approx(expected.distance.mean, rel=1e-5)
    alike = similarity(model, {**slow, **learned}, [batch()], inner)["cka"]
    other = similarity(model, slow, [batch()], plain)["cka"]
    assert alike["head"].mean == pytest.approx(other["head"].mean, abs=1e-6)
    rows = freezing(model, {**slow, **learned}, FAMILY, inner, SETTINGS)
    expected_rows = freezing(model, slow, FAMILY, plain, SETTINGS)
    assert [r.evaluation.per_episode for r in rows] == [r.evaluation.per_episode for r in expected_rows]


def test_freezing_meets_evaluation_at_both_ends(model) -> None:
    slow, seen = slow_weights(model), []
    rows = freezing(model, slow, FAMILY, INNER, SETTINGS, report=lambda *a: seen.append(a))
    assert [r.frozen for r in rows] == [block_names(model)[:j] for j in range(5)]
    assert all(r.frozen + r.adapted == block_names(model) for r in rows)
    assert seen == [(j, 5) for j in range(1, 6)]
    for row, inner in ((rows[0], INNER), (rows[-1], replace(INNER, blocks="head"))):
        expected = evaluate(predictor(model, inner), slow, FAMILY, SETTINGS)
        assert (row.evaluation.final, row.evaluation.per_episode) == (expected.final, expected.per_episode)
    assert (rows[0].difference.mean, rows[0].difference.ci95) == (0.0, 0.0)
    for r in rows:
        expected = np.array(r.evaluation.per_episode) - np.array(rows[0].evaluation.per_episode)
        assert r.difference.mean == pytest.approx(expected.mean())
        assert r.difference.ci95 == pytest.approx(1.96 * expected.std(ddof=1) / math.sqrt(6))


def test_freezing_starts_from_all_blocks_whatever_the_method(model) -> None:
    rows = freezing(model, slow_weights(model), FAMILY, replace(INNER, blocks="head"), SETTINGS)
    assert rows[0].adapted == block_names(model)


def test_cost_takes_turns_and_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []
    seconds = {"a": iter([90, 90, 1, 9, 2]), "b": iter([90, 90, 10, 30, 20])}

    def work(name: str) -> None:
        order.append(name)
        now[0] += next(seconds[name])

    monkeypatch.setattr(cost_module.time, "process_time", lambda: now[0])
    found = measure_cost({n: lambda n=n: work(n) for n in ("a", "b")}, repeats=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert dict(found.milliseconds) == {"a": 2000.0, "b": 20000.0}
    assert found.ratio("b", "a") == 10.0
    assert (found.repeats, found.clock) == (3, "CPU time")
