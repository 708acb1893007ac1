"""Diversity and nearest neighbours against loops; copies must show as copies."""

from dataclasses import dataclass, replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from innerloop.analysis.generated import diversity, diversity_report, nearest
from innerloop.core.episodes import ClassImages
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.report.generated import draw_generated, generated_png
from naming import names
from tiny import blobs

TRAIN, TEST = blobs().split("train"), blobs().split("test")


@dataclass(frozen=True)
class Copy:
    """A generator that copies its input."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x


@dataclass(frozen=True)
class Recall:
    """A generator that has learnt one training image by heart."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return (TRAIN.images[11].float() / 255).expand_as(x)


def turned(data: ClassImages, turns: int) -> ClassImages:
    return replace(data, turns=torch.full_like(data.turns, turns))


def test_diversity_is_the_mean_over_pairs() -> None:
    x = torch.rand(3, 4, 1, 5, 6, generator=generator_for(0, "x"))
    slow = [sum(float((a - b).square().sum() ** 0.5) for a, b in combinations(one, 2)) / 6 for one in x]
    assert diversity(x).tolist() == pytest.approx(slow, rel=1e-5)
    with pytest.raises(InnerloopError, match=names("samples", 2, 1)):
        diversity(x[:, :1])


def test_nearest_against_a_loop_with_turned_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("innerloop.analysis.generated._CHUNK", 7)  # 48 images do not fit one chunk, nor whole ones
    x = torch.rand(5, 1, 16, 16, generator=generator_for(0, "x"))
    for turns in (0, 1):
        place, distance = nearest(x, turned(TRAIN, turns))
        every = torch.rot90(TRAIN.images[:48].float() / 255, turns, dims=(-2, -1))
        table = (x[:, None] - every[None]).flatten(2).norm(dim=2)
        assert torch.equal(place, table.argmin(1))
        assert torch.allclose(distance, table.min(1).values, rtol=1e-5)


def test_a_copy_is_at_distance_0() -> None:
    data = turned(TEST, 3)
    x = torch.rot90(data.images[int(data.first[2]) + 5][None].float() / 255, 3, dims=(-2, -1))
    place, distance = nearest(x, data)
    assert (int(place), float(distance)) == (2 * 8 + 5, 0.0)


def test_a_generator_that_copies() -> None:
    found = diversity_report(Copy(), TEST, TRAIN, images=4, samples=3)
    made, affine, real = found.spreads
    assert [s.name for s in found.spreads] == ["generated", "affine", "real"]
    assert (made.diversity.mean, made.to_condition.mean) == (0, 0)
    assert made.to_train.mean > 0
    assert min(affine.diversity.mean, affine.to_condition.mean, real.diversity.mean, real.to_condition.mean) > 0
    assert real.to_condition.episodes == 4
    assert torch.equal(found.samples, found.conditions[:, None].expand_as(found.samples))
    assert len(set(found.class_names)) == 4
    assert set(found.class_names) <= set(TEST.class_names)


def test_a_generator_that_recalls_a_training_image() -> None:
    found = diversity_report(Recall(), TEST, TRAIN, images=3, samples=2)
    made = found.spreads[0]
    assert (made.diversity.mean, made.to_train.mean) == (0, 0)
    assert made.to_condition.mean > 0
    assert torch.equal(found.nearest, found.samples)


def test_real_images_are_others_of_the_class() -> None:
    """Noise around a pattern: real images of a class are as far from one another as from the conditioning one."""
    real = diversity_report(Copy(), TEST, TRAIN, images=6, samples=7).spreads[2]
    assert real.to_condition.mean == pytest.approx(real.diversity.mean, rel=0.1)
    assert real.to_train.mean > real.to_condition.mean  # other classes have other patterns


def test_conditioning_images_depend_on_the_seed_alone() -> None:
    a, b, c = (
        diversity_report(make, TEST, TRAIN, images=3, samples=2, seed=seed)
        for make, seed in ((Copy(), 0), (Recall(), 0), (Copy(), 1))
    )
    assert torch.equal(a.conditions, b.conditions)
    assert a.spreads[1:] == b.spreads[1:]
    assert not torch.equal(a.conditions, c.conditions)


def test_what_is_refused() -> None:
    with pytest.raises(InnerloopError, match=names("images", 2, 6, "blobs/test", 7)):
        diversity_report(Copy(), TEST, TRAIN, images=7)
    with pytest.raises(InnerloopError, match=names("samples", 2, 1)):
        diversity_report(Copy(), TEST, TRAIN, images=3, samples=1)
    with pytest.raises(InnerloopError, match=names([3, 16, 16], "blobs/train", [1, 16, 16])):
        nearest(torch.rand(2, 3, 16, 16), TRAIN)
    with pytest.raises(InnerloopError, match=names([2, 1, 4, 4], [2, 3, 1, 4, 4], [2, 1, 1, 4, 4])):
        generated_png(
            *(t.numpy() for t in (torch.rand(2, 1, 4, 4), torch.rand(2, 3, 1, 4, 4), torch.rand(2, 1, 1, 4, 4)))
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_shows_each_image_in_its_place(channels: int) -> None:
    x = torch.rand(3, 2, channels, 4, 5, generator=generator_for(0, "x"))
    given, nearest_to = x[:, 0] * 0.5, x * 0.25
    figure = draw_generated(given.numpy(), x.numpy(), nearest_to.numpy())
    left, middle, right = (torch.as_tensor(a.get_images()[0].get_array().data) for a in figure.axes)  # pyright: ignore
    left, middle, right = (t if t.ndim == 3 else t[..., None] for t in (left, middle, right))
    assert torch.equal(left[5:9].movedim(2, 0).float(), given[1])
    assert torch.equal(middle[10:14, 6:11].movedim(2, 0).float(), x[2, 1])
    assert torch.equal(right[0:4].movedim(2, 0).float(), nearest_to[0, 0])
    assert generated_png(given.numpy(), x.numpy(), nearest_to.numpy()).startswith(b"\x89PNG")
