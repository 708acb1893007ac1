"""How the data layer, which prints nothing, tells how far it has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""called with (what is being done, how much is done, how much there is in all or None when unknown)"""


def silent(what: str, done: int, total: int | None) -> None:
    """A Progress that tells nobody."""
