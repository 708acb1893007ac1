"""Trainings over any options, compared on validation classes: a grid of values, or random draws. No test episode is
touched, so that what is chosen here can still be tested once."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch

from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError, quoted
from innerloop.runs import RunFolder, write_json
from innerloop.studies.fan_out import Launcher, Training, train_together
from innerloop.studies.result import Drawing, Result, Row, SeedValue, Series, described
from innerloop.training import Config

Values = Mapping[str, str]
"""option -> value, as on the command line"""
_MOST_LINES = 7
"""in one figure"""
_RANGE = re.compile(r"(?P<low>[^.,][^,]*?)\.\.(?P<high>[^,]+)")


def combinations(vary: Sequence[str], draws: int = 0, seed: int = 0) -> list[Values]:
    """What each training has: every combination of "OPTION=VALUE,VALUE,…", or `draws` random ones of them.

    Draws take "OPTION=LOW..HIGH" too: whole numbers evenly, others evenly in their logarithm (both ends above 0).
    """
    options: dict[str, str] = {}
    for text in vary:
        name, equals, values = text.removeprefix("--").partition("=")
        if not equals or not name or not values or "" in values.split(","):
            raise InnerloopError(f"--vary takes OPTION=VALUE,VALUE,… such as inner.lr=0.1,0.4; got {quoted(text)}")
        if name in options:
            raise InnerloopError(f"--vary names {name} twice; give all its values at once")
        options[name] = values
    if not options:
        raise InnerloopError("a sweep needs --vary OPTION=VALUE,VALUE,… such as --vary inner.lr=0.1,0.4")
    ranges = {n: m for n, v in options.items() if (m := _RANGE.fullmatch(v))}
    if not draws:
        if ranges:
            raise InnerloopError(f"{', '.join(ranges)} has a range; give --draws N, or values with commas between")
        lists = [[(n, v) for v in values.split(",")] for n, values in options.items()]
        return [dict(pairs) for pairs in itertools.product(*lists)]
    found: list[Values] = []
    for i in range(draws):
        g = generator_for(seed, "sweep", i)
        found.append({n: _drawn(n, ranges.get(n), v, g) for n, v in options.items()})
    return found


def _drawn(name: str, bounds: re.Match[str] | None, values: str, generator: torch.Generator) -> str:
    if bounds is None:
        choices = values.split(",")
        return choices[int(torch.randint(len(choices), (), generator=generator))]
    try:
        low, high = (float(bounds[end]) for end in ("low", "high"))
    except ValueError:
        raise InnerloopError(f"--vary {name}={values}: the ends of a range are numbers") from None
    if not -math.inf < low < high < math.inf:
        raise InnerloopError(f"--vary {name}={values}: the first end must be less than the second")
    share = float(torch.rand((), generator=generator, dtype=torch.float64))
    if low.is_integer() and high.is_integer() and "." not in bounds["low"] + bounds["high"]:
        return str(int(low) + math.floor(share * (high - low + 1)))
    if low <= 0:
        raise InnerloopError(f"--vary {name}={values}: a range that is not of whole numbers begins above 0")
    return f"{low * (high / low) ** share:.3g}"


def sweep(
    configs: Sequence[tuple[Values, Config]],
    seeds: Sequence[int],
    out: Path,
    *,
    data_dir: Path | None = None,
    jobs: int = 1,
    launcher: Launcher = "local",
    options: Mapping[str, str] = {},
    report: Callable[[int, int, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Train each of `configs` with each of `seeds` (none: its own) under ``out/runs``, and write and return
    ``out/result.json``.

    Finished runs are used, unfinished ones continued. `report` is called with the runs and the outer steps that are
    done, and how many there are. Raises InnerloopError if a training failed; the others are kept.
    """
    if len({str(v) for v, _ in configs}) != len(configs):
        raise InnerloopError("two trainings of the sweep would be equal; give each value once")
    if any(c.regression for _, c in configs):
        raise InnerloopError("a sweep compares accuracies, and a regression has none")
    for key in ("data", "split_scheme", "folder", "way", "shot", "test.query", "validation.episodes"):
        if len({repr(attrgetter(key)(c)) for _, c in configs}) > 1:
            raise InnerloopError(
                f"trainings that differ in {key.replace('_', '-')} are validated on other episodes and do not compare; "
                "make a sweep for each value"
            )
    names = [", ".join(f"{n}={v}" for n, v in values.items()) for values, _ in configs]
    wanted = [
        Training(replace(c, seed=s), out / "runs" / f"{_file_name(name)}-seed{s}", data_dir)
        for name, (_, c) in zip(names, configs, strict=True)
        for s in seeds or (c.seed,)
    ]
    train_together(wanted, jobs=jobs, launcher=launcher, options=options, logs=out / "jobs", report=report)
    episodes = configs[0][1].validation.episodes
    rows, each = [], len(seeds) or 1
    for i, name in enumerate(names):
        own = wanted[i * each : (i + 1) * each]
        found = [RunFolder(w.folder).summary_with("best_validation", "best_step") for w in own]
        values = tuple(
            SeedValue(w.config.seed, f["best_validation"], None, episodes) for w, f in zip(own, found, strict=True)
        )
        more = {
            "best step": math.fsum(f["best_step"] for f in found) / each,
            "minutes": math.fsum(f["seconds"] for f in found) / each / 60,
        }
        rows.append(Row(name, "accuracy", values, measured=more))
    best = max(rows, key=lambda r: r.mean)
    result = Result(
        tuple(rows),
        (),
        _drawing(configs, rows),
        notes=(
            f"Best: {best.label}. Accuracy of the best checkpoint on validation episodes, the same for all. It is the "
            "highest of several looks, and so a little too high.",
        ),
    )
    value = described(
        result,
        configs[0][1],
        name="sweep",
        title=f"Sweep of {', '.join(configs[0][0])}",
        where="validation classes",
        query=configs[0][1].test.query,
        seconds=math.fsum(r.measured["minutes"] * 60 * each for r in rows),
    )
    varied = ", ".join(configs[0][0])
    own = "their own" if not seeds else ", ".join(map(str, seeds))
    said = f"{configs[0][1].data}, {varied} varied, seeds {own}; all else is in each run's config.json"
    value |= {"budget": "", "seeds": [w.config.seed for w in wanted[:each]], "settings": said}
    write_json(out / "result.json", value)
    return value


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", name)


