"""Test episodes as pictures: the labelled examples, and what each method said of the query images."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from innerloop.report.drawing import WIDTH
from innerloop.report.looks import FAINT, INK, look
from innerloop.report.summary import Episodes, Summary
from innerloop.report.tables import short_title

CLASSES, QUERIES, EPISODES = 5, 2, 2
"""the most that is drawn: the first classes of an episode, query images of a class, and episodes"""


def draw_episodes(summary: Summary, episodes: Episodes) -> Figure:
    """A column for each class: its boxed support images, below them query images with the guesses."""
    count = min(EPISODES, len(episodes.query_y))
    columns = min(CLASSES, len(np.unique(episodes.support_y[0])))
    methods = list(episodes.guesses)
    text = 0.17 * len(methods) + 0.12
    side = WIDTH / (columns + 0.35)
    heights = [side, *[side + text] * QUERIES]
    figure = Figure(figsize=(WIDTH, count * (sum(heights) + 0.36)))
    total = figure.get_figheight()
    top = total
    for e in range(count):
        top -= 0.26
        figure.text(0.01, top / total, f"Episode {e + 1}", va="bottom", fontweight="bold")
        for c in range(columns):
            left = 0.2 * side + c * side * 1.03
            support = episodes.support_x[e][episodes.support_y[e] == c]
            where = _axes(figure, left, top - side, side)
            _show(where, _tile(support))
            where.add_patch(
                Rectangle(
                    (0, 0),
                    1,
                    1,
                    transform=where.transAxes,
                    fill=False,
                    edgecolor=INK,
                    linewidth=2.2,
                    clip_on=False,
                )
            )
            _label(figure, left + 0.04 * side, top - 0.04 * side, chr(65 + c))
            asked = np.flatnonzero(episodes.query_y[e] == c)[:QUERIES]
            for row, q in enumerate(asked):
                low = top - side - (row + 1) * side - row * text - 0.03
                _show(_axes(figure, left, low, side), _tile(episodes.query_x[e][q][None]))
                for i, method in enumerate(methods):
                    guess = int(episodes.guesses[method][e, q])
                    right = guess == c
                    said = "✓" if right else f"✗ {chr(65 + guess) if guess < 26 else guess + 1}"
                    figure.text(
                        (left + 0.05 * side) / WIDTH,
                        (low - 0.02 - 0.17 * i) / total,
                        f"{short_title(summary, method)} {said}",
                        va="top",
                        fontsize=8.5,
                        color=look(method).colour,
                        fontweight="normal" if right else "bold",
                    )
        top -= sum(heights) + 0.1
    return figure


def _axes(figure: Figure, left: float, bottom: float, side: float) -> Axes:
    height = figure.get_figheight()
    made = figure.add_axes((left / WIDTH, bottom / height, 0.9 * side / WIDTH, 0.9 * side / height))
    made.set_xticks([])
    made.set_yticks([])
    made.spines[:].set_visible(True)
    made.spines[:].set_color(FAINT)
    made.spines[:].set_linewidth(0.5)
    return made


def _label(figure: Figure, x: float, y: float, text: str) -> None:
    figure.text(
        x / WIDTH,
        (y - 0.06) / figure.get_figheight(),
        text,
        va="top",
        fontsize=9,
        fontweight="bold",
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "#ffffff", "edgecolor": INK, "linewidth": 0.8},
        zorder=5,
    )


def _tile(images: np.ndarray) -> np.ndarray:
    """uint8 [n, c, h, w] → one square picture [H, W, c] with the images in rows."""
    n, c, h, w = images.shape
    across = math.ceil(math.sqrt(n))
    sheet = np.zeros((c, across * h, across * w), dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, across)
        sheet[:, y * h : (y + 1) * h, x * w : (x + 1) * w] = image
    return sheet.transpose(1, 2, 0)


def _show(axes: Axes, picture: np.ndarray) -> None:
    if picture.shape[-1] == 3:
        axes.imshow(picture, interpolation="nearest", aspect="auto")
    else:  # strokes are 1: black on white, as ink on paper
        axes.imshow(picture[..., 0], cmap="gray_r", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
