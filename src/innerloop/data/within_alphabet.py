"""One-shot tasks within an alphabet: which of 20 letters of one drawer is the letter that another drawer drew?

Lake, Salakhutdinov, Tenenbaum (Science 350, 2015), as tested by Koch, Zemel, Salakhutdinov (2015, section 4.3).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from innerloop.core.episodes import ClassImages, Episodes
from innerloop.errors import InnerloopError


@dataclass(frozen=True)
class WithinAlphabet:
    """Episodes of `way` characters of one alphabet: support by one drawer, query by another, one image a class each.

    An alphabet (drawn uniformly from those with `way` characters or more) is the part of a class name before the first
    "/"; image i of each of its characters is by its drawer i, as Omniglot's file names order them. The protocol has no
    rotated classes and no classes of other alphabets, so it is harder than `ImageTasks` at the same way.

    It differs from Lake et al. in this: they fixed 20 runs (10 alphabets, two runs each, 20 × 20 = 400 trials), whose
    list is not part of Omniglot's two image archives; here alphabets, characters and drawers are drawn from the
    generator, and from every alphabet of `data`. Koch et al. drew likewise, but held out drawers, too (12 of 20 for
    training). The mean is of the same thing, the trials are not.
    """

    data: ClassImages
    """such as ``load("omniglot", split_scheme="lake").split("test")``"""
    way: int = 20

    def __post_init__(self) -> None:
        data = self.data
        if self.way < 2:
            raise InnerloopError(f"way must be at least 2, got {self.way}")
        if not data.class_names:
            raise InnerloopError(f"{data.name} has no classes")
        if ungrouped := [name for name in data.class_names if "/" not in name]:
            raise InnerloopError(
                f"{data.name}: class {ungrouped[0]!r} is of no alphabet; within-alphabet tasks need classes called "
                "ALPHABET/CHARACTER, as omniglot's"
            )
        if bool(data.turns.any()):
            raise InnerloopError(
                f"{data.name} counts rotations as classes, which this protocol has not; load omniglot with "
                'split_scheme="lake"'
            )
        for a, alphabet in enumerate(self.alphabets):
            counts = data.count.cpu()[self.members[a]]
            if int(counts.min()) != int(counts.max()) or int(counts.min()) < 2:
                raise InnerloopError(
                    f"{data.name}: characters of {alphabet} have {int(counts.min())} to {int(counts.max())} drawings; "
                    "each must have one by each of the same 2 or more drawers"
                )
        if not self.alphabets:
            groups = [name.split("/")[0] for name in data.class_names]
            most = max(set(groups), key=groups.count)
            raise InnerloopError(
                f"{data.name}: no alphabet has {self.way} characters; the largest, {most}, has {groups.count(most)}"
            )

    @property
    def shot(self) -> int:
        """1: the one drawing by the first drawer."""
        return 1

    @property
    def query(self) -> int:
        """1: the one drawing by the second drawer."""
        return 1

    @cached_property
    def alphabets(self) -> tuple[str, ...]:
        """Those with `way` characters or more, by name: the ones drawn from."""
        groups = [name.split("/")[0] for name in self.data.class_names]
        return tuple(sorted(a for a in set(groups) if groups.count(a) >= self.way))

    @cached_property
    def members(self) -> Bool[Tensor, "alphabets classes"]:
        """Which classes belong to each of `alphabets`."""
        groups = [name.split("/")[0] for name in self.data.class_names]
        return torch.tensor([[g == a for g in groups] for a in self.alphabets]).reshape(-1, len(groups))

    @cached_property
    def drawers(self) -> Int[Tensor, " alphabets"]:
        """How many people drew each of `alphabets`."""
        count = self.data.count.cpu()
        return torch.stack([count[member].min() for member in self.members])

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` episodes; the same generator state gives the same ones, wherever the images lie."""
        data, device, where = self.data, self.data.images.device, generator.device
        alphabet = torch.randint(len(self.alphabets), (tasks,), generator=generator, device=where)
        keys = torch.rand(tasks, len(data.class_names), generator=generator, device=where)
        keys.masked_fill_(~self.members.to(where)[alphabet], -1.0)
        classes = keys.topk(self.way, dim=1).indices.to(device)
        drawers = self.drawers.to(where)[alphabet]
        keys = torch.rand(tasks, int(self.drawers.max()), generator=generator, device=where)
        keys.masked_fill_(torch.arange(keys.shape[1], device=where) >= drawers[:, None], -1.0)
        pair = keys.topk(2, dim=1).indices.to(device)
        index = data.first[classes][..., None] + pair[:, None, :]  # [tasks, way, support or query]
        x = data.take(index, torch.zeros_like(index))
        label = torch.arange(self.way, device=device).expand(tasks, -1)
        return Episodes(x[:, :, 0], label, x[:, :, 1], label, classes)
