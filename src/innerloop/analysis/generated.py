"""Are generated images new, and how much do they differ? Beside real images of the class and affine copies."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from innerloop.core.episodes import ClassImages, ImageTasks
from innerloop.core.random import generator_for
from innerloop.core.statistics import Estimate, over_episodes
from innerloop.data.distort import Affine, Augmentation
from innerloop.errors import InnerloopError

_CHUNK = 4096


@dataclass(frozen=True)
class Spread:
    """One way to get more images of a class from one: three Euclidean distances between images with pixels in 0..1.

    Each is a mean over the samples of a conditioning image; mean and ci95 are over the conditioning images, each of a
    class of its own.
    """

    name: str
    """generated, affine or real"""
    diversity: Estimate
    """between two samples of one conditioning image: 0 where the noise is ignored"""
    to_condition: Estimate
    """from a sample to its conditioning image: 0 where that is copied"""
    to_train: Estimate
    """from a sample to the nearest of all training images: 0 where one of those is copied"""


@dataclass(frozen=True)
class Generated:
    """Samples of unseen classes, and what they were compared with."""

    spreads: tuple[Spread, ...]
    """of the generated samples, of affine copies (Koch et al. 2015), and of other real images of the class"""
    class_names: tuple[str, ...]
    conditions: Float[Tensor, "images channels height width"]
    samples: Float[Tensor, "images samples channels height width"]
    nearest: Float[Tensor, "images samples channels height width"]
    """the training image nearest to each sample"""


@torch.no_grad()
def diversity_report(
    make: Augmentation,
    unseen: ClassImages,
    train: ClassImages,
    *,
    images: int = 50,
    samples: int = 8,
    seed: int = 0,
) -> Generated:
    """Draw `samples` from one image of each of `images` classes of `unseen`, and measure them.

    The conditioning images depend on `seed` alone, not on `make`. Raises ValueError for fewer than 2 images or samples,
    or more images than `unseen` has classes; a class with fewer real images than `samples` + 1 limits the real ones.
    """
    classes, fewest = len(unseen.class_names), int(unseen.count.min())
    if not 2 <= images <= classes:
        raise InnerloopError(f"images must be 2 to {classes}, the classes of {unseen.name}; got {images}")
    if samples < 2:
        raise InnerloopError(f"samples must be 2 or more to tell how they differ, got {samples}")
    if fewest < 3:
        raise InnerloopError(
            f"a class of {unseen.name} has {fewest} images; real ones cannot be compared with fewer than 3"
        )
    e = ImageTasks(unseen, images, 1, min(samples, fewest - 1)).sample(1, generator_for(seed, "generated", "images"))
    assert e.classes is not None
    conditions, real = e.support_x[0], e.query_x[0].unflatten(0, (images, -1))
    made = several(make, conditions, samples, generator_for(seed, "generated", "samples"))
    affine = several(Affine(), conditions, samples, generator_for(seed, "generated", "affine"))
    index, turns = _all_images(train)
    sets = {"generated": made, "affine": affine, "real": real}
    found = {name: nearest(x.flatten(0, 1), train, index, turns) for name, x in sets.items()}
    spreads = tuple(
        Spread(
            name,
            over_episodes(diversity(x)),
            over_episodes((x - conditions[:, None]).flatten(2).norm(dim=2).mean(1)),
            over_episodes(found[name][1].view(images, -1).mean(1)),
        )
        for name, x in sets.items()
    )
    place = found["generated"][0]
    return Generated(
        spreads,
        tuple(unseen.class_names[c] for c in e.classes[0].tolist()),
        conditions,
        made,
        train.take(index[place], turns[place]).view_as(made),
    )


def several(
    make: Augmentation, x: Float[Tensor, "images channels height width"], samples: int, generator: torch.Generator
) -> Float[Tensor, "images samples channels height width"]:
    """`samples` new images for each of `x`."""
    return make(x.repeat_interleave(samples, 0), generator).unflatten(0, (len(x), samples))


def diversity(x: Float[Tensor, "images samples channels height width"]) -> Float[Tensor, " images"]:
    """Mean Euclidean distance over the pairs of different samples of each image."""
    flat = x.flatten(2)
    n = flat.shape[1]
    if n < 2:
        raise InnerloopError(f"a pair needs 2 samples or more, got {n}")
    pairs = torch.combinations(torch.arange(n, device=x.device))
    return torch.stack([(one[pairs[:, 0]] - one[pairs[:, 1]]).norm(dim=1).mean() for one in flat])


def nearest(
    x: Float[Tensor, "n channels height width"],
    data: ClassImages,
    index: Int[Tensor, " all"] | None = None,
    turns: Int[Tensor, " all"] | None = None,
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """For each of `x` the nearest image of `data` by Euclidean distance: its place among `index` (by default all
    images of all classes, each with its class's turns), and the distance.

    Which is nearest is found by products, in float32; its distance is then taken of the difference itself, so that a
    copy has exactly 0.
    """
    if index is None or turns is None:
        index, turns = _all_images(data)
    if tuple(x.shape[1:]) != data.image_shape:
        raise InnerloopError(f"images are {list(x.shape[1:])}, those of {data.name} {list(data.image_shape)}")
    flat = x.flatten(1)
    best = torch.full((len(x),), torch.inf, device=x.device)
    place = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for start in range(0, len(index), _CHUNK):
        part = slice(start, start + _CHUNK)
        there = data.take(index[part], turns[part]).flatten(1)
        squares = there.square().sum(1) - 2 * flat @ there.T  # but for ‖x‖², the same for all
        low, at = squares.min(1)
        place = torch.where(low < best, at + start, place)
        best = torch.minimum(low, best)
    found = data.take(index[place], turns[place]).flatten(1)
    return place, (flat - found).norm(dim=1)


def _all_images(data: ClassImages) -> tuple[Tensor, Tensor]:
    """Position and quarter turns of every image of every class."""
    of = torch.repeat_interleave(torch.arange(len(data.count), device=data.count.device), data.count)
    within = torch.arange(len(of), device=of.device) - (data.count.cumsum(0) - data.count)[of]
    return data.first[of] + within, data.turns[of]
