"""The contract of a table or figure, ours or yours, which a `Lab` fills in from its runs."""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from innerloop.errors import InnerloopError, quoted
from innerloop.evaluation import Evaluation
from innerloop.studies.claims import Learnt, Range, bounded, range_of
from innerloop.studies.result import (
    Drawing,
    Outcome,
    Result,
    Row,
    Series,
    Unit,
    Value,
    bars_of,
    difference,
    seed_value,
)

_AXES: Mapping[str, str] = {
    "accuracy": "accuracy (%)",
    "points": "points",
    "relative": "distance / norm",
    "distance": "distance of weights",
    "ms": "milliseconds",
}


@dataclass(frozen=True)
class Found:
    """The numbers of a table, for its claims and its drawing."""

    lab: Any
    values: Mapping[str, Mapping[int, Value]]
    """label -> seed -> number"""
    rows: dict[str, Row] = field(default_factory=dict)

    def range(self, label: str, minus: str = "") -> Range:
        """The range of a number, or of its difference to another: on the same episodes, where both are accuracies."""
        for name in (label, minus or label):
            if name not in self.values:
                raise InnerloopError(f"there is no row {quoted(name)}; there are {', '.join(self.values)}")
        if not minus:
            return range_of([seed_value(s, v) for s, v in self.values[label].items()])
        pairs = [(s, v, self.values[minus][s]) for s, v in self.values[label].items()]
        if all(isinstance(a, Evaluation) and isinstance(b, Evaluation) for _, a, b in pairs):
            return range_of([seed_value(s, difference(a, b)) for s, a, b in pairs])  # type: ignore[arg-type]
        return self.range(label).minus(self.range(minus))

    @property
    def learnt(self) -> Learnt:
        """What MAML has learned."""
        return self.lab.learnt()


@dataclass(frozen=True)
class Claim:
    """That a number, or its difference to another one, lies on one side of a bound or between two."""

    text: str
    row: str
    """its label"""
    minus: str = ""
    """the label of the row that is taken off"""
    at_least: float | None = None
    at_most: float | None = None
    paper_data: tuple[str, ...] = ()
    """the data sets on which the paper shows it"""

    def __call__(self, found: Found) -> Outcome:
        """Tested on the range over test episodes and seeds (`studies.claims`)."""
        unit = found.rows[self.row].unit if self.row in found.rows else "accuracy"
        unit = "points" if self.minus and unit == "accuracy" else unit
        return bounded(
            self.text,
            f"{self.row} − {self.minus}" if self.minus else self.row,
            found.range(self.row, self.minus),
            unit,
            least=self.at_least,
            most=self.at_most,
            data=self.paper_data,
        )


