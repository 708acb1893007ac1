"""Test episodes as pictures: the labelled examples, and what each method predicts for the query images."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from innerloop.report.drawing import WIDTH
from innerloop.report.style import FAINT, INK, look
from innerloop.report.summary import Episodes, Summary
from innerloop.report.tables import label

CLASSES, QUERIES, EPISODES = 5, 2, 2
"""the most that is drawn: the first classes of an episode, query images of a class, and episodes"""

_LINE = 0.17
"""inches from one line of text to the next"""


def draw_episodes(summary: Summary, episodes: Episodes) -> Figure:
    """A column for each class: its boxed support images, below them query images with the guesses."""
    count = min(EPISODES, len(episodes.query_y))
    columns = min(CLASSES, len(np.unique(episodes.support_y[0])))
    methods = sorted(episodes.guesses, key=[*summary["methods"], *episodes.guesses].index)
    pitch = WIDTH / columns
    said = _LINE * len(methods) + 0.12
    below = [0.55, pitch, *[pitch + said] * QUERIES]
    figure = Figure(figsize=(WIDTH, count * sum(below)))
    for e in range(count):
        top = figure.get_figheight() - e * sum(below)
        _text(figure, 0.02, top - 0.05, f"Episode {e + 1}", fontweight="bold")
        for c in range(columns):
            left = (c + 0.04) * pitch
            _text(figure, left, top - 0.32, _letter(c), fontweight="bold")
            low = top - below[0] - pitch
            support = _picture(figure, left + 0.04 * pitch, low + 0.12 * pitch, 0.84 * pitch)
            _show(support, _tile(episodes.support_x[e][episodes.support_y[e] == c]))
            box = {"transform": support.transAxes, "edgecolor": INK, "linewidth": 2, "clip_on": False}
            support.add_patch(Rectangle((-0.05, -0.05), 1.1, 1.1, fill=False, **box))
            for q in np.flatnonzero(episodes.query_y[e] == c)[:QUERIES]:
                low -= pitch
                _show(
                    _picture(figure, left, low + 0.08 * pitch, 0.92 * pitch),
                    _tile(episodes.query_x[e][q][None]),
                )
                for i, method in enumerate(methods):
                    guess = int(episodes.guesses[method][e, q])
                    _text(
                        figure,
                        left,
                        low + 0.03 * pitch - _LINE * i,
                        f"{label(summary, method)} {'✓' if guess == c else f'✗ {_letter(guess)}'}",
                        fontsize=8.5,
                        color=look(method).colour,
                        fontweight="normal" if guess == c else "bold",
                    )
                low -= said
    return figure


def _letter(label: int) -> str:
    return chr(65 + label) if label < 26 else str(label + 1)


def _picture(figure: Figure, left: float, bottom: float, side: float) -> Axes:
    """A framed square at a place in inches."""
    height = figure.get_figheight()
    made = figure.add_axes((left / WIDTH, bottom / height, side / WIDTH, side / height))
    made.set_xticks([])
    made.set_yticks([])
    made.spines[:].set_visible(True)
    made.spines[:].set(color=FAINT, linewidth=0.5)
    return made


def _text(figure: Figure, left: float, top: float, text: str, **how: Any) -> None:
    """Text at a place in inches."""
    figure.text(left / WIDTH, top / figure.get_figheight(), text, va="top", **how)


def _tile(images: np.ndarray) -> np.ndarray:
    """uint8 [n, c, h, w] → one picture [H, W, c] with the images in rows."""
    n, c, h, w = images.shape
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    blank = 255 if c == 3 else 0
    sheet = np.full((c, down * (h + 1) - 1, across * (w + 1) - 1), blank, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, across)
        sheet[:, y * (h + 1) : y * (h + 1) + h, x * (w + 1) : x * (w + 1) + w] = image
    return sheet.transpose(1, 2, 0)


def _show(axes: Axes, picture: np.ndarray) -> None:
    if picture.shape[-1] == 3:
        axes.imshow(picture, interpolation="nearest", aspect="equal")
    else:  # strokes are 1: black on white, as ink on paper
        axes.imshow(picture[..., 0], cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", aspect="equal")
