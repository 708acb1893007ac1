"""A study of domain shift as files: table.md, table.csv, figure.png and figure.svg beside result.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from innerloop.report.drawing import blank, png, style, svg
from innerloop.report.formats import NONE, points, with_interval
from innerloop.report.spreadsheet import Cell, csv_text
from innerloop.report.style import FAINT, LOOKS
from innerloop.runs import read_json
from innerloop.runs.files import write_bytes

Value = Mapping[str, Any]

_PARTS = ("in_domain", "shifted", "drop", "against_first")


def write_shift(folder: Path) -> dict[str, Path]:
    """Write the table and the figure of ``folder/result.json``; gives their paths by name."""
    value = read_json(folder / "result.json")
    with style(value["name"]):
        figure = draw(value)
        files = {"figure.png": png(figure), "figure.svg": svg(figure)}
    files |= {"table.md": markdown(value).encode(), "table.csv": table_csv(value).encode()}
    for name, content in files.items():
        write_bytes(folder / name, content)
    return {name: folder / name for name in files}


def header(value: Value) -> tuple[str, ...]:
    """The columns; each ± is ci95."""
    first = value["rows"][0]["method"]
    return ("method", "in-domain (%)", f"{value['target']} (%)", "seed_std", "drop (points)", f"− {first}", "models")


def rows(value: Value) -> list[tuple[str, ...]]:
    """The lines of the table, as a reader sees them."""
    return [
        (
            r["method"],
            with_interval(r["in_domain"]),
            with_interval(r["shifted"]),
            NONE if r["shifted"]["seed_std"] is None else f"{100 * r['shifted']['seed_std']:.1f}",
            points(r["drop"]),
            NONE if r["against_first"] is None else points(r["against_first"]),
            str(r["shifted"]["seeds"]),
        )
        for r in value["rows"]
    ]


def settings(value: Value) -> str:
    """What was tested, in a sentence."""
    norm = "of the set at hand (transductive)" if value["statistics"] == "batch" else "of the support set"
    home, away = value["seeds_of_episodes"]
    return (
        f"{value['way']}-way {value['shot']}-shot, {value['query']} query images a class and {value['episodes']} "
        f"episodes on either side (seeds {home} and {away}), {value['classes']['in_domain']} classes in-domain and "
        f"{value['classes']['shifted']} on the target, batch norm by the statistics {norm}, {value['checkpoint']} "
        "checkpoints"
    )


def notes(value: Value) -> list[str]:
    """What a reader has to know."""
    first = value["rows"][0]["method"]
    return [
        f"{value['target']}: {value['about']}.",
        settings(value) + ".",
        "±: ci95 over test episodes of one model, averaged over the models. The drop is in-domain − target on two "
        f"independent sets of episodes (their squares add up); − {first} is a difference on the same episodes of the "
        "target. seed_std: standard deviation over seeds on the target.",
        *value["notes"],
    ]


def markdown(value: Value) -> str:
    """The table and what it rests on, as Markdown."""
    head = header(value)
    rule = ("---", *["---:"] * (len(head) - 1))
    lines = [f"# {value['title']}", ""]
    lines += [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, rule, *rows(value))
    ]
    lines += ["", *[f"- {n}" for n in notes(value)]]
    lines += [f"- Made by `{' '.join(value['command'])}` at commit {value['commit'] or 'unknown'}, {value['date']}."]
    return "\n".join(lines) + "\n"


def table_csv(value: Value) -> str:
    """The table for a spreadsheet: raw numbers, fractions instead of per cent."""
    numbers = ("mean", "ci95", "seed_std")
    lines: list[list[Cell]] = [
        ["method", *(f"{part}_{number}" for part in _PARTS for number in numbers), "models", "episodes"]
    ]
    for r in value["rows"]:
        found = [None if r[part] is None else r[part][number] for part in _PARTS for number in numbers]
        shifted = r["shifted"]
        lines.append([r["method"], *("" if x is None else x for x in found), shifted["seeds"], shifted["episodes"]])
    return csv_text(lines)


def draw(value: Value) -> Figure:
    """A line a method, from its in-domain accuracy (hollow) to that on the target (filled)."""
    methods = [r["method"] for r in value["rows"]]
    figure, (axes,) = blank(1.3 + 0.36 * len(methods))
    home, away = LOOKS["maml"], LOOKS["anil"]
    for i, r in enumerate(value["rows"]):
        axes.plot([100 * r[p]["mean"] for p in ("in_domain", "shifted")], [i, i], color=FAINT, linewidth=1.2)
    for part, look, fill, label in (
        ("in_domain", home, "none", "in-domain"),
        ("shifted", away, "full", str(value["target"])),
    ):
        axes.errorbar(
            [100 * r[part]["mean"] for r in value["rows"]],
            range(len(methods)),
            xerr=[100 * r[part]["ci95"] for r in value["rows"]],
            color=look.colour,
            marker=look.marker,
            fillstyle=fill,  # pyright: ignore[reportArgumentType]
            linestyle="none",
            capsize=2.5,
            label=label,
        )
    axes.axvline(100 / value["way"], color=FAINT, linestyle=":", linewidth=1.2, label="guess")
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlabel("accuracy (%)")
    axes.grid(axis="x", color=FAINT, alpha=0.3, linewidth=0.6)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, title="bars: ci95 over test episodes",
                title_fontsize=9, alignment="left")  # fmt: skip
    return figure
