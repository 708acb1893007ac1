"""Batches of all classes: labels belong to their images, classes come equally often."""

from dataclasses import replace

import pytest
import torch
from test_sampler import numbered_classes, numbers

from innerloop.core.random import generator_for
from innerloop.data.batches import ClassBatches
from innerloop.errors import InnerloopError
from naming import names
from planting import plants


@plants(
    "labels of other images",
    "data.batches:ClassBatches.sample",
    lambda right: lambda self, n, g: replace(right(self, n, g), query_y=right(self, n, g).query_y.flip(1)),
)
def test_every_image_has_the_label_of_its_class() -> None:
    counts = [3, 1, 7, 20]
    data = numbered_classes(counts)
    e = ClassBatches(data, 500).sample(4, generator_for(0, "t"))
    assert e.support_x.shape == (4, 0, 1, 2, 2)
    assert e.support_y.shape == (4, 0)
    first = torch.tensor([0, 3, 4, 11])
    shown = numbers(e.query_x)
    assert bool((shown >= first[e.query_y]).all())
    assert bool((shown < first[e.query_y] + torch.tensor(counts)[e.query_y]).all())
    assert set(shown.flatten().tolist()) == set(range(31)), "each image must come up"
    often = torch.bincount(e.query_y.flatten(), minlength=4) / 2000
    assert torch.allclose(often, torch.full((4,), 0.25), atol=0.04), "a class with few images comes as often"


def test_the_same_stream_gives_the_same_batch() -> None:
    tasks = ClassBatches(numbered_classes([4, 4]), 6)
    a, b, c = (tasks.sample(2, generator_for(0, "t", i)) for i in (1, 1, 2))
    assert torch.equal(a.query_x, b.query_x)
    assert not torch.equal(a.query_y, c.query_y)
    with pytest.raises(InnerloopError, match=names(1, 0)):
        ClassBatches(numbered_classes([4, 4]), 0)
