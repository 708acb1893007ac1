"""Losses, scores, the two error bars and named randomness."""

import inspect
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from innerloop.core.losses import accuracy, cross_entropy, mean_squared_error
from innerloop.core.random import generator_for
from innerloop.core.statistics import Estimate, over_episodes, paired_difference, seed_std
from innerloop.errors import InnerloopError
from naming import names
from planting import plants


@plants("loss summed over examples", "core.losses:cross_entropy", lambda right: lambda p, y: right(p, y) * p.shape[1])
def test_cross_entropy_is_the_mean_over_a_tasks_examples() -> None:
    """One number a task; log-softmax written out. Catches: a sum, a mean over tasks, softmax over the wrong axis."""
    g = generator_for(0, "logits")
    logits = torch.randn(3, 4, 5, generator=g, dtype=torch.float64) * 3
    labels = torch.randint(0, 5, (3, 4), generator=g)
    found = cross_entropy(logits, labels)
    for t in range(3):
        each = []
        for i in range(4):
            row = logits[t, i].tolist()
            each.append(math.log(sum(math.exp(v) for v in row)) - row[int(labels[t, i])])
        assert float(found[t]) == pytest.approx(sum(each) / 4)
    assert found.shape == (3,)


@plants(
    "squared error summed over outputs",
    "core.losses:mean_squared_error",
    lambda right: lambda p, y: right(p, y) * p.shape[-1],
)
def test_squared_error_is_the_mean_over_examples_and_outputs() -> None:
    a, b = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[0.0, 2.0], [3.0, 1.0]]])
    torch.testing.assert_close(mean_squared_error(torch.cat([a, b]), torch.cat([b, b])), torch.tensor([10 / 4, 0.0]))
    with pytest.raises(InnerloopError, match=names((1, 2, 2), (1, 2, 1))):
        inspect.unwrap(mean_squared_error)(a, b[..., :1])  # without the signature check of the tests


@plants("accuracy of the least likely", "core.losses:accuracy", lambda right: lambda p, y: right(-p, y))
def test_accuracy_is_a_fraction_a_task() -> None:
    logits = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [[5.0, 1.0], [5.0, 1.0], [5.0, 1.0]]])
    labels = torch.tensor([[1, 0, 0], [1, 1, 1]])
    torch.testing.assert_close(accuracy(logits, labels), torch.tensor([2 / 3, 0.0]))


FLOATS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@plants(
    "seed deviation with n",
    "core.statistics:seed_std",
    lambda right: lambda v: right(v) * ((len(v) - 1) / len(v)) ** 0.5,
)
@plants(
    "interval with n",
    "core.statistics:over_episodes",
    lambda right: lambda v: replace(right(v), ci95=right(v).ci95 * ((len(v) - 1) / len(v)) ** 0.5),
)
@given(FLOATS)
def test_ci95_and_seed_std_against_numpy(values: list[float]) -> None:
    """n − 1 in both; the interval shrinks with √n, the seeds' deviation does not."""
    estimate = over_episodes(torch.tensor(values, dtype=torch.float64))
    sd = float(np.std(values, ddof=1))
    assert estimate.mean == pytest.approx(float(np.mean(values)), abs=1e-9)
    assert estimate.ci95 == pytest.approx(1.96 * sd / math.sqrt(len(values)), abs=1e-9)
    assert estimate.episodes == len(values)
    assert seed_std(values) == pytest.approx(sd, abs=1e-9)


@plants(
    "paired difference without its sign",
    "core.statistics:paired_difference",
    lambda right: lambda a, b: right((a - b).abs(), torch.zeros_like(b)),
)
@given(FLOATS)
def test_a_paired_difference_is_the_interval_of_the_differences(values: list[float]) -> None:
    """What both share cancels: the same shift of every episode has no width."""
    a = torch.tensor(values, dtype=torch.float64)
    b = a.flip(0) * 0.5 + 1
    d = np.asarray(values) - b.numpy()
    found = paired_difference(a, b)
    assert found.mean == pytest.approx(float(d.mean()), abs=1e-9)
    assert found.ci95 == pytest.approx(1.96 * float(d.std(ddof=1)) / math.sqrt(len(d)), abs=1e-9)
    assert paired_difference(a + 3, a).ci95 == pytest.approx(0, abs=1e-9)
    assert paired_difference(a + 3, a).mean == pytest.approx(3)


def test_statistics_keep_the_digits_of_single_precision() -> None:
    """600 accuracies in float32 are added in float64."""
    values = (torch.arange(600) % 76).float() / 75
    assert over_episodes(values).mean == pytest.approx(float(np.mean(values.numpy().astype(np.float64))), rel=1e-12)
    assert str(Estimate(0.5, 0.01, 600)) == "0.5000 ± 0.0100 (ci95, 600 episodes)"


def test_too_few_numbers_are_refused() -> None:
    with pytest.raises(InnerloopError, match=names(2, (1,))):
        over_episodes(torch.zeros(1))
    with pytest.raises(InnerloopError, match=names((2, 2))):
        inspect.unwrap(over_episodes)(torch.zeros(2, 2))
    with pytest.raises(InnerloopError, match=names((2,), (3,))):
        inspect.unwrap(paired_difference)(torch.zeros(2), torch.zeros(3))
    with pytest.raises(InnerloopError, match=names("seed_std", 2, 1)):
        seed_std([0.5])


def draw(*path: str | int, seed: int = 0) -> list[float]:
    return torch.rand(4, generator=generator_for(seed, *path)).tolist()


def test_a_stream_depends_on_its_name_only() -> None:
    """Not on the order of calls, other streams, or the global generator; the value is fixed for good."""
    first = draw("episodes", 17)
    torch.manual_seed(5)
    draw("episodes", 18)
    draw("init")
    assert draw("episodes", 17) == first
    one = generator_for(0, "episodes", 17)
    assert torch.rand(4, generator=one).tolist() != torch.rand(4, generator=one).tolist()
    assert generator_for(0, "episodes", 17).initial_seed() == 2311187236099906854
    state = torch.get_rng_state()
    draw("x")
    assert torch.equal(state, torch.get_rng_state())


@plants(
    "names joined without a seam",
    "core.random:generator_for",
    lambda right: lambda seed, *path: right(seed, "".join(map(str, path))),
)
@plants(
    "every step the same generator",
    "core.random:generator_for",
    lambda right: lambda seed, *path: right(seed, *path[:1]),
)
@plants("the root seed left out", "core.random:generator_for", lambda right: lambda seed, *path: right(0, *path))
def test_different_streams_differ() -> None:
    """Also where a careless join of the names would make them one."""
    paths = [(), (0,), ("0",), (1,), ("a",), ("a", 0), ("a", "0"), ("a0",), ("a", 1), ("a", 17), ("a", 1, 7), ("a1", 7)]
    drawn = [tuple(draw(*p, seed=s)) for p, s in itertools.product(paths, (0, 1, 17))]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("seed", [True, 1.0, "1", None, np.float64(3), np.bool_(True)])
def test_a_seed_is_an_integer(seed: object) -> None:
    with pytest.raises(TypeError, match=names("seed", repr(seed))):
        inspect.unwrap(generator_for)(seed)  # without the signature check of the tests


def test_an_integer_of_numpy_is_an_integer() -> None:
    assert draw(np.int64(7), "a", np.uint8(3), seed=np.int32(3)) == draw(7, "a", 3, seed=3)
