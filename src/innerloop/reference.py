"""`module:attribute`: a value of the user's own, named on the command line and in config.json."""

import importlib
import operator
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.machinery import PathFinder
from typing import Any, TypeVar

from innerloop.errors import InnerloopError, did_you_mean, quoted


def is_reference(name: str) -> bool:
    """Whether `name` is of the form `module:attribute`; names of ours have no colon."""
    return ":" in name


T = TypeVar("T")


def find_value(name: str, ours: Mapping[str, T], kind: type[T], what: str) -> T:
    """The value that `name` means: one of `ours`, or `module:attribute` of the user's own.

    Raises InnerloopError for a name that there is not, and for an attribute that is no `kind`. `what` ("method",
    "environment", …) is for messages.
    """
    if is_reference(name):
        value = load_reference(name, what)
        if not isinstance(value, kind):
            raise InnerloopError(
                f"{quoted(name)} is a {type(value).__name__}, and a {what} is a value of {kind.__module__}."
                f"{kind.__qualname__}; docs/extending.md shows how to make one"
            )
        return value
    if name not in ours:
        raise InnerloopError(
            f"there is no {what} {quoted(name)}; there are {', '.join(ours)}{did_you_mean(name, ours)} (one of "
            "your own is module:attribute)"
        )
    return ours[name]


def check_name(name: object) -> None:
    """Raises InnerloopError for what cannot be the name of a method, which is a part of file names."""
    if not isinstance(name, str) or not name or any(c in name for c in ":/\\"):
        raise InnerloopError(f"a method needs a name without colon and slash, got {quoted(name)}")


_GIVEN = "object:"
_given: dict[tuple[str, str], Any] = {}


def give(what: str, name: str, value: Any, same: Callable[[Any, Any], bool] = operator.eq) -> str:
    """A name by which this process finds `value` from now on.

    Another value of the same name takes its place, with a warning unless they are the `same`: runs that were trained
    with the first one would be read with the second.
    """
    key = what, _GIVEN + name
    if not same(_given.get(key, value), value):
        warnings.warn(
            f"another {what} of the name {quoted(name)} was given before; from now on that name means the new one, "
            "also for runs that were trained with the old one. Give it a name of its own to keep both",
            stacklevel=4,
        )
    _given[key] = value
    return _GIVEN + name


def load_reference(name: str, what: str) -> Any:
    """The value `attribute` of the module `module`, for `name` = "module:attribute"; the current folder is searched
    first. `what` ("method", "data set", …) is for messages.

    The module is imported, so its code runs. Raises InnerloopError if there is no such module or attribute, or if the
    current folder has the module and this process has imported another of that name; an error inside the module keeps
    its traceback.
    """
    if (what, name) in _given:
        return _given[what, name]
    if name.startswith(_GIVEN):
        raise InnerloopError(
            f"the {what} {quoted(name.removeprefix(_GIVEN))} was given as an object: give it again, to train or "
            "load_run, or name it module:attribute from the start"
        )
    module_name, _, attribute = name.partition(":")
    parts = (*module_name.split("."), *attribute.split("."))
    if not all(part.isidentifier() for part in parts):
        raise InnerloopError(
            f"{quoted(name)} names no {what}; give module:attribute, such as my_file:my_value for a value in my_file.py"
        )
    added = "" not in sys.path
    if added:
        sys.path.insert(0, "")
    importlib.invalidate_caches()  # the file may be younger than the last search of its folder
    try:
        _check_not_hidden(parts[0], f"{what} {quoted(name)}")
        value = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise InnerloopError(
            f"there is no module {error.name!r} for {what} {quoted(name)}, neither in this folder nor installed"
        ) from None
    finally:
        if added:
            sys.path.remove("")
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            near = did_you_mean(part, (n for n in dir(value) if not n.startswith("_")))
            raise InnerloopError(f"{module_name!r} has no {part!r} for {what} {quoted(name)}{near}") from None
    return value


def _check_not_hidden(module: str, wanted: str) -> None:
    """Raise InnerloopError where the current folder has `module` and an import would give one from elsewhere."""
    loaded = getattr(sys.modules.get(module), "__file__", None)
    here = PathFinder.find_spec(module, [""])
    if loaded and here and here.origin and os.path.realpath(here.origin) != os.path.realpath(loaded):
        raise InnerloopError(
            f"{wanted} is in {here.origin}, but this process has already imported another {module!r}, {loaded}: "
            "rename one of the two files, or start Python again"
        )
