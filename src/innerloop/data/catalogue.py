"""Every image data set by its name."""

from pathlib import Path
from typing import Literal, cast

from innerloop.core.episodes import ClassImages
from innerloop.data.omniglot import load_omniglot
from innerloop.data.progress import Progress, silent

NAMES = ("omniglot",)


def load(
    name: str,
    *,
    split_scheme: str | None = None,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """The classes, with their splits, of the data set `name`; raises ValueError for an unknown name."""
    match name:
        case "omniglot":
            scheme = cast(Literal["vinyals", "lake"], split_scheme or "vinyals")
            return load_omniglot(scheme, data_dir=data_dir, cache_dir=cache_dir, progress=progress)
        case _:
            raise ValueError(f"there is no data set {name!r}; there are {', '.join(NAMES)}")
