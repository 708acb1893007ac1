"""One colour, marker and hatch a method, the same in every figure and table."""

from dataclasses import dataclass

INK = "#1b1b1b"
FAINT = "#8a8a8a"
PAPER = "#ffffff"


@dataclass(frozen=True)
class Look:
    """How a method is drawn; marker, line and hatch tell methods apart without colour."""

    colour: str
    marker: str
    """matplotlib's name"""
    sign: str
    """the same marker as a character"""
    hatch: str
    line: str
    fill: str = "full"
    """of the marker; a hollow one lets the line below be seen"""


LOOKS = {  # colours of Okabe and Ito's palette, safe for colour-blind readers
    "maml": Look("#0072b2", "o", "●", "", "-"),
    "maml_small": Look("#56b4e9", "P", "✚", "\\\\\\\\", "-"),
    "anil": Look("#d55e00", "s", "■", "////", "--", "none"),
    "nil": Look("#009e73", "^", "▲", "....", ":"),
    "nil_maml": Look("#cc79a7", "v", "▼", "xxxx", "-."),
}
OTHER = Look("#6f6f6f", "D", "◆", "", "-.")


def look(method: str) -> Look:
    """The look of a method; baselines share a grey one."""
    return LOOKS.get(method, OTHER)


def variable(method: str) -> str:
    """The name under which the page's style keeps a method's colour, lighter on a dark page."""
    return method.replace("_", "-") if method in LOOKS else "other"
