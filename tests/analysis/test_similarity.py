"""Similarity of two models' blocks and of one before and after adaptation: what is compared with what."""

import math
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from innerloop.analysis import between, block_outputs, linear_cka, mean_cca, rbf_cka, similarity
from innerloop.analysis.similarity import as_points
from innerloop.core.episodes import Episodes, ImageTasks
from innerloop.core.functional import block_names, slow_weights
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.training import build
from naming import names
from planting import plants
from tiny import CONFIG, blobs

FAMILY = ImageTasks(blobs().split("test"), 3, 1, 3)
INNER = InnerLoop(lr=0.4, steps=2)
BOTH = {"cca": mean_cca, "cka": linear_cka}


def new_model(seed: int = 0, filters: int = 4) -> nn.Sequential:
    config = replace(CONFIG, seed=seed, model=replace(CONFIG.model, filters=filters))
    return build.build_model(config, blobs())


@pytest.fixture(scope="module")
def one() -> nn.Sequential:
    return new_model(0)


@pytest.fixture(scope="module")
def two() -> nn.Sequential:
    return new_model(1)


def batch(tasks: int = 3) -> Episodes:
    return FAMILY.sample(tasks, generator_for(0, "t"))


def points_of(model: nn.Sequential, e: Episodes, inner: InnerLoop | None, block: str) -> list[torch.Tensor]:
    slow = slow_weights(model)
    fast = {} if inner is None else adapt(model, slow, e.support_x, e.support_y, inner)
    with torch.no_grad():
        return [as_points(h).detach() for h in block_outputs(model, slow, fast, e.query_x)[block]]


def test_models_differ(one, two) -> None:
    assert not torch.equal(one[0].conv.weight, two[0].conv.weight)


@plants("similarity of the un-adapted", "analysis.similarity:adapt", lambda right: lambda *given, **more: {})
@plants(
    "similarity of a model and itself",
    "analysis.similarity:between",
    lambda right: lambda first, second, *given, **more: right(second, second, *given, **more),
)
@pytest.mark.parametrize("first", [None, INNER])
@pytest.mark.parametrize("second", [None, replace(INNER, lr=2.0)])
def test_between_compares_each_model_as_it_is_given(one, two, first, second) -> None:
    """Mean over episodes of the measures of both outputs, each model adapted by its own inner loop or by none."""
    e = batch()
    found = between(
        (one, slow_weights(one), first),
        (two, slow_weights(two), second),
        [e[:2], e[2:]],
        measures={"first": lambda x, _: float(x.double().square().sum()), "order": lambda x, y: float((x - y).sum())},
    )
    assert tuple(found) == ("first", "order")
    for block in block_names(one):
        xs, ys = points_of(one, e, first, block), points_of(two, e, second, block)
        left = [float(x.double().square().sum()) for x in xs]
        difference = [float((x - y).sum()) for x, y in zip(xs, ys, strict=True)]
        for name, values in (("first", left), ("order", difference)):
            got = found[name][block]
            assert got is not None
            assert got.episodes == 3
            assert got.mean == pytest.approx(sum(values) / 3, rel=1e-4, abs=1e-3)
            assert got.ci95 == pytest.approx(
                1.96 * float(torch.tensor(values).std()) / math.sqrt(3), rel=1e-2, abs=1e-3
            )


def test_between_two_seeds(one, two) -> None:
    e = batch()
    found = between((one, slow_weights(one)), (two, slow_weights(two)), [e], measures=BOTH)
    assert tuple(found["cca"]) == tuple(found["cka"]) == block_names(one)
    for name, measure in BOTH.items():
        for block, got in found[name].items():
            pairs = zip(points_of(one, e, None, block), points_of(two, e, None, block), strict=True)
            assert got is not None
            assert got.mean == pytest.approx(sum(measure(x, y) for x, y in pairs) / 3, abs=1e-4)
            assert got.mean < 0.999
    same = between((one, slow_weights(one)), (one, slow_weights(one)), [e], measures=BOTH)
    assert all(v.mean == pytest.approx(1.0) for blocks in same.values() for v in blocks.values() if v)


def test_similarity_is_the_model_against_itself_adapted(one) -> None:
    slow = slow_weights(one)
    expected = between((one, slow), (one, slow, INNER), [batch()], measures=BOTH)
    assert similarity(one, slow, [batch()], INNER, measures=BOTH) == expected
    assert similarity(one, slow, [batch()], INNER)["cka"] == expected["cka"]


