"""Class splits: published ones are shipped as text, one class or group of classes a line; others are made by a rule."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources

import torch

from innerloop.core.episodes import SPLITS
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError


def split_lines(scheme: str) -> dict[str, list[str]]:
    """split name (train, val, test) -> the lines of the shipped list splits/SCHEME/SPLIT.txt."""
    folder = resources.files("innerloop.data") / "splits" / scheme
    return {s: (folder / f"{s}.txt").read_text(encoding="utf-8").split("\n")[:-1] for s in SPLITS}


def numbered(line: str) -> tuple[str, list[int]]:
    """The name and the numbers of a line like "Angelic 1-3 7": ("Angelic", [1, 2, 3, 7])."""
    name, *runs = line.split(" ")
    numbers: list[int] = []
    for run in runs:
        low, _, high = run.partition("-")
        numbers.extend(range(int(low), int(high or low) + 1))
    return name, numbers


def group(name: str) -> str:
    """The group of a class called GROUP/CLASS: the alphabet of a character."""
    return name.split("/")[0]


def by_group(names: Sequence[str], homes: Mapping[str, str]) -> dict[str, list[str]]:
    """Whole groups (alphabets) belong to one split, `homes[group]`."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        splits[homes[group(name)]].append(name)
    return splits


def shared_out(
    seed: int = 0, fractions: tuple[float, float, float] = (0.64, 0.16, 0.2)
) -> Callable[[Sequence[str]], dict[str, list[str]]]:
    """Share classes out at random, by `seed` alone; each share above 0 gets at least one class.

    `fractions` are for train, val and test, and sum to 1. Raises InnerloopError.
    """
    if min(fractions) < 0 or not abs(sum(fractions) - 1) < 1e-6:
        raise InnerloopError(f"fractions must be three shares that sum to 1, got {fractions}")

    def splits(names: Sequence[str]) -> dict[str, list[str]]:
        edges = [round(len(names) * sum(fractions[:i])) for i in range(len(fractions) + 1)]
        order: list[int] = torch.randperm(len(names), generator=generator_for(seed, "class split")).tolist()
        found: dict[str, list[str]] = {}
        for split, share, low, high in zip(SPLITS, fractions, edges, edges[1:], strict=False):
            if share > 0 and low == high:
                raise InnerloopError(f"{len(names)} classes are too few: a share of {share} leaves none for {split}")
            if share > 0:
                found[split] = [names[c] for c in sorted(order[low:high])]
        return found

    return splits
