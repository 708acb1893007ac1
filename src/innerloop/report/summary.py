"""What a study left behind: its summary and a few of its test episodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from innerloop.errors import InnerloopError
from innerloop.runs import read_json

Summary = Mapping[str, Any]
"""summary.json as it was read: accuracies are fractions, `ci95` is over test episodes of one model."""


class ReportError(InnerloopError):
    """A study folder that no report can be made from; the message names the file and says what to do."""


@dataclass(frozen=True)
class Episodes:
    """A few test episodes with what each method guessed."""

    support_x: np.ndarray
    """uint8 [episodes, way·shot, channels, height, width]"""
    support_y: np.ndarray
    query_x: np.ndarray
    query_y: np.ndarray
    guesses: dict[str, np.ndarray]
    """method → class guessed for each query image, [episodes, queries]"""


def read_summary(folder: Path) -> Summary:
    """The summary of a study folder. Raises ReportError, naming the file, if it is missing or damaged."""
    path = folder / "summary.json"
    try:
        summary = read_json(path)
    except FileNotFoundError:
        raise ReportError(f"{path} does not exist: {folder} holds no finished study; run one there first") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read ({error})") from None
    if not isinstance(summary, dict):
        raise ReportError(f"{path} is not a summary: it holds no JSON object")
    missing = [k for k in ("data", "methods") if not isinstance(summary.get(k), dict) or not summary[k]]
    if missing:
        raise ReportError(f"{path} is not the summary of a study: it has no {' and no '.join(missing)}")
    return summary


def read_episodes(folder: Path) -> Episodes | None:
    """The episodes of a study folder, None where none were kept. Raises ReportError for a damaged file."""
    path = folder / "episodes.safetensors"
    if not path.exists():
        return None
    try:
        arrays = load_file(path)
        guesses = {k.removeprefix("guess_"): v for k, v in arrays.items() if k.startswith("guess_")}
        episodes = Episodes(arrays["support_x"], arrays["support_y"], arrays["query_x"], arrays["query_y"], guesses)
    except KeyError as error:
        raise ReportError(f"{path} has no {error.args[0]}; run the study again") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise ReportError(f"{path} cannot be read ({error}); run the study again") from None
    for x, y in ((episodes.support_x, episodes.support_y), (episodes.query_x, episodes.query_y)):
        if x.ndim != 5 or x.shape[:2] != y.shape or any(g.shape != episodes.query_y.shape for g in guesses.values()):
            raise ReportError(
                f"{path} holds images, labels and guesses of shapes that do not agree; run the study again"
            )
    return episodes
