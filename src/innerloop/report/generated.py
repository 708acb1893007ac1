"""Generated images as a picture: what they were made from, what was made, and the training image nearest to it."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from innerloop.errors import InnerloopError
from innerloop.report.drawing import WIDTH, png, style
from innerloop.report.style import FAINT

ROWS, SAMPLES = 10, 6
"""the most that is drawn: conditioning images, and samples of each"""


def generated_png(
    conditions: NDArray[np.floating], samples: NDArray[np.floating], nearest: NDArray[np.floating]
) -> bytes:
    """The picture as PNG: a row for each of the first conditioning images [n, c, h, w] with its first samples
    [n, s, c, h, w] and the training image nearest to the first of them (`nearest` is [n, s, c, h, w]). Pixels 0..1."""
    with style("generated"):
        return png(draw_generated(conditions, samples, nearest))


def draw_generated(
    conditions: NDArray[np.floating], samples: NDArray[np.floating], nearest: NDArray[np.floating]
) -> Figure:
    """See `generated_png`."""
    if samples.ndim != 5 or nearest.shape != samples.shape or conditions.shape != samples[:, 0].shape:
        raise InnerloopError(
            "a picture needs conditions [n, c, h, w], samples and nearest [n, s, c, h, w]; got "
            f"{list(conditions.shape)}, {list(samples.shape)} and {list(nearest.shape)}"
        )
    rows, across = min(ROWS, len(samples)), min(SAMPLES, samples.shape[1])
    sheets = {
        "given": conditions[:rows, None],
        "generated": samples[:rows, :across],
        "nearest\ntraining": nearest[:rows, :1],
    }
    height, width = samples.shape[-2:]
    figure = Figure(figsize=(WIDTH, 0.55 + WIDTH / (across + 3) * rows * height / width), layout="constrained")
    parts = figure.subplots(1, 3, width_ratios=[1, across, 1], squeeze=False)[0]
    for axes, (title, images) in zip(parts, sheets.items(), strict=True):
        sheet = _sheet(images)
        if sheet.shape[-1] == 3:
            axes.imshow(sheet, interpolation="nearest")
        else:  # strokes are 1: black on white, as ink on paper
            axes.imshow(sheet[..., 0], cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        axes.spines[:].set(color=FAINT, linewidth=0.5)
    return figure


def _sheet(images: NDArray[np.floating]) -> NDArray[np.floating]:
    """[rows, columns, c, h, w] → one picture [H, W, c], a pixel apart."""
    rows, columns, c, h, w = images.shape
    sheet = np.full((rows * (h + 1) - 1, columns * (w + 1) - 1, c), 1.0 if c == 3 else 0.25)
    for i in range(rows):
        for j in range(columns):
            sheet[i * (h + 1) : i * (h + 1) + h, j * (w + 1) : j * (w + 1) + w] = images[i, j].transpose(1, 2, 0)
    return sheet.clip(0, 1)
