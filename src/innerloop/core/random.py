"""Randomness is an argument: one root seed names any number of independent generators."""

import hashlib
import operator
from typing import SupportsIndex

import torch


def generator_for(
    seed: SupportsIndex, *path: str | SupportsIndex, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator that depends on the root `seed` and a `path` of names and numbers, and on nothing else.

    ``generator_for(0, "episodes", 17)`` is always the same generator, and independent of
    ``generator_for(0, "episodes", 18)``, ``generator_for(0, "init")`` and ``generator_for(1, "episodes", 17)``.
    NumPy's integers are integers. The state is the first 63 bits of SHA-256 over the path, so no order of calls can
    change it.
    """
    if isinstance(seed, bool) or not isinstance(seed, SupportsIndex):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    text = "\x1f".join(
        f"str:{part}" if isinstance(part, str) else f"int:{operator.index(part)}" for part in (seed, *path)
    )
    digest = hashlib.sha256(text.encode()).digest()
    generator = torch.Generator(device=device)
    generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return generator
