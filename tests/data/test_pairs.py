"""Pairs: half of one class and half of two, never an image with itself, and every pair as likely as another."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.core.episodes import ClassImages, Episodes
from innerloop.core.random import generator_for
from innerloop.data.batches import Pairs
from innerloop.errors import InnerloopError
from naming import names
from planting import plants


def numbered(counts: list[int], turns: list[int] | None = None) -> ClassImages:
    """Image i is a 2×2 picture whose upper left byte is i; its lower row shows which way is up."""
    n = sum(counts)
    images = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(n)
    images[:, 0, 1] = 255
    count = torch.tensor(counts)
    names = tuple(f"c{i}" for i in range(len(counts)))
    turned = torch.tensor(turns or [0] * len(counts))
    return ClassImages("numbered", images, count.cumsum(0) - count, count, turned, names)


def numbers(e: Episodes) -> torch.Tensor:
    """[2, tasks, pairs]: the numbers of the first and second images."""
    return torch.stack([(x[..., 0, 0, 0] * 255).round().long() for x in (e.support_x, e.query_x)])


@plants(
    "a pair of one image",
    "data.batches:Pairs.sample",
    lambda right: lambda self, n, g: replace(right(self, n, g), query_x=right(self, n, g).support_x),
)
@settings(max_examples=40)
@given(st.lists(st.integers(2, 6), min_size=2, max_size=6), st.integers(2, 9), st.integers(0, 2**31))
def test_every_batch_is_well_formed(counts: list[int], pairs: int, seed: int) -> None:
    e = Pairs(numbered(counts), pairs).sample(4, generator_for(seed, "t"))
    assert e.support_x.shape == e.query_x.shape == (4, pairs, 1, 2, 2)
    assert e.query_y.shape == e.support_y.shape == (4, pairs)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    a, b = numbers(e)
    same = e.query_y.bool()
    assert e.query_y.sum(1).tolist() == [(pairs + 1) // 2] * 4
    assert torch.equal(owner[a] == owner[b], same), "a label that is not the pair's"
    assert bool((a != b).all()), "an image with itself"


def test_pairs_of_one_kind_are_equally_likely() -> None:
    """Classes of 3, 3 and 3 images: 18 ordered pairs of one class, 54 of two; counts within 5 deviations."""
    n = 20_000
    e = Pairs(numbered([3, 3, 3]), 2).sample(n, generator_for(0, "many"))
    a, b = numbers(e)
    for column, kinds in ((0, 18), (1, 54)):
        seen = Counter(zip(a[:, column].tolist(), b[:, column].tolist(), strict=True))
        assert len(seen) == kinds
        mean = n / kinds
        assert all(abs(c - mean) < 5 * mean**0.5 for c in seen.values())


def test_a_class_is_as_likely_whatever_its_size_and_its_images_are_even() -> None:
    """Catches a draw over images (large classes come up more) and a last image that never comes."""
    n = 20_000
    a, b = numbers(Pairs(numbered([2, 8]), 2).sample(n, generator_for(1, "many")))
    for column in (0, 1):
        for x in (a, b):
            small = int((x[:, column] < 2).sum())
            assert abs(small - n / 2) < 5 * (n / 4) ** 0.5
            count = torch.bincount(x[:, column], minlength=10)
            assert bool(((count[:2] - n / 4).abs() < 5 * (n / 4) ** 0.5).all())
            assert bool(((count[2:] - n / 16).abs() < 5 * (n / 16) ** 0.5).all())


def test_the_generator_decides_and_nothing_else() -> None:
    pairs = Pairs(numbered([4, 4, 4]), 6)
    one, again, other = (pairs.sample(3, generator_for(s, "t")) for s in (0, 0, 1))
    torch.manual_seed(5)
    assert torch.equal(numbers(one), numbers(again))
    assert torch.equal(numbers(one), numbers(pairs.sample(3, generator_for(0, "t"))))
    assert not torch.equal(numbers(one), numbers(other))


def test_each_image_is_turned_as_its_own_class_is() -> None:
    """Classes 0 and 1 share their pictures; class 1's are turned by a quarter."""
    plain = numbered([4])
    zero, two = torch.zeros(2, dtype=torch.int64), torch.tensor([4, 4])
    data = ClassImages("turned", plain.images, zero, two, torch.tensor([0, 1]), ("up", "left"))
    e = Pairs(data, 40).sample(2, generator_for(0, "t"))
    # upright: the lower row is 1; a quarter turn counter-clockwise brings it to the right column
    upright = [bool_of(x[..., 0, 1, 0]) & bool_of(x[..., 0, 1, 1]) for x in (e.support_x, e.query_x)]
    right = [bool_of(x[..., 0, 0, 1]) & bool_of(x[..., 0, 1, 1]) for x in (e.support_x, e.query_x)]
    assert all(torch.equal(u, ~r) for u, r in zip(upright, right, strict=True))
    assert torch.equal(upright[0] == upright[1], e.query_y.bool())


def bool_of(x: torch.Tensor) -> torch.Tensor:
    return x == 1


@pytest.mark.parametrize(
    ("counts", "pairs", "named"),
    [
        ([3, 3], 1, (2, 1)),
        ([3], 4, ("numbered", 2)),
        ([3, 1], 4, ("numbered", 2)),
    ],
)
def test_what_has_no_pairs_is_refused(counts: list[int], pairs: int, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        Pairs(numbered(counts), pairs)
