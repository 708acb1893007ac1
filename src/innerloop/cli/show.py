"""Progress and tables in the terminal; plain lines if there is none."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


@runtime_checkable
class Show(Protocol):
    """Shows how far a piece of work is."""

    def __call__(self, title: str, done: int, total: int | None, detail: str = "", first: int = 0) -> None:
        """`done` of `total` (None: unknown) of `title`; `first` is where this process began."""
        ...


@contextmanager
def progress() -> Iterator[Show]:
    """A live bar in a terminal; elsewhere a line now and then."""
    with _bars() if sys.stdout.isatty() else _lines() as show:
        yield show


@contextmanager
def _bars() -> Iterator[Show]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {}

        def show(title: str, done: int, total: int | None, detail: str = "", first: int = 0) -> None:
            if title not in tasks:
                for other in tasks.values():
                    bars.stop_task(other)
                tasks[title] = bars.add_task(title, total=total or 0, completed=first, detail="")
            bars.update(tasks[title], completed=done, total=total or done, detail=detail)

        yield show


@contextmanager
def _lines(every: float = 10.0) -> Iterator[Show]:
    last: dict[str, tuple[float, float, int]] = {}

    def show(title: str, done: int, total: int | None, detail: str = "", first: int = 0) -> None:
        now = time.monotonic()
        began, said, start = last.get(title, (now, 0.0, first))
        if title not in last or done == total or now - said >= every:
            rate = (done - start) / (now - began) if now > began and done > start else 0.0
            left = f", {clock((total - done) / rate)} left" if rate and total and done < total else ""
            of = f"/{total}" if total else ""
            print(f"{title}: {done}{of}{'  ' + detail if detail else ''}{left}", flush=True)
            said = now
        last[title] = (began, said, start)

    yield show


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", *, words: bool = False
) -> None:
    """Print a table with its note; columns after the first are numbers, or `words`."""
    grid = Table(title=title, title_justify="left", caption=note or None, caption_justify="left")
    for i, name in enumerate(header):
        short = (
            words and max((len(row[i]) for row in rows), default=0) <= 20
        )  # a name, which is to be typed: in one piece
        grid.add_column(name, justify="left" if i == 0 or words else "right", overflow="fold", no_wrap=short)
    for row in rows:
        grid.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(grid)
