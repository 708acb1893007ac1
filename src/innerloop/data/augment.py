"""Episodes whose support sets hold generated or distorted images beside the real ones: augmentation at test time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from innerloop.core.episodes import Episodes, TaskFamily
from innerloop.core.random import generator_for
from innerloop.data.distort import Augmentation
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class AugmentedSupport:
    """The tasks of `tasks`, with `copies` new images of the same label beside each support image.

    The support set grows from way·shot to way·shot·(copies + 1) images: each real image, then those made of it, in the
    order of the real ones, so that the examples of class 0 still come first. Real images and query sets are bit for bit
    those of `tasks` under the same generator, now and at every later draw: results with and without compare in pairs.
    """

    tasks: TaskFamily
    make: Augmentation
    """called with support images [n, channels, height, width] and a generator"""
    copies: int = 1

    def __post_init__(self) -> None:
        if self.copies < 0:
            raise InnerloopError(f"copies must be 0 or more, got {self.copies}")

    @property
    def query(self) -> int:
        """Query images per class, of families that have such a number."""
        return self.tasks.query  # pyright: ignore[reportAttributeAccessIssue]

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` episodes; the generator moves on exactly as for `self.tasks`."""
        e = self.tasks.sample(tasks, generator)
        x = e.support_x
        if x.ndim != 5:
            raise InnerloopError(f"only images can be augmented, this support set is {list(x.shape)}")
        chance = _apart(generator)
        rows = [x]
        for _ in range(self.copies):
            made = self.make(x.flatten(0, 1), chance)
            if made.shape != x.flatten(0, 1).shape:
                raise InnerloopError(
                    f"the augmentation gave {list(made.shape)} for images {list(x.flatten(0, 1).shape)}; it must keep "
                    "number and shape"
                )
            rows.append(made.view_as(x))
        support_x: Tensor = torch.stack(rows, 2).flatten(1, 2)
        support_y = e.support_y.repeat_interleave(self.copies + 1, 1)
        return Episodes(support_x, support_y, e.query_x, e.query_y, e.classes)


def _apart(generator: torch.Generator) -> torch.Generator:
    """A generator that depends on the state of this one, which stays as it is."""
    twin = torch.Generator(device=generator.device)
    twin.set_state(generator.get_state())
    seed = int(torch.randint(2**62, (), generator=twin, device=twin.device))
    return generator_for(seed, "enlarged", device=generator.device)
