"""Figures as bytes: PNG and SVG for the folder, and SVG that takes the colours of the page around it."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.report.style import FAINT, INK, LOOKS, OTHER, PAPER, variable

WIDTH = 5.2
"""inches; at 72 points an inch, a phone shows the text at about its own size"""

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "text.parse_math": False,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "hatch.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.image_inline": True,
}


@contextmanager
def style(name: str) -> Iterator[None]:
    """matplotlib set up for a figure of this name: the same input gives the same bytes."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):  # type: ignore[arg-type]
        yield


def blank(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of the page's width with `rows` × `columns` axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def grid(axes: Axes) -> None:
    """Faint horizontal lines."""
    axes.grid(axis="y", color=FAINT, alpha=0.3, linewidth=0.6)


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=200, metadata={"Software": None})
    return out.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file; its text stays text."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return out.getvalue()


def inline(drawn: bytes, name: str) -> str:
    """The SVG as a part of a page: its own ids, no fixed size, and colours that the page's style sets."""
    text = drawn.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    text = re.sub(r'(<image\b[^>]*?) id="[^"]*"', r"\1", text)  # the same for equal images
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    text = text.replace("xlink:href=", "href=")
    for colour, own in _variables().items():
        text = re.sub(re.escape(colour) + r"\b", f"var(--{own})", text, flags=re.IGNORECASE)
    return text


def _variables() -> dict[str, str]:
    plain = {INK: "ink", FAINT: "faint", PAPER: "paper", OTHER.colour: "other"}
    return plain | {look.colour: variable(name) for name, look in LOOKS.items()}
