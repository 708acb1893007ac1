"""The playground's page from its parts: template, style, scripts, engine."""

import base64
import re
from importlib.resources import files
from pathlib import Path

from innerloop.runs.files import write_all

_PARTS = files("innerloop.playground")
_WORKER = ("engine/engine.js", "inner.js", "sinusoid.js", "draw.js", "worker.js")
_SCRIPT = ("ui.js", "ui_sinusoid.js", "ui_draw.js")
_FILES = ("maml", "maml-small-head", "anil", "characters")
_OMNIGLOT = (
    'Characters: <a href="https://github.com/brendenlake/omniglot">Omniglot</a>, Lake, Salakhutdinov, Tenenbaum 2015 '
    "(MIT licence)."
)


def page() -> str:
    """The page as HTML: everything it needs is in it."""
    parts = {
        "style": _text("style.css"),
        "worker": _scripts(_WORKER),
        "script": _scripts(_SCRIPT),
        "drawings": _text("drawings.html"),
        "footer": _OMNIGLOT,
        "data": "\n".join(map(_file, _FILES)),
    }
    return re.sub(r"(?:/\*|<!--)\{\{ (\w+) \}\}(?:\*/|-->)", lambda place: parts[place[1]], _text("page.html"))


def write_page(folder: Path) -> Path:
    """Write `folder`/playground.html; gives its path."""
    write_all(Path(folder), {"playground.html": page().encode()})
    return Path(folder) / "playground.html"


def _text(name: str) -> str:
    return _PARTS.joinpath(name).read_text(encoding="utf-8")


def _file(name: str) -> str:
    """A safetensors file, as text inside the page."""
    content = base64.b64encode(_PARTS.joinpath("models", f"{name}.safetensors").read_bytes()).decode()
    return f'<script type="text/plain" id="file-{name}">{content}</script>'


def _scripts(names: tuple[str, ...]) -> str:
    """The scripts one after the other, as they may stand inside a <script> element."""
    return re.sub(r"</(?=script)", r"<\\/", ";\n".join(map(_text, names)), flags=re.IGNORECASE)
