"""Batches for methods that do not train on few-shot episodes: images of all classes, and pairs of images."""

from dataclasses import dataclass

import torch

from innerloop.core.episodes import ClassImages, Episodes
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class ClassBatches:
    """Batches of labelled images of all classes, as episodes without a support set: transfer learning's pre-training.

    A class is drawn uniformly, then an image of it; labels are the classes' own numbers in `data`, the same in every
    batch.
    """

    data: ClassImages
    batch: int
    """images a batch, which is one episode's query set"""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InnerloopError(f"a batch needs at least 1 image, got {self.batch}")

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` batches; the same generator state gives the same ones."""
        data, device, where = self.data, self.data.images.device, generator.device
        shape = (tasks, self.batch)
        label = torch.randint(len(data.class_names), shape, generator=generator, device=where)
        part = torch.rand(shape, generator=generator, device=where, dtype=torch.float64)
        chosen = (part * data.count.to(where)[label]).long().to(device)
        label = label.to(device)
        x = data.take(data.first[label] + chosen, data.turns[label])
        return Episodes(x[:, :0], label[:, :0], x, label)


@dataclass(frozen=True)
class Pairs:
    """Batches of pairs of images: what a Siamese network verifies (Koch et al. 2015, section 4.1).

    As episodes: pair i is support image i and query image i; its label is 1 for one class, else 0. The first half of
    each batch (rounded up) are two different images of one class drawn uniformly; the rest, one image each of two
    different classes.
    """

    data: ClassImages
    pairs: int
    """pairs a batch"""

    def __post_init__(self) -> None:
        if self.pairs < 2:
            raise InnerloopError(f"a batch needs at least 2 pairs, one of each kind, got {self.pairs}")
        if len(self.data.class_names) < 2 or int(self.data.count.min()) < 2:
            raise InnerloopError(f"pairs need 2 or more classes of 2 or more images each; {self.data.name} has fewer")

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` batches; the same generator state gives the same ones."""
        data, device, where = self.data, self.data.images.device, generator.device
        shape = (tasks, self.pairs)
        classes = len(data.class_names)
        same = (torch.arange(self.pairs, device=where) < (self.pairs + 1) // 2).expand(shape)
        a = torch.randint(classes, shape, generator=generator, device=where)
        other = (a + 1 + torch.randint(classes - 1, shape, generator=generator, device=where)) % classes
        b = torch.where(same, a, other)
        draw = torch.rand(2, *shape, generator=generator, device=where, dtype=torch.float64)
        count = data.count.to(where)
        i = (draw[0] * count[a]).long()
        # of the same class: one of the other images; else any image
        j = torch.where(same, (i + 1 + (draw[1] * (count[a] - 1)).long()) % count[a], (draw[1] * count[b]).long())
        a, b, i, j = (t.to(device) for t in (a, b, i, j))
        first = data.take(data.first[a] + i, data.turns[a])
        second = data.take(data.first[b] + j, data.turns[b])
        return Episodes(first, torch.zeros_like(a), second, same.long().to(device))
