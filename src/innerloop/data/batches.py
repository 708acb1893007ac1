"""Plain classification over all classes at once: what transfer learning pre-trains on."""

from dataclasses import dataclass

import torch

from innerloop.core.episodes import ClassImages, Episodes
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class ClassBatches:
    """Batches of labelled images of all classes, as episodes without a support set.

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
