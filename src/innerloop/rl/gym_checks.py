"""What both Gymnasium environments refuse, and how they say it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from innerloop.errors import InnerloopError


def numbers(value: Any, size: int, kind: type[np.floating], what: str) -> np.ndarray:
    """`value` as an array [size] of finite numbers; one number may stand without brackets, or with more of them."""
    try:
        found = np.array(value, kind)  # a copy: what the caller does to its own later does not change the task
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.size == size == 1:
        found = found.reshape(1)
    if found.shape != (size,) or not np.isfinite(found).all():
        raise InnerloopError(f"{what}; got {value!r}")
    return found


def known(options: dict[str, Any] | None, names: Sequence[str]) -> dict[str, Any]:
    """The options of a reset; one that the environment does not know is an error."""
    options = options or {}
    if unknown := [k for k in options if k not in names]:
        raise InnerloopError(f"reset knows the options {', '.join(names)}; got {', '.join(map(repr, unknown))}")
    return options


def count(tasks: int) -> int:
    """A number of tasks."""
    if tasks < 1:
        raise InnerloopError(f"sample_tasks draws at least 1 task, got {tasks}")
    return tasks
