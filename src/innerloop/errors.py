"""The error that a user can meet, and how its message quotes what was given."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath


class InnerloopError(ValueError):
    """Something asked for cannot be done. The message says what was given, what exists and what to do.

    The command line prints it in one sentence. Any other `ValueError` is a bug of ours and keeps its traceback.
    """


@contextmanager
def naming_file(path: PathLike[str]) -> Iterator[None]:
    """An `OSError` inside names the file `path` where the system names none: a full disk, a limit on file sizes."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or fspath(path)
        raise


def did_you_mean(given: object, known: Iterable[object]) -> str:
    """The end of a message about an unknown name: "; did you mean 'anil'?", or "" where no known name is close.

    Case is ignored. What is not text is close to nothing.
    """
    if not isinstance(given, str):
        return ""
    names = {n.lower(): n for n in map(str, known)}
    near = difflib.get_close_matches(given.lower(), names, 1)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def quoted(value: object) -> str:
    """`repr` of a given value for a message, its middle left out where it is long."""
    try:
        return cut(repr(value))
    except ValueError:  # Python prints integers of at most 4,300 digits
        return "an integer of thousands of digits"


def cut(text: str) -> str:
    """`text`, its middle left out where it is long."""
    return text if len(text) <= 120 else f"{text[:80]} ... {text[-20:]}"


def shown(value: object) -> str:
    """A file's name, or any value, as text on one line: control characters and bytes that are not text are escaped."""
    text = str(value)
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(value: object) -> str:
    """`shown`, its middle left out where it is long: for messages that quote what a file or a caller gave."""
    return cut(shown(value))
