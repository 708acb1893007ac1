"""A reproduced table or figure as files: table.md, table.csv, figure.png and figure.svg beside result.json."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from innerloop.errors import InnerloopError
from innerloop.report.drawing import blank, grid, png, style, svg
from innerloop.report.formats import NONE, SAID, number
from innerloop.report.spreadsheet import Cell, csv_text
from innerloop.report.style import FAINT, INK
from innerloop.runs.files import locked, read_object, write_all

Value = Mapping[str, Any]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6f6f6f")
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "--")
_MARKERS = ("o", "s", "^", "v", "D", "P", "X")


def write_reproduction(folder: Path) -> dict[str, Path]:
    """Write the table and the figure of ``folder/result.json``; gives their paths by name."""
    with locked(folder / ".lock"):  # who wrote result.json last also draws last
        value = read_object(folder / "result.json")
        try:
            with style(value["name"]):
                figure = draw(value)
                files = {"figure.png": png(figure), "figure.svg": svg(figure)}
            files |= {"table.md": markdown(value).encode(), "table.csv": table_csv(value).encode()}
        except InnerloopError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InnerloopError(
                f"{folder / 'result.json'} is not as it was written ({type(error).__name__}: {error}); make it again"
            ) from error
        write_all(folder, files)
    return {name: folder / name for name in files}


HEADER = ("", "paper", "ours", "seed_std", "ci95", "models", "episodes")


def header(value: Value) -> tuple[str, ...]:
    """The table's columns: `HEADER` and what this result has measured besides."""
    own = ["tasks" if h == "episodes" and value.get("over") == "test tasks" else h for h in HEADER]
    return (*own, *_further(value))


def _further(value: Value) -> list[str]:
    return list(dict.fromkeys(name for r in value["rows"] for name in r.get("measured", {})))


def rows(value: Value) -> list[tuple[str, ...]]:
    """The lines of the table, as a reader sees them."""
    found = []
    further = _further(value)
    for r in value["rows"]:
        unit = SAID[r["unit"]]
        found.append(
            (
                r["label"] + (f" ({r['note']})" if r["note"] else ""),
                r["paper"] or NONE,
                number(r["mean"], r["unit"], sign=r["unit"] == "points") + (f" {unit}" if unit else ""),
                number(r["seed_std"], r["unit"]),
                number(r["ci95"], r["unit"]),
                str(r["seeds"]),
                NONE if r["episodes"] is None else str(r["episodes"]),
                *(_short(r.get("measured", {}).get(name)) for name in further),
            )
        )
    return found


def claim_rows(value: Value) -> list[tuple[str, str, str, str, str]]:
    """(claim, predicate, data on which the paper shows it, outcome, evidence)"""
    said = {True: "holds", False: "does not hold", None: "inconclusive"}
    return [
        (c["text"], c["predicate"], ", ".join(c.get("paper_data", ())) or NONE, said[c["holds"]], c["evidence"])
        for c in value["claims"]
    ]


CLAIMS = (
    "A claim holds where the whole range of its number, over the ci95 of every seed, is on the right side of the "
    "bound; does not hold where all of it is on the wrong side; else inconclusive."
)


def settings(value: Value) -> str:
    """What was run, in a sentence."""
    if "settings" in value:
        return str(value["settings"])
    steps = value["inner_steps"]
    batch = value["statistics"] == "batch"
    norm = "the statistics of the current set (transductive)" if batch else "the support set's statistics"
    budget = f"budget {value['budget']}: " if value["budget"] else ""
    return (
        f"{value['data']}, {value['way']}-way {value['shot']}-shot, {value['query']} query images per class, {budget}"
        f"{value['outer_steps']:,} outer steps of {value['meta_batch']} tasks, inner rate {value['inner_lr']:g}, "
        f"{steps['train']} inner steps in training and {steps['test']} at test time, batch norm by {norm}, "
        f"seeds {', '.join(map(str, value['seeds']))}"
    )


def notes(value: Value) -> list[str]:
    """What a reader has to know."""
    found = [settings(value) + "."]
    if value["budget"] in ("smoke", "cpu") and "settings" not in value:
        found.append(
            "The paper trains longer (its last checkpoints are at 30,000 outer steps), with three seeds; its data or "
            "way may differ: compare the pattern, not the level. `--budget paper` trains that long."
        )
    if value["paper_column"] and any(r["paper"] for r in value["rows"]):
        found.append(f"Paper: {_column(value)}, Raghu et al. 2020; its ± is over three seeds.")
    over = value.get("over", "test episodes")
    found.append(f"seed_std: standard deviation over seeds. ci95: interval over {over} of one model.")
    return [*found, *value["notes"]]