@dataclass(frozen=True)
class Table:
    """A table or figure that `innerloop reproduce` makes.

    `measure(lab, seed)` gives the numbers of one seed by the label of their row; the lab trains what is not there yet,
    and scores the same thing once:

        def measure(lab, seed):
            run = lab.trained("maml", seed)
            return {f"{n} steps": lab.score(run, "maml", inner_steps=n) for n in (1, 5)}

    A table that is not a number for each row and seed gives `make(lab)`, which returns the whole `Result`.
    """

    name: str
    """of its folder"""
    title: str
    measure: Callable[[Any, int], Mapping[str, Value]] | None = None
    make: Callable[[Any], Result] | None = None
    compare: Callable[[Sequence[str]], Mapping[str, tuple[str, str]]] | Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )
    """further rows: label -> the two accuracies whose paired difference it is (or a function of the labels)"""
    claims: Sequence[Callable[[Found], Outcome | Sequence[Outcome]]] = ()
    """each a `Claim`, or a function of what was found"""
    where: str = "not in the paper"
    """in the paper"""
    unit: Unit | Callable[[str], Unit] = "accuracy"
    paper: Callable[[Any], Mapping[str, str]] = lambda _: {}
    """lab -> label -> what the paper prints"""
    paper_column: str | Callable[[str], str] = ""
    """which data of the paper's stands beside ours; or a function of our data"""
    x: str = ""
    """what the x axis says"""
    y: str = ""
    bar: Callable[[str], str] = lambda label: label
    """label -> the text below its bar"""
    grouped: bool = False
    """labels are "bar, group": bars of a group have one colour"""
    draw: Callable[[Found], Drawing] | None = None
    """the figure; without it, a bar a row"""
    notes: tuple[str, ...] = ()
    trains: tuple[str, ...] = ()
    """methods whose runs it needs, for `reproduce --list`"""
    two_seeds: bool = False
    """whether it compares models of different seeds"""
    in_all: bool = False
    """whether `reproduce all` makes it"""
    rl: bool = False
    """whether its lab is an `RlLab`"""
    source: str = ""
    """a digest of the code of one that is not ours"""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise InnerloopError(
                f"a table's name is also a folder's: letters, digits, . + - _; got {quoted(self.name)}"
            )
        if (self.measure is None) == (self.make is None):
            raise InnerloopError(f"table {self.name}: give measure, or make, and not both")

    def result(self, lab: Any) -> Result:
        """Everything that it says, from the lab's runs."""
        if self.make is not None:
            return self.make(lab)
        assert self.measure is not None
        by_seed = {seed: dict(self.measure(lab, seed)) for seed in lab.seeds}
        labels = list(next(iter(by_seed.values())))
        if not labels or any(list(v) != labels for v in by_seed.values()):
            raise InnerloopError(f"table {self.name}: measure must give the same labels, one or more, for every seed")
        found = Found(lab, {label: {s: v[label] for s, v in by_seed.items()} for label in labels})
        printed = self.paper(lab)
        for label in labels:
            values = tuple(seed_value(s, v) for s, v in found.values[label].items())
            unit = self.unit(label) if callable(self.unit) else self.unit
            found.rows[label] = Row(label, unit, values, printed.get(label, ""))
        pairs = self.compare(labels) if callable(self.compare) else self.compare
        for label, (a, b) in pairs.items():
            gaps = [difference(by_seed[s][a], by_seed[s][b]) for s in lab.seeds]  # type: ignore[arg-type]
            values = tuple(seed_value(s, g) for s, g in zip(lab.seeds, gaps, strict=True))
            found.rows[label] = Row(label, "points", values)
        outcomes: list[Outcome] = []
        for claim in self.claims:
            tested = claim(found)
            outcomes += [tested] if isinstance(tested, Outcome) else tested
        column = self.paper_column if isinstance(self.paper_column, str) else self.paper_column(lab.data)
        return Result(
            tuple(found.rows.values()),
            tuple(outcomes),
            self.draw(found) if self.draw else self._drawing(found, labels),
            column,
            notes=self.notes,
        )

    def _drawing(self, found: Found, labels: Sequence[str]) -> Drawing:
        rows = [found.rows[label] for label in labels]
        unit = rows[0].unit
        if self.grouped:
            groups: dict[str, list[Row]] = {}
            for row in rows:
                groups.setdefault(row.label.split(", ", 1)[1], []).append(row)
            series = tuple(
                Series(name, [r.label.split(", ")[0] for r in own], [r.mean for r in own], [r.ci95 or 0.0 for r in own])
                for name, own in groups.items()
            )
        else:
            by = 100.0 if unit in ("accuracy", "points") else 1.0
            series = (bars_of("ours", [self.bar(label) for label in labels], rows, by=by),)
        errors = "ci95 over test episodes" if any(r.ci95 for r in rows) else ""
        return Drawing("bars", self.x, self.y or _AXES.get(unit, unit), series, errors)


def source_of(table: Table) -> str:
    """A digest of the file that holds the table's function: a result of other code is not taken for this one's."""
    try:
        file = inspect.getsourcefile(table.measure or table.make)  # type: ignore[arg-type]
        return hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""
