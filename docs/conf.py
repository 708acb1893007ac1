"""The documentation site: `python -m sphinx -W docs site` writes it into site/, without a network.

Beside the usual settings: command-line help from the parsers, notebooks as pages, equations as MathML.
"""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.ext.napoleon import Config, NumpyDocstring

import innerloop
from innerloop.validated import Bound

HERE = Path(__file__).parent
PAGES = {f"{name.upper()}.md": f"{name}.md" for name in ("changelog", "contributing", "security")}
"""files of the repository that have a page"""

project = "innerloop"
author = "The innerloop authors"
copyright = "the innerloop authors, Apache-2.0"
version = release = innerloop.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

html_theme = "furo"
html_title = "innerloop"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_favicon = "images/icon.svg"
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

del Bound.__dataclass_fields__  # so that signatures show Annotated[int, 'at least 1'] and not a lambda
Bound.__repr__ = lambda bound: repr(bound.words)
default_role = "literal"  # docstrings write `name` for code
python_maximum_signature_line_length = 90
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
HIDDEN = "__init__,__new__,set_fit_request,set_predict_request,set_predict_proba_request,set_score_request"
autodoc_default_options = {"members": True, "undoc-members": True, "exclude-members": HIDDEN}


class Notebook(MystParser):
    """A notebook's cells as Markdown, with a link to the notebook under the title."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Parse the JSON of a notebook."""
        parts = []
        for cell in json.loads(inputstring)["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code":
                language = "sh" if text.startswith("!") else "python"
                text = f"```{language}\n{re.sub('^!', '', text, flags=re.M)}\n```"
            parts.append(text)
        title, _, first = parts[0].partition("\n")
        link = f"[Download this notebook](<path:{Path(document['source']).name}>)"
        super().parse("\n\n".join([title, link, first, *parts[1:]]), document)


def read_page(_app: Any, name: str, source: list[str]) -> None:
    """Add the help to cli.md, and let links out of docs/ lead to a page, to a download, or, of folders, nowhere."""
    if name == "cli":
        source[0] += command_line()

    def link(found: re.Match[str]) -> str:
        text, path, anchor = found.groups()
        page = PAGES.get((HERE / name).parent.joinpath(path).resolve().name)
        if page:
            return f"[{text}](/{page}{anchor or ''})"
        return text if (HERE / name).parent.joinpath(path).is_dir() else f"[{text}](path:{path})"

    source[0] = re.sub(r"(?<!!)\[([^\[\]]+)\]\((\.\./[^)\s#]+)(#[^)\s]+)?\)", link, source[0])


def command_line() -> str:
    """Every command's help, as its parser prints it."""
    from innerloop import cli

    os.environ |= {"COLUMNS": "90", "NO_COLOR": "1", "TERM": "dumb"}

    def printed(*words: str, ask: str = "--help") -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = cli.run([*words, ask])
        if status:
            raise RuntimeError(f"innerloop {' '.join(words)} {ask} ended with {status}")
        text = out.getvalue().replace(str(Path.home()), "~").strip("\n")
        return printed(*words, ask="--help-all") if words and ask == "--help" and "--help-all" in text else text

    parts = [f"```text\n{printed()}\n```"]
    for command in cli.COMMANDS:
        text = printed(command)
        parts += [f"## innerloop {command}", f"```text\n{text}\n```"]
        for action in dict.fromkeys(re.findall(rf"^(?:usage:)? +innerloop {command} ([a-z]+)(?= |$)", text, re.M)):
            own = printed(command, action)
            parts += [f"### innerloop {command} {action}", f"```text\n{own}\n```"] if own != text else []
    return "\n\n".join(parts) + "\n"


def docstring(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: escape what reStructuredText would read otherwise."""
    for i, line in enumerate(lines):
        parts = re.split(r"(``?[^`]+``?)", line)
        parts[::2] = [re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", p) for p in parts[::2]]
        lines[i] = "".join(parts)
    if "----------" in lines:
        lines[:] = NumpyDocstring(lines, Config()).lines()


def mathml(node: Any, display: str) -> str:
    return convert(node.astext(), display=display)


def inline_math(visitor: Any, node: Any) -> None:
    """An equation in a line."""
    visitor.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block_math(visitor: Any, node: Any) -> None:
    """An equation on a line of its own."""
    visitor.body.append(f'<div class="math" tabindex="0">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def accessible(_app: Any, _name: str, _template: str, context: Any, _document: Any) -> None:
    """What scrolls can be reached by keyboard; captions have a level; lists that are only layout say so."""
    for old, new in (
        ("<pre", '<pre tabindex="0"'),
        ('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'),
        ("<dl>\n<dd>", '<dl role="presentation">\n<dd>'),
    ):
        context["body"] = context.get("body", "").replace(old, new)
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Any) -> dict[str, bool]:
    """Register the above."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(Notebook)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("html-page-context", accessible, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}