def _drawing(configs: Sequence[tuple[Values, Config]], rows: Sequence[Row]) -> Drawing:
    """A grid: lines over the first option, one for each combination of the others. Draws, or many such combinations:
    a panel for each option, a point for each training."""
    first, *others = configs[0][0]
    points = [(values, 100 * r.mean) for (values, _), r in zip(configs, rows, strict=True)]
    lines: dict[str, list[tuple[Values, float]]] = {}
    for values, y in points:
        lines.setdefault(", ".join(f"{n}={values[n]}" for n in others), []).append((values, y))
    y = "validation accuracy (%)"
    if len(lines) <= _MOST_LINES and all(len(own) > 1 for own in lines.values()):
        return Drawing("lines", first, y, tuple(_series(name or first, first, own) for name, own in lines.items()))
    return Drawing("points", "its value", y, tuple(_series(n, n, points, panel=n) for n in configs[0][0]))


def _series(name: str, option: str, points: Sequence[tuple[Values, float]], panel: str = "") -> Series:
    pairs = [(values[option], y) for values, y in points]
    try:
        pairs.sort(key=lambda p: float(p[0]))
        x: list[str | int | float] = [float(v) for v, _ in pairs]
    except ValueError:
        x = [v for v, _ in pairs]
    return Series(name, x, [y for _, y in pairs], panel=panel)
