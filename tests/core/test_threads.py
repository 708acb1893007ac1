"""Threads that a machine can give."""

import os

import pytest
import torch

from innerloop.core.threads import use_threads
from innerloop.errors import InnerloopError
from naming import names


def test_threads_are_used_and_0_changes_nothing() -> None:
    before = torch.get_num_threads()
    try:
        assert use_threads(before + 1) == before + 1
        assert torch.get_num_threads() == before + 1
        assert use_threads(0) == 0
        assert torch.get_num_threads() == before + 1
        cores = os.cpu_count() or 1
        assert use_threads(96 * cores, stored=True) == cores  # of a run that was trained on a larger machine
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [-1, 100_000])
def test_far_too_many_are_refused(threads: int) -> None:
    """PyTorch itself would end the process without a word."""
    before = torch.get_num_threads()
    with pytest.raises(InnerloopError, match=names("--threads", threads, os.cpu_count())):
        use_threads(threads)
    assert torch.get_num_threads() == before
