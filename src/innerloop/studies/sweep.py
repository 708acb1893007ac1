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
    halving: int = 0,
    data_dir: Path | None = None,
    jobs: int = 1,
    launcher: Launcher = "local",
    options: Mapping[str, str] = {},
    report: Callable[[int, int, int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Train each of `configs` with each of `seeds` (none: its own) under ``out/runs``, and write and return
    ``out/result.json``.

    With `halving` this is a search by successive halving: all train to the first of `looks`, of which one in `halving`,
    the best on validation, continue to the next look. The others keep their checkpoint.

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
    if halving and len({(c.outer.steps, c.validation.every) for _, c in configs}) > 1:
        raise InnerloopError(
            "--halving compares trainings after as many steps; vary no outer.steps or validation.every"
        )
    names = [", ".join(f"{n}={v}" for n, v in values.items()) for values, _ in configs]
    wanted = [
        [
            Training(replace(c, seed=s), out / "runs" / f"{_file_name(name)}-seed{s}", data_dir)
            for s in seeds or (c.seed,)
        ]
        for name, (_, c) in zip(names, configs, strict=True)
    ]
    outer, validation = configs[0][1].outer, configs[0][1].validation
    each = len(seeds) or 1
    at = looks(len(configs), outer.steps, validation.every, halving) if halving else [0]
    alive = list(range(len(configs)))
    rows: dict[int, Row] = {}
    points: dict[int, list[tuple[Values, float]]] = {}
    for until in at:
        now = [replace(w, until=until) for i in alive for w in wanted[i]]
        train_together(now, jobs=jobs, launcher=launcher, options=options, logs=out / "jobs", report=report)
        for i in alive:
            rows[i] = _row(names[i], [replace(w, until=until) for w in wanted[i]], validation.episodes)
        points[until] = [(configs[i][0], 100 * rows[i].mean) for i in alive]
        if until != at[-1]:
            alive = sorted(sorted(alive, key=lambda i: -rows[i].mean)[: max(1, len(alive) // halving)])
    best = max((rows[i] for i in alive), key=lambda r: r.mean)
    notes = [
        f"Best: {best.label}. Accuracy of the best checkpoint on validation episodes, the same for all. It is the "
        "highest of several looks, and so a little too high."
    ]
    if halving:
        trained = sum(int(r.measured["steps"]) for r in rows.values()) * each
        notes.append(
            f"Successive halving: after {', '.join(map(str, at))} steps, one in {halving} continued. {trained:,} outer "
            f"steps were trained instead of {outer.steps * len(configs) * each:,}; compare only rows of as many steps."
        )
    drawing = _by_look(points) if halving else _drawing(configs, list(rows.values()))
    result = Result(tuple(rows.values()), (), drawing, notes=tuple(notes))
    value = described(
        result,
        configs[0][1],
        name="sweep",
        title=f"Sweep of {', '.join(configs[0][0])}",
        where="validation classes",
        query=configs[0][1].test.query,
        seconds=math.fsum(r.measured["minutes"] * 60 * each for r in rows.values()),
    )
    varied = ", ".join(configs[0][0])
    own = "their own" if not seeds else ", ".join(map(str, seeds))
    said = f"{configs[0][1].data}, {varied} varied, seeds {own}; all else is in each run's config.json"
    value |= {"budget": "", "seeds": [w.config.seed for w in wanted[0]], "settings": said}
    write_json(out / "result.json", value)
    return value


def looks(trainings: int, steps: int, every: int, halving: int) -> list[int]:
    """The outer steps at which successive halving compares: `steps`, and before that each time a part of `halving` of
    it, rounded up to a validation (`every`), as often as that many trainings can be divided."""
    if halving < 2:
        raise InnerloopError(f"--halving keeps one in 2 or more, got {halving}")
    found = [steps]
    while trainings >= halving and (before := math.ceil(found[0] / halving / every) * every) < found[0]:
        found.insert(0, before)
        trainings //= halving
    return found


def _row(name: str, own: Sequence[Training], episodes: int) -> Row:
    """What the trainings of one setting have reached, as far as they were to be trained."""
    values, best_steps, seconds = [], [], []
    for w in own:
        rows = [r for r in RunFolder(w.folder).metrics if r["step"] <= w.steps and "validation" in r]
        if not rows or rows[-1]["step"] < w.steps:
            raise InnerloopError(f"{w.folder} was stopped before step {w.steps}; the same command continues it")
        best = max(rows, key=lambda r: r["validation"])
        values.append(SeedValue(w.config.seed, best["validation"], None, episodes))
        best_steps.append(best["step"])
        seconds.append(rows[-1]["seconds"])
    more = {
        **({"steps": float(own[0].steps)} if own[0].until else {}),
        "best step": math.fsum(best_steps) / len(own),
        "minutes": math.fsum(seconds) / len(own) / 60,
    }
    return Row(name, "accuracy", tuple(values), measured=more)


def _by_look(points: Mapping[int, Sequence[tuple[Values, float]]]) -> Drawing:
    """A panel for each option, a colour for each look."""
    series = [
        _series(f"after {step} steps", option, found, panel=option)
        for option in next(iter(points.values()))[0][0]
        for step, found in points.items()
    ]
    return Drawing("points", "its value", "validation accuracy (%)", tuple(series))


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