def test_one_adaptation_an_episode(one, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()

    def counted(*args, **kwargs):
        seen["episodes"] += len(args[2])
        return adapt(*args, **kwargs)

    monkeypatch.setattr(sys.modules["innerloop.analysis.similarity"], "adapt", counted)
    similarity(one, slow_weights(one), [batch(), batch(2)], INNER, measures=BOTH, task_chunk=2)
    assert seen["episodes"] == 5


@plants("similarity of the first points", "analysis.similarity:_thin", lambda right: lambda x, points: x[:points])
def test_a_cap_takes_the_same_spread_points_of_both(one, two) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def look(x: torch.Tensor, y: torch.Tensor) -> float:
        seen.append((x, y))
        return 0.0

    e = batch(2)
    between((one, slow_weights(one)), (two, slow_weights(two)), [e], measures={"look": look}, points=50)
    for (x, y), block in zip(seen[::2], block_names(one), strict=True):
        all_x, all_y = points_of(one, e, None, block)[0], points_of(two, e, None, block)[0]
        n = len(all_x)
        rows = torch.arange(n) if n <= 50 else torch.tensor([i * n // 50 for i in range(50)])
        assert len(x) == min(n, 50)
        assert torch.allclose(x, all_x[rows], atol=1e-5)
        assert torch.allclose(y, all_y[rows], atol=1e-5)
    found = between((one, slow_weights(one)), (two, slow_weights(two)), [e], measures={"rbf": rbf_cka}, points=50)
    expected = [rbf_cka(x, y) for x, y in seen[:2]]
    assert found["rbf"]["conv1"].mean == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_blocks_that_both_have(one) -> None:
    other = nn.Sequential()
    for name, block in new_model(1, filters=6).named_children():
        other.add_module("top" if name == "head" else name, block)
    found = between((one, slow_weights(one)), (other, slow_weights(other)), [batch()])["cka"]
    assert tuple(found) == ("conv1", "conv2", "conv3", "conv4")
    renamed = nn.Sequential()
    for name, block in other.named_children():
        renamed.add_module(f"b_{name}", block)
    with pytest.raises(InnerloopError, match=names(*(n for m in (one, renamed) for n, _ in m.named_children()))):
        between((one, slow_weights(one)), (renamed, slow_weights(renamed)), [batch()])


def test_different_sizes_are_refused_with_a_cap_as_well(one) -> None:
    other = nn.Sequential()
    other.add_module("conv1", nn.Conv2d(1, 3, 3))
    for points in (None, 20):
        with pytest.raises(InnerloopError, match=names("conv1", 576, 1764)):
            between((one, slow_weights(one)), (other, slow_weights(other)), [batch()], points=points)


def test_a_cap_is_two_points_or_more(one) -> None:
    with pytest.raises(InnerloopError, match=names("points", 2, 1)):
        similarity(one, slow_weights(one), [batch()], INNER, points=1)


def test_constant_blocks_have_no_similarity(one) -> None:
    slow = {n: torch.zeros_like(w) if n.startswith("head") else w.detach() for n, w in slow_weights(one).items()}
    found = between((one, slow), (one, slow_weights(one)), [batch()], measures=BOTH)
    assert found["cca"]["head"] is None
    assert found["cka"]["head"] is None
    assert found["cka"]["conv1"] is not None


def test_cca_of_too_few_data_points_says_so(one) -> None:
    """9 query images of 1 × 1 pixels after the last block, 6 filters."""
    wide = new_model(0, filters=6)
    with pytest.raises(InnerloopError, match=names(6, 12, 9)):
        similarity(wide, slow_weights(wide), [batch()], INNER, measures={"cca": mean_cca})


@plants(
    "norms of no step compared",
    "analysis.similarity:last_weights",
    lambda right: lambda net, parameters, inner: right(net, parameters, replace(inner, steps=0)),
)
@pytest.mark.parametrize("blocks", ["all", ("conv3", "head")])
def test_norms_of_each_step_are_compared_as_they_are_behind_the_last(one, blocks) -> None:
    """MAML++: before adaptation the first row, after it the last; blocks before the adapted ones see no step."""
    e, slow = batch(2), {n: w.detach() for n, w in slow_weights(one).items()}
    norms = [n for n in slow if "norm" in n]
    rows = {n: torch.stack([slow[n] + 0.3 * i * torch.arange(1, 5) for i in range(3)]) for n in norms}
    parameters = {**slow, **{f"step:{n}": r for n, r in rows.items()}}
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def look(x: torch.Tensor, y: torch.Tensor) -> float:
        seen.append((x, y))
        return 0.0

    inner = replace(INNER, blocks=blocks)
    similarity(one, parameters, [e], inner, measures={"look": look})
    fast = adapt(one, slow, e.support_x, e.support_y, inner, step_weights=rows_of(one, rows, blocks))
    late = slow | {n: r[2] for n, r in rows_of(one, rows, blocks).items()}
    before, after = block_outputs(one, slow, {}, e.query_x), block_outputs(one, late, fast, e.query_x)
    wanted = [(as_points(before[b][t]), as_points(after[b][t])) for b in block_names(one) for t in range(2)]
    assert len(seen) == len(wanted)
    for (x, y), (first, last) in zip(seen, wanted, strict=True):
        torch.testing.assert_close(x, first)
        torch.testing.assert_close(y, last.detach())
    early = block_outputs(one, slow, fast, e.query_x)
    assert not torch.allclose(early["conv4"], after["conv4"], atol=1e-2)


def rows_of(model: nn.Sequential, rows: dict[str, torch.Tensor], blocks: object) -> dict[str, torch.Tensor]:
    """Those of the first adapted block and of what follows it."""
    names = block_names(model)
    first = 0 if blocks == "all" else names.index("conv3")
    return {n: r for n, r in rows.items() if n.split(".")[0] in names[first:]}
