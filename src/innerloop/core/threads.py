"""How many CPU threads PyTorch uses."""

import os

import torch


def use_threads(threads: int) -> None:
    """Let PyTorch use that many; 0 leaves its choice.

    Raises ValueError for far more than the machine has cores: they could only be slow, and PyTorch ends the process
    where the system gives no more.
    """
    cores = os.cpu_count() or 1
    most = max(64, 4 * cores)
    if not 0 <= threads <= most:
        raise ValueError(
            f"--threads {threads} cannot be: this machine has {cores} core{'' if cores == 1 else 's'}, so it takes 0 "
            f"(leave the choice to PyTorch) to {most}"
        )
    if threads:
        torch.set_num_threads(threads)
