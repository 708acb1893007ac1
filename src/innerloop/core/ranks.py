"""The processes of one training under torchrun: each takes its share of the tasks, and sums go over all of them."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from innerloop.errors import InnerloopError

T = TypeVar("T")


class RankLost(InnerloopError):
    """Another process of this training failed; what it met is reported there."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together. Alone (size 1), no method communicates."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def share(self, tasks: int) -> slice:
        """Which of `tasks` tasks this process takes: consecutive, and as many as the others or one more or less; the
        first has one if there is one."""
        return slice(-(-tasks * self.rank // self.size), -(-tasks * (self.rank + 1) // self.size))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of this tensor over the processes, in its own memory."""
        if self.size > 1:
            _together(lambda: dist.all_reduce(tensor))
        return tensor

    def sum_all(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum of each of these over the processes, in one message."""
        if self.size == 1:
            return list(tensors)
        kind = max((t.dtype for t in tensors), key=lambda d: d.itemsize)
        flat = self.sum(torch.cat([t.flatten().to(kind) for t in tensors]))
        parts = flat.split([t.numel() for t in tensors])
        return [part.view_as(t).to(t.dtype) for part, t in zip(parts, tensors, strict=True)]

    def whole(self, own: Tensor, tasks: int) -> Tensor:
        """The values of all `tasks`, of which `own` has those of this process's `share`, in its first dimension."""
        if self.size == 1:
            return own
        found = own.new_zeros(tasks, *own.shape[1:])
        found[self.share(tasks)] = own
        return self.sum(found)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.sum(torch.tensor(float(flag)))) if self.size > 1 else flag

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them; only there is it called. Raises RankLost in the
        others if it fails."""
        if self.size == 1:
            return make()
        if not self.first:
            box: list[Any] = [None, None]
            _together(lambda: dist.broadcast_object_list(box, src=0))
            if box[1] is not None:
                raise RankLost(box[1])
            return box[0]
        try:
            box = [make(), None]
        except BaseException as error:
            dist.broadcast_object_list([None, str(error) or type(error).__name__], src=0)
            raise
        _together(lambda: dist.broadcast_object_list(box, src=0))
        return box[0]

    def check_same(self, value: object, what: str) -> None:
        """Raise InnerloopError unless `value` is equal in all processes."""
        if value != self.from_first(lambda: value):
            raise InnerloopError(
                f"process {self.rank} of {self.size} has {what} of its own; processes that train together need the "
                "same. To train several models, start them one by one, without torchrun"
            )


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that torchrun started together, ready to communicate; `ALONE` without torchrun.

    gloo carries CPU tensors, NCCL those of GPUs. A process group that exists is used, and left as it is.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield ALONE
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _together(communicate: Callable[[], object]) -> None:
    try:
        communicate()
    except RuntimeError as error:
        raise RankLost(
            "another process of this training has ended; the last checkpoint stands, and the same command with "
            f"--resume continues from there, with any number of processes ({str(error).splitlines()[0]})"
        ) from None
