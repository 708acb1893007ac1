"""Distortions against explicit maps, and against what they must leave alone."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from innerloop.core.episodes import ImageTasks
from innerloop.core.random import generator_for
from innerloop.data.distort import Affine, Augmentation, Chain, Crop, Distorted, Elastic, Flip
from innerloop.errors import InnerloopError
from naming import names
from planting import plants
from tiny import blobs

NOTHING = Affine(degrees=0.0, shear=0.0, scale=(1.0, 1.0), shift=0.0)


def test_nothing_to_distort_leaves_the_images() -> None:
    x = torch.rand(4, 2, 9, 9, generator=generator_for(0, "x"))
    for same in (NOTHING, Affine(chance=0.0)):
        assert torch.allclose(same(x, generator_for(0, "g")), x, atol=1e-6)
    assert Affine()(x[:0], generator_for(0, "g")).shape == (0, 2, 9, 9)


@plants(
    "shift in the wrong unit",
    "data.distort:Affine.maps",
    lambda right: lambda self, n, g: right(replace(self, shift=self.shift / 2), n, g),
)
def test_a_shift_moves_by_pixels() -> None:
    """With shift s and chance 1 each image moves by up to s of its side, the same amount for every pixel."""
    maps = Affine(degrees=0.0, shear=0.0, scale=(1.0, 1.0), shift=0.25, chance=1.0).maps(500, generator_for(0, "g"))
    assert torch.allclose(maps[:, :, :2], torch.eye(2).expand(500, 2, 2), atol=1e-6)
    moved = maps[:, :, 2] / 2  # a side is 2 long
    assert 0.24 < float(moved.abs().max()) <= 0.25
    assert abs(float(moved.mean())) < 0.02

    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 2, 3] = 1
    one = Affine(degrees=0.0, shear=0.0, scale=(1.0, 1.0), shift=0.25, chance=1.0)
    out = one(x, generator_for(3, "g"))[0, 0]
    tx, ty = (
        -one.maps(1, generator_for(3, "g"))[0, :, 2] * 4
    ).tolist()  # the map goes from new to old; 4 pixels a unit
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    assert float((out * rows).sum() / out.sum()) == pytest.approx(2 + ty, abs=1e-4)
    assert float((out * columns).sum() / out.sum()) == pytest.approx(3 + tx, abs=1e-4)


def test_rotation_keeps_angles_and_areas_and_its_range() -> None:
    maps = Affine(degrees=30.0, shear=0.0, scale=(1.0, 1.0), shift=0.0, chance=1.0).maps(400, generator_for(0, "g"))[
        :, :, :2
    ]
    assert torch.allclose(maps @ maps.mT, torch.eye(2).expand(400, 2, 2), atol=1e-5)
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]) * 180 / math.pi
    assert 29 < float(angle.abs().max()) <= 30.001
    assert float(angle.min()) < 0 < float(angle.max())


def test_scale_and_shear_have_their_ranges() -> None:
    grown = Affine(degrees=0.0, shear=0.0, scale=(0.5, 3.0), shift=0.0, chance=1.0).maps(2000, generator_for(0, "g"))[
        :, :, :2
    ]
    factors = 1 / torch.diagonal(grown, dim1=1, dim2=2)
    assert pytest.approx((float(factors.min()), float(factors.max())), abs=0.02) == (0.5, 3)
    assert float(grown[:, 0, 1].abs().max()) == 0
    skewed = torch.linalg.inv(
        Affine(degrees=0.0, shear=0.3, scale=(1.0, 1.0), shift=0.0, chance=1.0).maps(2000, generator_for(0, "g"))[
            :, :, :2
        ]
    )
    assert torch.allclose(torch.diagonal(skewed, dim1=1, dim2=2), torch.ones(2000, 2), atol=1e-5)
    assert 0.29 < float(skewed[:, 0, 1].abs().max()) <= 0.3001
    assert not torch.allclose(skewed[:, 0, 1], skewed[:, 1, 0])


@plants(
    "each part always comes",
    "data.distort:Affine.maps",
    lambda right: lambda self, n, g: right(replace(self, chance=1.0), n, g),
)
def test_each_part_comes_with_its_chance() -> None:
    maps = Affine(degrees=0.0, shear=0.0, scale=(1.0, 1.0), chance=0.3).maps(4000, generator_for(0, "g"))
    assert float((maps[:, :, 2].abs().sum(1) > 0).float().mean()) == pytest.approx(0.3, abs=0.03)


def test_tasks_stay_the_same_tasks() -> None:
    """The same classes, labels and images as without, each image with a distortion of its own."""
    plain = ImageTasks(blobs(), way=3, shot=2, query=2)
    e, d = plain.sample(2, generator_for(0, "e")), Distorted(plain, Affine()).sample(2, generator_for(0, "e"))
    assert e.classes is not None
    assert d.classes is not None
    for a, b in ((e.support_y, d.support_y), (e.query_y, d.query_y), (e.classes, d.classes)):
        assert torch.equal(a, b)
    same = Distorted(plain, NOTHING).sample(2, generator_for(0, "e"))
    assert torch.allclose(same.support_x, e.support_x, atol=1e-6)
    assert torch.allclose(same.query_x, e.query_x, atol=1e-6)
    assert not torch.allclose(d.query_x, e.query_x, atol=1e-3)
    again = Distorted(plain, Affine()).sample(2, generator_for(0, "e"))
    assert torch.equal(again.support_x, d.support_x)
    twins = torch.ones(50, 1, 6, 6)
    assert len(torch.unique(Affine()(twins, generator_for(0, "t")).flatten(1), dim=0)) > 30


def test_elastic_of_strength_0_is_the_identity() -> None:
    x = torch.rand(3, 2, 9, 7, generator=generator_for(0, "x"))
    assert torch.equal(Elastic(strength=0.0)(x, generator_for(0, "g")), x)
    assert torch.allclose(Elastic(strength=1e-6)(x, generator_for(0, "g")), x, atol=1e-4)


def test_elastic_field_has_its_strength_and_smoothness_everywhere() -> None:
    """Deviation as asked in the middle and at the border, and the correlation exp(−d² / 4σ²) of smoothed noise."""
    move = Elastic(strength=0.05, smooth=0.1).fields(400, 20, 20, generator_for(0, "g"))  # σ = 2 pixels, deviation 1
    assert abs(float(move.mean())) < 0.02
    deviation = move.std(0)
    assert float(deviation.min()) > 0.85
    assert float(deviation.max()) < 1.15
    for d, (dy, dx) in {2: (2, 0), 3: (0, 3)}.items():
        product = (move[:, :, dy:, dx:] * move[:, :, : 20 - dy, : 20 - dx]).mean()
        assert float(product) == pytest.approx(math.exp(-(d**2) / 16), abs=0.03)
    assert abs(float((move[:, 0] * move[:, 1]).mean())) < 0.03


def test_elastic_moves_pixels_by_its_field() -> None:
    """Of an image that is linear in the column, the warped one is linear in column plus move."""
    column = torch.arange(12.0).expand(1, 1, 10, 12)
    warp = Elastic(strength=0.05)
    move = warp.fields(1, 10, 12, generator_for(5, "g"))
    out = warp(column / 12, generator_for(5, "g"))[0, 0] * 12
    inside = slice(3, -3)
    assert float(move[0, 0, inside, inside].abs().max()) > 0.2
    assert torch.allclose(out[inside, inside], (column[0, 0] + move[0, 0])[inside, inside], atol=1e-4)


def test_crop_is_a_shift_by_whole_pixels() -> None:
    """Every crop against a slow loop over all windows; all of them occur."""
    x = torch.rand(400, 2, 8, 8, generator=generator_for(0, "x"))
    out = Crop(border=1 / 8)(x, generator_for(0, "g"))
    wide = torch.zeros(400, 2, 10, 10)
    wide[:, :, 1:-1, 1:-1] = x
    windows = torch.stack([wide[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], 1)
    hit = (windows == out[:, None]).flatten(2).all(2)
    assert torch.equal(hit.sum(1), torch.ones(400, dtype=torch.int64))
    assert (hit.sum(0) > 20).all()
    assert torch.equal(Crop(border=0.0)(x, generator_for(0, "g")), x)
    tall = torch.rand(3, 1, 8, 16)
    assert Crop(border=0.25)(tall, generator_for(0, "g")).shape == tall.shape


def test_flip_twice_is_the_identity() -> None:
    x = torch.rand(200, 1, 5, 6, generator=generator_for(0, "x"))
    always = Flip(chance=1.0)
    once = always(x, generator_for(0, "g"))
    assert torch.equal(once[..., 0], x[..., -1])
    assert torch.equal(always(once, generator_for(1, "g")), x)
    some = Flip()(x, generator_for(0, "g"))
    kept = (some == x).flatten(1).all(1)
    assert 0.4 < float(kept.float().mean()) < 0.6
    assert torch.equal(some[~kept], once[~kept])


def test_chain_is_one_after_the_other() -> None:
    x = torch.rand(6, 1, 8, 8, generator=generator_for(0, "x"))
    g = generator_for(0, "g")
    by_hand = Crop()(Affine()(x, g), g)
    assert torch.equal(Chain((Affine(), Crop()))(x, generator_for(0, "g")), by_hand)
    assert torch.equal(Chain(())(x, generator_for(0, "g")), x)


@pytest.mark.parametrize("make", [Affine(), Elastic(), Crop(), Flip(), Chain((Elastic(), Flip()))], ids=repr)
def test_every_augmentation(make: Augmentation) -> None:
    """One shape in and out (of none too), the same from the same generator, a draw of its own for each image."""
    x = torch.rand(1, 3, 12, 12, generator=generator_for(0, "x")).expand(40, 3, 12, 12)
    before = x.clone()
    out = make(x, generator_for(0, "g"))
    assert out.shape == x.shape
    assert torch.equal(out, make(x, generator_for(0, "g")))
    assert torch.equal(x, before)
    assert len(torch.unique(out.flatten(1), dim=0)) > (1 if make == Flip() else 10)
    assert make(x[:0], generator_for(0, "g")).shape == (0, 3, 12, 12)
    assert isinstance(
        Distorted(ImageTasks(blobs(), 2, 1, 1), make).sample(2, generator_for(0, "e")).query_x, torch.Tensor
    )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"scale": (0.0, 1.0)}, ("scale", (0.0, 1.0))),
        ({"scale": (1.1, 1.2)}, ("scale", (1.1, 1.2))),
        ({"chance": 2.0}, ("chance", 2.0)),
        ({"shear": 1.0}, ("shear", 1.0)),
    ],
)
def test_what_is_refused(wrong: dict, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        Affine(**wrong)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda: Elastic(strength=-0.1), ("strength", "-0.1")),
        (lambda: Elastic(smooth=0.0), ("smooth", 0.0)),
        (lambda: Crop(border=1.5), ("border", 1.5)),
        (lambda: Flip(chance=-1.0), ("chance", "-1.0")),
    ],
)
def test_what_the_others_refuse(wrong: Callable[[], Augmentation], named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        wrong()
