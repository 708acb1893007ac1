"""What a study is doing, for whoever shows progress."""

from dataclasses import dataclass

from innerloop.training import Progress

MOVEMENT_EPISODES = 100
"""episodes on which movement and similarity are measured"""


@dataclass(frozen=True)
class Stage:
    """One of its parts."""

    title: str
    done: int
    total: int
    training: Progress | None = None
