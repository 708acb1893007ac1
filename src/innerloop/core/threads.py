"""How many CPU threads PyTorch uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from innerloop.errors import InnerloopError


def use_threads(threads: int, *, stored: bool = False) -> int:
    """Let PyTorch use that many, and say how many (0, which leaves its choice, stays 0).

    A number that was `stored` with a run, perhaps on a larger machine, is cut to the cores of this one. Else ValueError
    is raised for far more than there are: they could only be slow, and PyTorch ends the process where the system gives
    no more.
    """
    cores = os.cpu_count() or 1
    most = max(64, 4 * cores)
    if stored:
        threads = min(threads, cores)
    if not 0 <= threads <= most:
        raise InnerloopError(
            f"--threads {threads} cannot be: this machine has {cores} core{'' if cores == 1 else 's'}, so it takes 0 "
            f"(leave the choice to PyTorch) to {most}"
        )
    if threads:
        torch.set_num_threads(threads)
    return threads


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside, as many as before behind: for times that compare."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