def markdown(value: Value) -> str:
    """The table, the claims and what they rest on, as Markdown."""
    lines = [f"# {value['title']} ({value['where']})", ""]
    lines += _table(header(value), rows(value))
    said = claim_rows(value)
    if said:
        lines += [
            "",
            "| claim | tested as | the paper shows it on | outcome | evidence |",
            "| --- | --- | --- | --- | --- |",
        ]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in said]
    lines += ["", *[f"- {n}" for n in [*notes(value), *([CLAIMS] if said else [])]]]
    lines += [f"- Made by `{' '.join(value['command'])}` at commit {value['commit'] or 'unknown'}, {value['date']}."]
    return "\n".join(lines) + "\n"


def table_csv(value: Value) -> str:
    """The table for a spreadsheet: raw numbers, fractions instead of per cent."""
    names = ("label", "unit", "paper", "mean", "seed_std", "ci95", "seeds", "episodes")
    further = _further(value)
    lines: list[list[Cell]] = [[*names, *further]]
    for r in value["rows"]:
        own = r.get("measured", {})
        lines.append([*("" if r[n] is None else r[n] for n in names), *(own.get(n, "") for n in further)])
    return csv_text(lines)


def _same_data(value: Value) -> bool:
    """Whether the paper's numbers are of the same data as ours: beside others they stand in the table alone."""
    column = value["paper_column"].lower().replace("-", "_")
    same_way = "_way" not in column or f"{value.get('way')}_way" in column
    return "data" in value and column.startswith(str(value["data"])) and same_way


def draw(value: Value) -> Figure:
    """The figure that the result describes, with the name of its data."""
    figure = _draw(value)
    if "data" in value:
        named = f"{value['data']}, {value['way']}-way {value['shot']}-shot"
        figure.supxlabel(named, fontsize=9, x=0.995, ha="right")
    return figure


def _draw(value: Value) -> Figure:
    drawing = value["drawing"]
    if drawing["kind"] == "bars":
        return _bars(value)
    if drawing["kind"] == "scatter":
        return _scatter(drawing)
    return _lines(drawing) if drawing["kind"] == "lines" else _points(drawing)


def _bars(value: Value) -> Figure:
    drawing = value["drawing"]
    drawn = _same_data(value)
    value = {**value, "paper_drawn": drawn}
    chance = None if "accuracy" not in drawing["y"] else 100 / value["way"]
    panels = _panels(drawing)
    figure, all_axes = blank(3.2 * len(panels), rows=len(panels))
    for (panel, series), axes in zip(panels.items(), all_axes, strict=True):
        _bars_on(axes, value, series, chance)
        _finish(axes, _in_panel(drawing, panel), len(series) > 1 or any(s["paper"] and drawn for s in series))
    return figure


def _panels(drawing: Value) -> dict[str, list[Value]]:
    """The series by the axes that they are drawn on."""
    panels = dict.fromkeys(s.get("panel", "") for s in drawing["series"])
    return {p: [s for s in drawing["series"] if s.get("panel", "") == p] for p in panels}


def _in_panel(drawing: Value, panel: str) -> Value:
    return {**drawing, "y": f"{panel}\n{drawing['y']}"} if panel else drawing


def _bars_on(axes: Axes, value: Value, series: list[Value], chance: float | None) -> None:
    width = 0.8 / len(series)
    places = 1 if max((abs(y) for s in series for y in s["y"]), default=0.0) > 2 else 2
    size = 8.5 if len(series) * len(series[0]["x"]) <= 16 else 7
    for i, s in enumerate(series):
        at = [j + (i - (len(series) - 1) / 2) * width for j in range(len(s["x"]))]
        axes.bar(at, s["y"], width * 0.92, yerr=s["error"], color=_COLOURS[i], hatch=_HATCHES[i], edgecolor="#ffffff",
                 linewidth=0, ecolor=INK, capsize=2.5, label=s["name"])  # fmt: skip
        if s["paper"] and value["paper_drawn"]:
            axes.plot(at, [math.nan if p is None else p for p in s["paper"]], "D", color=INK, fillstyle="none",
                      markersize=6, label=None if i else f"paper ({_column(value)})")  # fmt: skip
        for x, y, e in zip(at, s["y"], s["error"] or [0.0] * len(at), strict=True):
            inside = bool(
                s["paper"] and value["paper_drawn"]
            )  # at the foot of the bar, where no marker of the paper's can hide it
            down = y < 0  # a negative bar has its end below
            end = 0 if inside else y - e if down else y + e
            axes.annotate(f"{y:.{places}f}", (x, end), xytext=(0, -3 if down else 3), textcoords="offset points",
                          ha="center", va="top" if down else "baseline", fontsize=size,
                          color="#ffffff" if inside else INK, weight="bold" if inside else "normal")  # fmt: skip
    low, high = axes.get_ylim()
    if low < 0:
        axes.set_ylim(low - 0.06 * (high - low), high)  # for the number below the deepest bar
    labels = [str(x) for x in series[0]["x"]]
    narrow = max(len(part) for label in labels for part in label.split("\n")) * len(labels) > 60
    axes.set_xticks(range(len(labels)), labels, rotation=20 if narrow else 0, ha="right" if narrow else "center")
    if chance is not None:
        axes.axhline(chance, color=FAINT, linestyle=":", linewidth=1.2)
        axes.annotate("guess", (1.01, chance), xycoords=("axes fraction", "data"), fontsize=8.5, va="center")


