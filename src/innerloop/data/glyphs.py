"""glyphs: letters of many scripts, drawn from the fonts that matplotlib ships; no download.

A letter is drawn once in every upright face that carries it (DejaVu Sans, Sans Mono and Serif, and STIX, each
in regular and bold), and every sample is one of those drawings after a random change of stroke weight, slant,
size, angle and place and a smooth random warp. 28×28, one channel, uint8, strokes white on black, 20 samples
a letter.

Whole scripts belong to one split. Letters that look alike (Latin A, Greek Α, Cyrillic А) are one class: the
first of them in the order of `SCRIPTS` stays, the later ones are dropped, so no test letter looks like a
training letter.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from innerloop.core.episodes import ClassImages
from innerloop.core.random import generator_for
from innerloop.data.dataset import Dataset
from innerloop.data.progress import Progress
from innerloop.data.splits import by_group, group
from innerloop.errors import InnerloopError

VERSION = "1"
"""Raise it when a change to this file changes the images; caches of other versions are then rebuilt."""

SCRIPTS = {
    "LATIN": "train",
    "GREEK": "train",
    "COPTIC": "train",
    "CYRILLIC": "train",
    "CANADIAN SYLLABICS": "train",
    "LISU": "train",
    "OLD ITALIC": "train",
    "OGHAM": "train",
    "GEORGIAN": "val",
    "LAO": "val",
    "ARMENIAN": "test",
    "HEBREW": "test",
    "NKO": "test",
    "TIFINAGH": "test",
    "ARABIC": "test",
}
"""script, as Unicode names begin -> its split; of letters that look alike, the earliest script's is kept"""

FACES = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
)
"""Upright faces; a letter must be in the first. Slanted faces are left out: slant is drawn at random, and an
italic may give a letter another's shape (Cyrillic т as m)."""

SIDE = 28
"""pixels of an image's side"""
FINE = 4 * SIDE
"""pixels of the side of the canvas that a letter is drawn on"""
INK = 76
"""pixels of the longer side of a letter on that canvas, its shorter side in proportion"""
LOOK_ALIKE = 0.92
"""`likeness` from which two letters count as one; chosen by eye, see docs/glyphs.md"""
SOLID = 0.85
"""a letter that fills this share of its box in any face is a bare bar or dot: left out, it has no shape"""


@dataclass(frozen=True)
class Style:
    """How far the samples of a letter differ; every change is drawn uniformly up to the limit given here."""

    samples: int = 20
    """images a letter"""
    seed: int = 0
    rotation: float = 0.15
    """radians, either way"""
    slant: float = 0.25
    """sideways shift per unit of height, either way"""
    scale: float = 0.18
    """relative change of width and of height, each on its own"""
    shift: float = 1.5
    """pixels of the final image, either way, across and down"""
    warp: float = 2.0
    """pixels of the final image by which a knot of the 4×4 warp grid moves, either way, across and down"""
    thinner: int = 1
    """pixels of the fine canvas taken off each side of a stroke"""
    thicker: int = 2
    """pixels of the fine canvas put onto each side of a stroke"""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InnerloopError(f"samples must be at least 1, got {self.samples}")


@dataclass(frozen=True)
class Letter:
    """One letter before it is drawn."""

    code: int
    script: str
    """a key of `SCRIPTS`"""

    @property
    def name(self) -> str:
        """For example greek/CAPITAL OMEGA: the Unicode name, less the script and the word LETTER."""
        rest = unicodedata.name(chr(self.code)).removeprefix(self.script).replace(" LETTER ", " ")
        return f"{_folder(self.script)}/{rest.strip()}"


def font_path(face: str) -> Path:
    """Where matplotlib keeps a face."""
    import matplotlib  # takes its time, and a cache needs it not

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face


def candidate_letters(codes: Iterable[int]) -> list[Letter]:
    """The letters of `SCRIPTS` among the code points `codes`, in the order of `SCRIPTS`, then by code point.

    Only characters that Unicode calls letters (Lu, Ll, Lo) and that are not composed of others (é is e with
    an accent); "… WITH STROKE" and its like are out too: a mark on a letter makes no new class.
    """
    letters = []
    for code in codes:
        char = chr(code)
        name = unicodedata.name(char, "")
        script = next((s for s in SCRIPTS if name.startswith(s + " ")), None)
        if (
            script is not None
            and unicodedata.category(char) in ("Lu", "Ll", "Lo")
            and not unicodedata.decomposition(char)
            and " WITH " not in name
        ):
            letters.append(Letter(code, script))
    order = list(SCRIPTS)
    return sorted(letters, key=lambda letter: (order.index(letter.script), letter.code))


