"""The gallery: images sorted by a few examples per class, as one page that opens from disk."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import torch
from PIL import Image

from innerloop.core.random import generator_for
from innerloop.report.style import LOOKS, template

SIDE = 192
"""pixels of a thumbnail's longer side"""
QUALITY = 72
MOST = 1000
"""pictures on a page; of more, those marked and an even choice of the others are shown"""
GRID, EXAMPLES, SAME = 40, 6, 14
"""cells of a class's opening picture; of them at most so many examples, and taken to be of that class"""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture."""

    name: str
    """the file's"""
    width: int
    height: int
    jpeg: bytes

    @property
    def file(self) -> str:
        """The name without its folders."""
        return PurePath(self.name).name

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Guess:
    """What the model takes a picture to be."""

    picture: Thumbnail
    label: str
    probability: float
    """0 to 1"""
    second: str
    second_probability: float
    nearest: int
    """which example is nearest"""
    marked: bool
    """whether it is among the least certain"""


@dataclass(frozen=True)
class Gallery:
    """All that the page shows."""

    examples: tuple[tuple[str, Thumbnail], ...]
    """class and picture of each"""
    guesses: tuple[Guess, ...]
    not_used: tuple[tuple[str, str], ...]
    """file and reason"""
    made: tuple[tuple[str, str], ...]
    """how it was made: name and value"""
    seed: int = 0
    """decides which images are in the opening figures, and where"""

    @property
    def classes(self) -> list[str]:
        """Sorted."""
        return sorted({label for label, _ in self.examples})


@dataclass(frozen=True)
class Cell:
    """A place in a class's opening picture."""

    number: int
    """of the thumbnail on the page"""
    kind: str
    """example, same (taken to be of that class) or other"""


@dataclass(frozen=True)
class Concept:
    """A class on the page."""

    name: str
    examples: int
    guesses: tuple[tuple[int, Guess], ...]
    """the number of the thumbnail, and the guess: the most certain first"""
    total: int
    """pictures taken to be of this class, shown or not"""
    cells: tuple[Cell, ...]
    """the opening picture, shuffled"""

    def count(self, kind: str) -> int:
        """Cells of that kind."""
        return sum(c.kind == kind for c in self.cells)

    @property
    def marked(self) -> int:
        """The least certain of them."""
        return sum(g.marked for _, g in self.guesses)


def thumbnail(name: str, image: Image.Image) -> Thumbnail:
    """A small JPEG of an RGB image, not enlarged."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(name, small.width, small.height, out.getvalue())


def page(gallery: Gallery) -> str:
    """The page, which needs no other file and no network; the same gallery gives the same text."""
    chosen = _chosen(gallery.guesses)
    pictures = [p for _, p in gallery.examples] + [g.picture for g in chosen]
    return template("gallery.html.j2").render(
        concepts=concepts(gallery, chosen),
        pictures=pictures,
        labels=[label for label, _ in gallery.examples],
        total=len(gallery.guesses),
        shown=len(chosen),
        marked=sum(g.marked for g in gallery.guesses),
        not_used=gallery.not_used,
        made=gallery.made,
        example=LOOKS["anil"].colour,
        same=LOOKS["nil"].colour,
    )


def concepts(gallery: Gallery, chosen: Sequence[Guess]) -> list[Concept]:
    """Each class with its guesses and its opening picture; `chosen` are the guesses on the page.

    The opening figure is the one of Tenenbaum et al. 2011 (Science 331, figure 1): a few boxed examples of a new
    concept in a grid of objects; which others are of this kind?
    """
    first = len(gallery.examples)
    numbered = list(enumerate(chosen, first))
    found = []
    for name in gallery.classes:
        examples = [i for i, (label, _) in enumerate(gallery.examples) if label == name]
        own = sorted((p for p in numbered if p[1].label == name), key=lambda p: -p[1].probability)
        others = [i for i, g in numbered if g.label != name]
        draw = generator_for(gallery.seed, "gallery", name)
        boxed = examples[:EXAMPLES]
        same = _some([i for i, _ in own], SAME, draw)
        rest = _some(others, GRID - len(boxed) - len(same), draw)
        cells = [Cell(i, kind) for kind, of in (("example", boxed), ("same", same), ("other", rest)) for i in of]
        cells = [cells[i] for i in torch.randperm(len(cells), generator=draw).tolist()]
        total = sum(g.label == name for g in gallery.guesses)
        found.append(Concept(name, len(examples), tuple(own), total, tuple(cells)))
    return found


def _some(of: list[int], most: int, draw: torch.Generator) -> list[int]:
    return [of[i] for i in torch.randperm(len(of), generator=draw)[: max(0, most)].tolist()]


def _chosen(guesses: Sequence[Guess]) -> list[Guess]:
    """All, or of more than MOST the marked ones (the least certain first) and evenly spaced others by certainty."""
    if len(guesses) <= MOST:
        return list(guesses)
    order = sorted(guesses, key=lambda g: g.probability)
    marked = [g for g in order if g.marked][: MOST // 2]
    rest = [g for g in order if not g.marked]
    room = MOST - len(marked)
    step = max(1.0, len(rest) / room)
    return marked + [rest[int(i * step)] for i in range(min(room, len(rest)))]
