"""Command lines to dataclasses, by tyro."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar, cast, get_args

import tyro

from innerloop.errors import InnerloopError
from innerloop.methods.named import MethodName
from innerloop.training import PRESETS, Config, preset

T = TypeVar("T")

PRESET_HELP = "presets:\n" + "\n".join(f"  {p.name:<26}{p.about}" for p in PRESETS)


def parse(kind: type[T], args: Sequence[str], command: str, *, default: T | None = None, about: str = "") -> T:
    """Parse `args` into the dataclass `kind`; wrong usage prints one clear message and exits with 2."""
    if default is None:
        return tyro.cli(kind, args=list(args), prog=f"innerloop {command}", description=about)
    return tyro.cli(kind, args=list(args), prog=f"innerloop {command}", description=about, default=default)


def value_of(args: Sequence[str], flag: str) -> str | None:
    """The value of `flag` in raw arguments (``--flag value`` or ``--flag=value``; the last one counts)."""
    found = None
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            found = args[i + 1]
        elif arg.startswith(f"{flag}="):
            found = arg.split("=", 1)[1]
    return found


def starting_config(args: Sequence[str], default: str) -> tuple[str, Config]:
    """The preset that the arguments name, for the method that they name: the defaults of all other options."""
    name = value_of(args, "--preset") or default
    method = value_of(args, "--method")
    names = [p.name for p in PRESETS]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InnerloopError(f"there is no preset {name!r}{hint} (presets: {', '.join(names)})")
    config = preset(name)
    if method in get_args(MethodName):
        config = preset(name, cast(MethodName, method))
    data = value_of(args, "--data")
    if data and data != config.data:
        config = replace(config, split_scheme="")
    return name, config
