"""The playground's page from its parts: template, style, scripts, engine."""

import re
from importlib.resources import files
from pathlib import Path

from innerloop.runs.files import write_all

_PARTS = files("innerloop.playground")
_WORKER = ("engine/engine.js", "inner.js", "sinusoid.js", "draw.js", "worker.js")
_SCRIPT = ("ui.js", "ui_sinusoid.js")


def page() -> str:
    """The page as HTML: everything it needs is in it."""
    parts = {
        "style": _text("style.css"),
        "worker": _scripts(_WORKER),
        "script": _scripts(_SCRIPT),
        "drawings": "",
        "footer": "",
        "data": "",
    }
    return re.sub(r"(?:/\*|<!--)\{\{ (\w+) \}\}(?:\*/|-->)", lambda place: parts[place[1]], _text("page.html"))


def write_page(folder: Path) -> Path:
    """Write `folder`/playground.html; gives its path."""
    write_all(Path(folder), {"playground.html": page().encode()})
    return Path(folder) / "playground.html"


def _text(name: str) -> str:
    return _PARTS.joinpath(name).read_text(encoding="utf-8")


def _scripts(names: tuple[str, ...]) -> str:
    """The scripts one after the other, as they may stand inside a <script> element."""
    return re.sub(r"</(?=script)", r"<\\/", ";\n".join(map(_text, names)), flags=re.IGNORECASE)
