"""Images of one data set in the shape of another's."""

import numpy as np
import pytest
import torch
from PIL import Image

from innerloop.core.episodes import ClassImages
from innerloop.core.random import generator_for
from innerloop.data.convert import as_shape
from innerloop.errors import InnerloopError
from naming import names


def made(channels: int, height: int, width: int | None = None) -> ClassImages:
    g = generator_for(0, "made")
    shape = (3, channels, height, width or height)
    per_class = [torch.randint(0, 256, shape, generator=g, dtype=torch.uint8) for _ in range(2)]
    return ClassImages.from_tensors("made", per_class, ("a", "b"), {"train": (0,), "test": (1,)})


def test_nothing_to_do_gives_the_same_object() -> None:
    data = made(3, 8)
    assert as_shape(data, 3, 8) is data


def test_classes_and_splits_stay() -> None:
    data = made(3, 8)
    small = as_shape(data, 1, 5)
    assert small.image_shape == (1, 5, 5)
    assert small.images.dtype == torch.uint8
    assert (small.class_names, small.splits) == (data.class_names, data.splits)
    assert torch.equal(small.first, data.first)
    assert torch.equal(small.count, data.count)


@pytest.mark.parametrize("size", [5, 8, 13])
def test_like_pillow_on_each_picture(size: int) -> None:
    """Colours as pictures, by Pillow's own resize; catches mixed-up channels or images, width for height."""
    data = made(3, 8, 6)
    out = as_shape(data, 3, size)
    for before, after in zip(data.images, out.images, strict=True):
        image = Image.fromarray(before.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.LANCZOS)
        assert np.array_equal(after.permute(1, 2, 0).numpy(), np.asarray(image))


def test_grey_is_luma_and_comes_back() -> None:
    """Grey is within rounding of Pillow's mode L; grey -> RGB -> grey loses nothing (the weights sum to 1)."""
    data = made(3, 8)
    grey = as_shape(data, 1, 8)
    for before, after in zip(data.images, grey.images, strict=True):
        expected = np.asarray(Image.fromarray(before.permute(1, 2, 0).numpy()).convert("L")).astype(int)
        assert np.abs(after[0].numpy().astype(int) - expected).max() <= 1
    colour = as_shape(grey, 3, 8)
    assert colour.images.is_contiguous()
    assert torch.equal(colour.images[:, 0], grey.images[:, 0])
    assert torch.equal(as_shape(colour, 1, 8).images, grey.images)


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(InnerloopError, match=names("made", "size", 1, 0)):
        as_shape(made(1, 8), 1, 0)
    with pytest.raises(InnerloopError, match=names("made", "channels", 3, 2)):
        as_shape(made(3, 8), 2, 8)
