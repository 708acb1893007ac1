"""One colour, marker and hatch a method, the same in every figure and table."""

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

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


def template(name: str) -> Template:
    """A page of this folder; what its text names and is not given is an error."""
    loader = PackageLoader("innerloop.report", ".")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template(name)
