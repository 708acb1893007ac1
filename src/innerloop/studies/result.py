"""What a reproduction says: rows with their error bars, claims with their tolerances, and what to draw."""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch

from innerloop.core.statistics import Estimate, paired_difference, seed_std
from innerloop.evaluation import Evaluation
from innerloop.notebook import html_table
from innerloop.runs import environment
from innerloop.training import Config
from innerloop.version import __version__

Unit = Literal["accuracy", "points", "similarity", "distance", "relative", "ms", "ratio", "return"]
"""accuracy 0 to 1; points: a difference of accuracies; similarity 0 to 1; distance in units of the weights; relative:
distance over the norm of the weights; return: undiscounted sum of rewards"""


Value = Evaluation | Estimate | float
"""an accuracy with its interval, any other number with its interval, or a bare number"""


@dataclass(frozen=True)
class SeedValue:
    """One number of one trained model, or of one pair of models."""

    seed: int
    """of the pair's first model"""
    mean: float
    ci95: float | None = None
    """over the test episodes of this model"""
    episodes: int | None = None


def seed_value(seed: int, found: Value) -> SeedValue:
    """One number of one model with its interval, if it has one."""
    if isinstance(found, Evaluation):
        found = found.final
    if isinstance(found, Estimate):
        return SeedValue(seed, found.mean, found.ci95, found.episodes)
    return SeedValue(seed, float(found))


def difference(a: Evaluation, b: Evaluation) -> Estimate:
    """a − b on the same episodes."""
    return paired_difference(torch.tensor(a.per_episode), torch.tensor(b.per_episode))


@dataclass(frozen=True)
class Row:
    """One line of a table: a quantity over the seeds."""

    label: str
    unit: Unit
    values: tuple[SeedValue, ...]
    paper: str = ""
    """the paper's value as it is printed there, or nothing"""
    note: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)
    """further columns of this line: name with its unit -> number"""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return math.fsum(v.mean for v in self.values) / len(self.values)

    @property
    def seed_std(self) -> float | None:
        """Standard deviation over the seeds (n − 1), the ± of the paper; None with one seed."""
        return seed_std([v.mean for v in self.values]) if len(self.values) > 1 else None

    @property
    def ci95(self) -> float | None:
        """Half width of the 95 % interval over the test episodes of one model, averaged over the seeds."""
        widths = [v.ci95 for v in self.values if v.ci95 is not None]
        return math.fsum(widths) / len(widths) if widths else None

    @property
    def episodes(self) -> int | None:
        """Test episodes of each model."""
        return next((v.episodes for v in self.values if v.episodes is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "label": self.label,
            "unit": self.unit,
            "paper": self.paper,
            "mean": self.mean,
            "seed_std": self.seed_std,
            "ci95": self.ci95,
            "seeds": len(self.values),
            "episodes": self.episodes,
            "note": self.note,
            "measured": dict(self.measured),
            "values": [asdict(v) for v in self.values],
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a claim."""

    text: str
    predicate: str
    """what is tested, with its tolerance"""
    holds: bool | None
    """None: this run cannot say"""
    evidence: str
    paper_data: tuple[str, ...] = ()
    """the data sets on which the paper shows it; (): it is not the paper's"""


@dataclass(frozen=True)
class Series:
    """One line, group of bars or cloud of points of a figure."""

    name: str
    x: Sequence[str | int | float]
    y: Sequence[float]
    error: Sequence[float] | None = None
    paper: Sequence[float | None] | None = None
    """what the paper prints for each x, in the same unit"""
    names: Sequence[str] | None = None
    """the label of each point of a scatter"""
    panel: str = ""
    """lines of different panels are drawn on axes of their own"""


def bars_of(name: str, labels: Sequence[str], rows: Sequence[Row], *, by: float = 1.0) -> Series:
    """Rows as bars with their ci95 and the paper's values; `by` scales ours (100: per cent, as the paper prints)."""
    paper = [printed(r.paper) for r in rows]
    errors = [by * (r.ci95 or 0.0) for r in rows]
    return Series(name, list(labels), [by * r.mean for r in rows], errors if any(errors) else None,
                  paper if any(p is not None for p in paper) else None)  # fmt: skip


def printed(text: str) -> float | None:
    """The number of a printed value, "46.9 ± 0.2" or "4.1×"; None for words."""
    try:
        return float(text.split("±")[0].strip().rstrip("×"))
    except ValueError:
        return None


@dataclass(frozen=True)
class Drawing:
    """What the figure of a result shows."""

    kind: Literal["bars", "lines", "points", "scatter"]
    x: str
    """what the x axis says"""
    y: str
    series: tuple[Series, ...]
    errors: str = ""
    """what the error bars are"""
    diagonal: bool = False
    """draw the line y = x"""


@dataclass(frozen=True)
class Result:
    """A table or figure of the paper, made again."""

    rows: tuple[Row, ...]
    claims: tuple[Outcome, ...]
    drawing: Drawing
    paper_column: str = ""
    """which data the paper's values are from"""
    notes: tuple[str, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rows": [r.to_json() for r in self.rows],
            "claims": [asdict(c) for c in self.claims],
            "drawing": asdict(self.drawing),
            "paper_column": self.paper_column,
            "notes": list(self.notes),
        }

    def _repr_html_(self) -> str:
        """The rows and the claims, for notebooks."""

        def number(value: float | None) -> str:
            return "" if value is None else f"{value:.4g}"

        rows = [(r.label, r.paper, r.unit, *map(number, (r.mean, r.seed_std, r.ci95))) for r in self.rows]
        said = {True: "holds", False: "does not hold", None: "inconclusive"}
        claims = [(c.text, said[c.holds], c.evidence) for c in self.claims]
        return html_table("Result", ("", "paper", "unit", "mean", "seed_std", "ci95"), rows, " ".join(self.notes)) + (
            html_table("Claims", ("claim", "outcome", "evidence"), claims) if claims else ""
        )


def made_by(seconds: float) -> dict[str, Any]:
    """By which code, command and machine a result was made, when, and in how many seconds."""
    env = environment()
    return {
        "innerloop": __version__,
        "command": env["command"],
        "commit": env["commit"],
        "env": env,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": seconds,
    }


def described(
    result: Result, config: Config, *, name: str, title: str, where: str, query: int, seconds: float
) -> dict[str, Any]:
    """The result as written to result.json: with what was run, when, and by which code. `config` is MAML's or the
    run's; its seed, method and speed settings do not count."""
    return {
        "name": name,
        "title": title,
        "where": where,
        "data": config.data,
        "way": config.way,
        "shot": config.shot,
        "query": query,
        **made_by(seconds),
        "outer_steps": config.outer.steps,
        "meta_batch": config.outer.meta_batch,
        "inner_steps": {"train": config.inner.steps, "test": config.test.inner_steps},
        "inner_lr": config.inner.lr,
        "statistics": config.test.statistics,
        "config": without_speed_settings(config).to_json(),
        **result.to_json(),
    }


def without_speed_settings(config: Config) -> Config:
    """A run's configuration without what changes its speed only."""
    return replace(config, threads=0, device="auto", task_chunk=0)
