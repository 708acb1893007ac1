"""Help texts: what a command does, examples, and its options, read from the dataclass that tyro parses into."""

import ast
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

_COLUMN = 28
_VALUES = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Help:
    """What the help of a command says beside its options."""

    about: str
    """what the command does, in a sentence or two"""
    examples: tuple[str, ...]
    """command lines, each with a comment"""
    main: tuple[str, ...] = ()
    """the options of the short help; empty: all of them"""
    hidden: tuple[str, ...] = ()
    """beginnings of options that the command does not use"""
    more: str = ""
    """what follows the options: the names that they take, say"""


@dataclass(frozen=True)
class Option:
    """One option, or one positional argument."""

    flag: str
    """such as --inner.lr; of a positional argument its name in capitals"""
    value: str
    """what it takes, in capitals; empty for a switch"""
    about: str
    default: Any
    """MISSING where the argument is required"""
    choices: tuple[str, ...] = ()
    group: str = ""
    """the title of the group that it is in"""
    field: str = ""
    """the name of the dataclass's field"""

    @property
    def shown(self) -> str:
        """The flag and its value as help shows them."""
        if self.value:
            return f"{self.flag} {self.value}".removeprefix(f"{self.value} ")
        if self.default is not True:
            return self.flag
        before, dot, name = self.flag.rpartition(".")
        return f"{self.flag}, {before}.no-{name}" if dot else f"{self.flag}, --no-{name.removeprefix('--')}"

    @property
    def text(self) -> str:
        """What it is for, with its default."""
        if self.default is MISSING:
            return f"{self.about} (required)"
        if self.default is None or self.default is False or self.default in ("", ()):
            return self.about
        value = " ".join(map(str, self.default)) if isinstance(self.default, tuple) else self.default
        return f"{self.about} (default: {'on' if value is True else value})"


def options_of(kind: Any, default: Any = None, prefix: str = "--", group: str = "") -> Iterator[Option]:
    """The options of a dataclass in their order, those of nested dataclasses after their own name and a dot.

    `default` is an instance that holds the default values.
    """
    hints, about = get_type_hints(kind, include_extras=True), _attribute_docs(kind)
    for f in fields(kind):
        hint, marks = _bare(hints[f.name])
        own = f.default_factory() if f.default_factory is not MISSING else f.default
        value = own if default is None else getattr(default, f.name)
        flag = prefix + f.name.replace("_", "-")
        if is_dataclass(hint):
            whole = f.name == "config"  # its options stand among the command's own
            title = group if whole else f"{flag.removeprefix('--')}: {_first_line(hint)}"
            yield from options_of(hint, value, prefix if whole else f"{flag}.", title)
            continue
        takes, choices = _takes(hint)
        if tyro.conf.Positional in marks:
            named = next((m.metavar for m in marks if getattr(m, "metavar", None)), None)
            flag = takes = named or f.name.upper()
        yield Option(flag, takes, about.get(f.name, ""), value, choices, group, f.name)


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its annotations and without None, and the annotations."""
    marks: tuple[Any, ...] = ()
    while True:
        if get_origin(hint) is Annotated:
            hint, *found = get_args(hint)
            marks += tuple(found)
        elif NoneType in get_args(hint):
            (hint,) = (a for a in get_args(hint) if a is not NoneType)
        else:
            return hint, marks


def _takes(hint: Any) -> tuple[str, tuple[str, ...]]:
    """What an option of that type takes, and the names that it is chosen from."""
    if hint is bool:
        return "", ()
    if get_origin(hint) is Literal:
        return f"{{{','.join(get_args(hint))}}}", get_args(hint)
    if get_origin(hint) is tuple:
        takes, choices = _takes(_bare(get_args(hint)[0])[0])
        return f"{takes} ...", choices
    return _VALUES.get(hint, "VALUE"), ()


@cache
def _attribute_docs(kind: type) -> dict[str, str]:
    """The text under each field of a dataclass, on one line."""
    found: dict[str, str] = {}
    for base in reversed([k for k in kind.__mro__ if is_dataclass(k)]):
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, text in pairwise(node.body if isinstance(node, ast.ClassDef) else ()):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = " ".join(words.split())
    return found


def _first_line(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def page(command: str, text: Help, kind: type, default: Any = None, *, whole: bool = False) -> str:
    """The help of a command; with `whole` all of its options."""
    width = max(60, min(shutil.get_terminal_size().columns, 100))
    known = [o for o in options_of(kind, default) if not o.flag.startswith(text.hidden or (" ",))]
    if text.main and not whole:
        shown = sorted(
            (replace(o, group="") for o in known if o.flag in text.main), key=lambda o: text.main.index(o.flag)
        )
    else:
        shown = sorted(known, key=lambda o: o.group != "")
    arguments = [o for o in shown if not o.flag.startswith("--")]
    words = [o.flag if o.default is MISSING else f"[{o.flag}{' ...' * o.value.endswith('...')}]" for o in arguments]
    parts = [paragraphs(text.about, width), examples(text.examples)]
    parts += [f"usage: innerloop {' '.join((command, *words))} [OPTIONS]"]
    for title, members in groupby(shown, key=lambda o: o.group if o.flag.startswith("--") else "arguments"):
        parts.append("\n".join([f"{title or 'options'}", *(_entry(o, width) for o in members)]))
    if len(shown) < len(known):
        parts.append(f"All {len(known)} options: innerloop {command} --help-all")
    return "\n\n".join((*parts, *([text.more] if text.more else [])))


def paragraphs(text: str, width: int = 100) -> str:
    """`text` in lines of that width; paragraphs are kept."""
    return "\n\n".join(textwrap.fill(" ".join(p.split()), width) for p in text.strip().split("\n\n"))


def examples(lines: Sequence[str]) -> str:
    """The block of examples, their comments in one column."""
    pairs = [tuple(part.strip() for part in line.partition("#")[::2]) for line in lines]
    longest = max(len(command) for command, _ in pairs)
    return "\n".join(
        ["examples", *(f"  {command:<{longest}}  # {about}" if about else f"  {command}" for command, about in pairs)]
    )


def _entry(option: Option, width: int) -> str:
    body = textwrap.fill(option.text, width, initial_indent=" " * _COLUMN, subsequent_indent=" " * _COLUMN)
    head = f"  {option.shown}"
    return f"{head:<{_COLUMN}}{body.lstrip()}" if len(head) <= _COLUMN - 2 else f"{head}\n{body}"
