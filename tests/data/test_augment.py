"""Support sets with new images beside the real ones; all else stays as it was, to the last bit."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from innerloop.core.episodes import Episodes, ImageTasks, TaskFamily
from innerloop.core.random import generator_for
from innerloop.data.augment import AugmentedSupport
from innerloop.data.distort import Affine, Augmentation, Chain, Crop, Elastic, Flip
from innerloop.data.sinusoid import Sinusoid
from innerloop.errors import InnerloopError
from innerloop.models.dagan import Dagan, Generator, Sizes
from naming import names
from planting import plants
from tiny import blobs

PLAIN = ImageTasks(blobs(), way=3, shot=2, query=4)
DAGAN = Dagan(Generator((1, 16, 16), Sizes(widths=(4, 4), noise=2), generator_for(0, "g")))


@dataclass(frozen=True)
class Copy:
    """Gives each image back."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x


@plants("enlarging moves the episodes on", "data.augment:_apart", lambda right: lambda generator: generator)
@pytest.mark.parametrize(
    "make",
    [Affine(), Elastic(), Crop(), Flip(), Chain((Flip(), Crop())), DAGAN, Copy()],
    ids=lambda m: type(m).__name__,
)
def test_queries_and_real_images_are_those_of_the_plain_tasks(make: Augmentation) -> None:
    """At the first draw and at the second: catches an augmentation that moves the generator on."""
    family = AugmentedSupport(PLAIN, make, copies=3)
    assert isinstance(make, Augmentation)
    assert isinstance(family, TaskFamily)
    ours, theirs = generator_for(0, "e"), generator_for(0, "e")
    for _ in range(2):
        e, plain = family.sample(2, ours), PLAIN.sample(2, theirs)
        assert torch.equal(e.query_x, plain.query_x)
        assert torch.equal(e.query_y, plain.query_y)
        assert e.classes is not None
        assert torch.equal(e.classes, plain.classes)  # pyright: ignore
        assert e.support_x.shape == (2, 3 * 2 * 4, 1, 16, 16)
        assert torch.equal(e.support_x[:, ::4], plain.support_x)
        assert e.support_y.tolist() == [[0] * 8 + [1] * 8 + [2] * 8] * 2
        assert 0 <= float(e.support_x.min()) <= float(e.support_x.max()) <= 1 + 1e-6


def test_new_images_are_made_of_the_image_before_them() -> None:
    """With copies that return their image each row of four is one image: catches a wrong order of the axes."""
    x = AugmentedSupport(PLAIN, Copy(), copies=3).sample(2, generator_for(0, "e")).support_x.unflatten(1, (6, 4))
    assert torch.equal(x, x[:, :, :1].expand_as(x))


def test_new_images_differ_and_depend_on_the_generator_alone() -> None:
    family = AugmentedSupport(PLAIN, Affine(chance=1.0), copies=2)
    a, b = (family.sample(2, generator_for(0, "e")).support_x for _ in range(2))
    assert torch.equal(a, b)
    flat = a.reshape(2, 6, 3, -1)
    assert float((flat[:, :, 0] - flat[:, :, 1]).abs().mean()) > 0.01
    assert float((flat[:, :, 1] - flat[:, :, 2]).abs().mean()) > 0.01
    one = generator_for(0, "e")
    first, second = (AugmentedSupport(PLAIN, Flip(), 1).sample(40, one).support_x for _ in range(2))
    flipped = [(x[:, 1::2] != x[:, ::2]).flatten(2).any(2).flatten() for x in (first, second)]
    assert 0.35 < float(flipped[0].float().mean()) < 0.65
    assert not torch.equal(flipped[0], flipped[1])  # chance of its own for each draw


def test_without_copies_nothing_is_added() -> None:
    e, plain = (
        AugmentedSupport(PLAIN, Affine(), 0).sample(2, generator_for(0, "e")),
        PLAIN.sample(2, generator_for(0, "e")),
    )
    assert torch.equal(e.support_x, plain.support_x)
    assert torch.equal(e.support_y, plain.support_y)


def test_query_is_the_familys_where_it_has_one() -> None:
    assert AugmentedSupport(PLAIN, Affine()).query == 4
    assert getattr(AugmentedSupport(Bare(), Affine()), "query", None) is None


@dataclass(frozen=True)
class Bare:
    """A family without a number of queries."""

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        return PLAIN.sample(tasks, generator)


@dataclass(frozen=True)
class Grown:
    """An augmentation that gives larger images."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([x, x], 3)


def test_what_is_refused() -> None:
    with pytest.raises(InnerloopError, match=names("copies", 0, "-1")):
        AugmentedSupport(PLAIN, Affine(), -1)
    with pytest.raises(InnerloopError, match=names("images", [2, 5, 1])):
        AugmentedSupport(Sinusoid(5, 5), Affine()).sample(2, generator_for(0))
    with pytest.raises(InnerloopError, match=names([12, 1, 16, 32], [12, 1, 16, 16])):
        AugmentedSupport(PLAIN, Grown()).sample(2, generator_for(0))