def draw(code: int, font: ImageFont.FreeTypeFont) -> UInt8[np.ndarray, "112 112"] | None:
    """One letter in one face, in the middle of the fine canvas; None where the face draws nothing."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(chr(code)))
    mask = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(mask).text((-left, -top), chr(code), fill=255, font=font)
    box = mask.getbbox()
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    ratio = INK / max(width, height)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    canvas = Image.new("L", (FINE, FINE))
    place = (FINE - size[0]) // 2, (FINE - size[1]) // 2
    canvas.paste(mask.crop(box).resize(size, Image.Resampling.BOX), place)
    return np.asarray(canvas)


@dataclass(frozen=True)
class Drawings:
    """Every letter in every face that has it; the drawings of a letter stand together, first face first."""

    letters: tuple[Letter, ...]
    pixels: UInt8[Tensor, "drawings 112 112"]
    letter: Int[Tensor, " drawings"]
    """which letter each drawing shows"""

    def keep(self, letters: Sequence[int]) -> "Drawings":
        """Only these letters (numbers, ascending)."""
        number = torch.full((len(self.letters),), -1)
        number[torch.tensor(letters, dtype=torch.int64)] = torch.arange(len(letters))
        kept = number[self.letter] >= 0
        return Drawings(tuple(self.letters[i] for i in letters), self.pixels[kept], number[self.letter[kept]])


def draw_letters() -> Drawings:
    """All candidate letters in all `FACES`.

    A face is only asked for code points in its character map, so that no "missing glyph" box is ever drawn.
    """
    from matplotlib.ft2font import FT2Font

    layout = ImageFont.Layout.BASIC
    fonts = [ImageFont.truetype(font_path(face), 128, layout_engine=layout) for face in FACES]
    maps = [{c for c, glyph in FT2Font(font_path(face)).get_charmap().items() if glyph} for face in FACES]
    letters = candidate_letters(maps[0])
    drawn = [
        (i, pixels)
        for i, letter in enumerate(letters)
        for font, codes in zip(fonts, maps, strict=True)
        if letter.code in codes and (pixels := draw(letter.code, font)) is not None
    ]
    return Drawings(
        tuple(letters),
        torch.from_numpy(np.stack([pixels for _, pixels in drawn])),
        torch.tensor([i for i, _ in drawn]),
    )


def likeness(drawings: Drawings) -> Float[Tensor, "letters letters"]:
    """How alike two letters look: the largest cosine of a drawing of the one and a drawing of the other.

    Drawings are of one size (proportions kept), reduced to 28×28 and blurred (σ of 1 pixel). One of the two
    is in the first face, the other in any: this finds K and the small capital ᴋ, whose strokes are heavier.
    """
    x = F.avg_pool2d(drawings.pixels[:, None].float(), FINE // SIDE)
    kernel = torch.exp(-torch.arange(-3.0, 4.0).square() / 2)
    x = F.conv2d(x, kernel.reshape(1, 1, 1, 7), padding=(0, 3))
    x = F.conv2d(x, kernel.reshape(1, 1, 7, 1), padding=(3, 0))
    unit = F.normalize(x.flatten(1), dim=1)
    n = len(drawings.letters)
    is_first = torch.ones_like(drawings.letter, dtype=torch.bool)
    is_first[1:] = drawings.letter[1:] != drawings.letter[:-1]
    cosine = unit[is_first] @ unit.T  # [letters, drawings]
    best = torch.full((n, n), -1.0)
    best.scatter_reduce_(1, drawings.letter.expand(n, -1), cosine, "amax")
    return torch.maximum(best, best.T)


def distinct_letters(drawings: Drawings) -> list[int]:
    """The letters that become classes, in order: neither solid nor like a letter that is kept before them."""
    ink = drawings.pixels > 127
    rows, columns = ink.any(2).sum(1), ink.any(1).sum(1)
    solid = torch.zeros(len(drawings.letters), dtype=torch.bool)
    solid[drawings.letter[ink.sum((1, 2)) >= SOLID * rows * columns]] = True  # in any face
    alike = likeness(drawings) >= LOOK_ALIKE
    kept: list[int] = []
    for i in range(len(drawings.letters)):
        if not solid[i] and not alike[i, kept].any():
            kept.append(i)
    return kept


def vary(pixels: UInt8[Tensor, "n 112 112"], style: Style, generator: torch.Generator) -> UInt8[Tensor, "n 28 28"]:
    """One random sample of each drawing."""
    n = len(pixels)

    def spread(limit: float, *shape: int) -> Tensor:
        """Uniform in -limit..limit."""
        return (torch.rand(n, *shape, generator=generator) * 2 - 1) * limit

    weight = torch.randint(-style.thinner, style.thicker + 1, (n,), generator=generator)
    angle, slant = spread(style.rotation), spread(style.slant)
    scale = 1 + spread(style.scale, 2)
    shift, knots = spread(style.shift, 2), spread(style.warp, 2, 4, 4)

    x = pixels[:, None].float() / 255
    for by in range(-style.thinner, style.thicker + 1):
        chosen = weight == by
        size = 2 * abs(by) + 1
        if by > 0:
            x[chosen] = F.max_pool2d(x[chosen], size, 1, abs(by))
        elif by < 0:
            x[chosen] = -F.max_pool2d(-x[chosen], size, 1, abs(by))

    # where a pixel of the sample comes from, in units of half a canvas
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], 1).reshape(n, 2, 2)
    shear = torch.eye(2).repeat(n, 1, 1)
    shear[:, 0, 1] = slant
    matrix = torch.diag_embed(1 / scale) @ shear @ turn
    unit = 2 / SIDE
    theta = torch.cat([matrix, shift[:, :, None] * unit], 2)
    fine = 3 * SIDE
    grid = F.affine_grid(theta, [n, 1, fine, fine], align_corners=False)
    bend = F.interpolate(knots * unit, size=(fine, fine), mode="bicubic", align_corners=True)
    x = F.grid_sample(x, grid + bend.permute(0, 2, 3, 1), align_corners=False)
    return (F.avg_pool2d(x, fine // SIDE) * 255).round().clamp(0, 255).to(torch.uint8)[:, 0]


def render_glyphs(style: Style | None = None) -> ClassImages:
    """Draw the whole data set, from the fonts and the seed of `style` alone. Seconds on one core."""
    style = style or Style()
    drawings = draw_letters()
    drawings = drawings.keep(distinct_letters(drawings))
    per_letter = []
    for i, letter in enumerate(drawings.letters):
        own = drawings.pixels[drawings.letter == i]
        generator = generator_for(style.seed, "glyphs", letter.code)
        face = torch.randint(len(own), (style.samples,), generator=generator)
        per_letter.append(vary(own[face], style, generator)[:, None])
    return ClassImages.from_tensors("glyphs", per_letter, [letter.name for letter in drawings.letters])


def font_fingerprint() -> str:
    """Changes with the bytes of any face, so that a cache made from other fonts is not used."""
    digest = hashlib.sha256()
    for face in FACES:
        digest.update(font_path(face).read_bytes())
    return digest.hexdigest()[:16]


def _folder(script: str) -> str:
    return script.lower().replace(" ", "-")


_GEORGIAN = ("Asomtavruli_(Georgian)", "Mkhedruli_(Georgian)")
_CANADIAN = (
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
)

ALPHABETS = {
    "latin": ("Latin",),
    "greek": ("Greek",),
    "coptic": (),
    "cyrillic": ("Cyrillic", "Old_Church_Slavonic_(Cyrillic)"),
    "canadian-syllabics": _CANADIAN,
    "lisu": ("Latin",),  # Latin capitals, many of them turned, and rotations are classes of omniglot
    "old-italic": (),
    "ogham": (),
    "georgian": _GEORGIAN,
    "lao": (),
    "armenian": ("Armenian",),
    "hebrew": ("Hebrew",),
    "nko": ("N_Ko",),
    "tifinagh": ("Tifinagh",),
    "arabic": ("Malay_(Jawi_-_Arabic)",),
}
"""script -> alphabets of Omniglot with the same letters. Of Coptic and Old Italic, there are only letters here
that do not look like Greek or Latin ones."""


def concepts(name: str, across: bool) -> frozenset[str]:
    """The letter; across data sets its script, by Omniglot's names of alphabets and by its own."""
    return frozenset((group(name), *ALPHABETS[group(name)]) if across else (name,))


def read(_paths: Sequence[Path], _progress: Progress) -> ClassImages:
    """Draw them."""
    return render_glyphs()


GLYPHS = Dataset(
    name="glyphs",
    title="letters of many scripts, drawn from fonts that are installed with the library: no download",
    shape=(1, SIDE, SIDE),
    drawn=True,
    read=read,
    splits=lambda names: by_group(names, {_folder(script): split for script, split in SCRIPTS.items()}),
    domain="letters",
    concepts=concepts,
    version=VERSION,
    cache="glyphs.safetensors",
    stamp=lambda _: font_fingerprint(),
    classes=670,
    images=13_400,
    licence="the fonts' own (DejaVu, STIX): free use",
)