def _lines(drawing: Value) -> Figure:
    panels = _panels(drawing)
    figure, all_axes = blank(3.2 * len(panels), rows=len(panels))
    for (panel, own), axes in zip(panels.items(), all_axes, strict=True):
        for i, s in enumerate(own):
            axes.errorbar(s["x"], s["y"], yerr=s["error"], color=_COLOURS[i], marker=_MARKERS[i], capsize=2.5,
                          linestyle=("-", "--", ":", "-.")[i % 4], label=s["name"])  # fmt: skip
        _finish(axes, _in_panel(drawing, panel), len(own) > 1)
    return figure


def _points(drawing: Value) -> Figure:
    panels = _panels(drawing)
    figure, all_axes = blank(4.2 if len(panels) == 1 else 3.2 * len(panels), rows=len(panels))
    for (panel, own), axes in zip(panels.items(), all_axes, strict=True):
        for i, s in enumerate(own):
            axes.plot(s["x"], s["y"], _MARKERS[i % 7], color=_COLOURS[i % 7], label=s["name"], fillstyle="none")
        if drawing["diagonal"]:
            axes.axline((0.5, 0.5), slope=1, color=FAINT, linewidth=1, linestyle=":")
        _finish(axes, _in_panel(drawing, panel), many=not panel or len(own) > 1)
    return figure


def _scatter(drawing: Value) -> Figure:
    """Points with their names beside them, x on a log scale."""
    figure, (axes,) = blank(5.4)
    for i, s in enumerate(drawing["series"]):
        axes.errorbar(s["x"], s["y"], yerr=s["error"], color=_COLOURS[i % 7], marker=_MARKERS[i % 7], linestyle="none",
                      elinewidth=0.8, capsize=1.5, markersize=5, label=s["name"])  # fmt: skip
    points = sorted(p for s in drawing["series"] for p in zip(s["x"], s["y"], s["names"], strict=True))
    xs = [p[0] for p in points]
    axes.set_xscale("log")
    axes.set_xlim(min(xs) / 1.3, max(xs) * 1.8)  # room for the last names
    ticks = [m * 10.0**e for e in range(-2, 7) for m in (1, 2, 5)]
    shown = [t for t in ticks if min(xs) / 1.3 <= t <= max(xs) * 1.8]
    axes.set_xticks(shown, [f"{t:g}" for t in shown])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    line = 0.026 * (high - low)  # the height of a name
    span = math.log(max(xs) * 1.8 * 1.3 / min(xs))
    placed: list[tuple[float, float]] = []
    for x, y, name in points:
        end = x * math.exp(span * (0.025 + 0.015 * len(name)))  # where the name ends, as it is about that wide
        under = [b for a, b, _ in points if x < a < end]  # other points where the name would stand
        tries = sorted((k * line for k in range(-12, 13)), key=abs)
        free = (
            y + d
            for d in tries
            if all(abs(y + d - b) >= line or x * 1.06 > e for e, b in placed)
            and all(abs(y + d - b) >= 0.8 * line for b in under)
        )
        at = next(free, y)
        placed.append((end, at))
        line_to = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6} if at != y else None
        axes.annotate(name, (x, y), xytext=(x * 1.06, at), fontsize=8, va="center", arrowprops=line_to)
    _finish(axes, drawing, many=True)
    return figure


def _short(x: float | None) -> str:
    if x is None:
        return NONE
    return f"{x:,.0f}" if x >= 100 or x == int(x) else f"{x:.3g}"


def _finish(axes: Any, drawing: Value, many: bool) -> None:
    axes.set_xlabel(drawing["x"])
    axes.set_ylabel(drawing["y"])
    title = f"bars: {drawing['errors']}" if drawing["errors"] else None
    if many:
        columns = 2 if len(drawing["series"]) > 3 else 3
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, title=title, title_fontsize=9,
                    alignment="left")  # fmt: skip
    elif title:
        axes.set_title(title, loc="left", fontsize=9)
    grid(axes)


def _column(value: Value) -> str:
    column = value["paper_column"]
    return f"{column} {value['shot']}-shot" if column.endswith("-way") else column


def _table(header: tuple[str, ...], lines: list[tuple[str, ...]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(_cell(c) for c in line) + " |" for line in (header, rule, *lines)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
