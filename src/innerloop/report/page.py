"""The report of a study: one page that opens from disk, and its figures as files."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from markupsafe import Markup

from innerloop.errors import cut, quoted
from innerloop.report.captions import ASKS, CCA, CKA, DIAL, HEADS, PAPER, Words, answer, verdict_in_words, words
from innerloop.report.drawing import inline, png, style, svg
from innerloop.report.figures import figures
from innerloop.report.formats import duration
from innerloop.report.style import look, template, variable
from innerloop.report.summary import ReportError, Summary, read_episodes, read_summary
from innerloop.report.tables import Table, named_tables
from innerloop.runs.files import write_all

_TABLE_OF = {
    "steps": "steps",
    "freezing": "freezing",
    "movement": "movement",
    "similarity": "cka",
    "early": "early",
    "cost": "cost",
}


@dataclass(frozen=True)
class Shown:
    """A figure on the page."""

    name: str
    drawing: Markup
    words: Words
    table: Table | None


def write_report(folder: Path) -> Path:
    """Write `folder`/report.html and `folder`/figures from the study in `folder`; gives the path of the page.

    Raises ReportError, naming the file, if the study's files are missing, damaged or lack numbers.
    """
    folder = Path(folder)
    summary = read_summary(folder)
    episodes = read_episodes(folder)
    try:
        shown = []
        by_name = named_tables(summary)
        drawn: dict[str, bytes] = {}
        for name, draw in figures(summary, episodes).items():
            with style(name):
                figure = draw()
                vector = svg(figure)
                drawn |= {f"{name}.png": png(figure), f"{name}.svg": vector}
            table = by_name.get(_TABLE_OF.get(name, ""))
            shown.append(Shown(name, Markup(inline(vector, name)), words(summary, name), table))
        page = _render(summary, by_name, shown)
    except KeyError as error:
        raise ReportError(f"{folder / 'summary.json'} is incomplete: {quoted(error.args[0])} is missing") from error
    except (TypeError, AttributeError, ValueError, IndexError, ArithmeticError, TemplateError) as error:
        raise ReportError(f"{folder / 'summary.json'} is not as a study writes it ({cut(str(error))})") from error
    write_all(folder, {**{f"figures/{n}": content for n, content in drawn.items()}, "report.html": page.encode()})
    return folder / "report.html"


def _render(summary: Summary, by_name: dict[str, Table], shown: list[Shown]) -> str:
    return template("report.html.j2").render(
        answer=answer(summary),
        asks=ASKS,
        verdict=verdict_in_words(summary),
        dial=DIAL,
        tables=by_name,
        seed=summary.get("seed"),
        methods=list(summary["methods"]),
        look=look,
        variable=variable,
        shown=shown,
        protocol=("freezing", "similarity", "movement", "early", "steps"),
        made=_made(summary),
        date=str(summary.get("date") or ""),
        paper=PAPER,
        heads=HEADS,
        cka=CKA,
        cca=CCA if summary.get("cca") else "",
        transductive=summary["data"].get("statistics") == "batch",
    )


def _made(summary: Summary) -> list[tuple[str, str]]:
    """How the study was made, as pairs of a name and its value; what is not known is left out."""
    data, env = summary["data"], summary.get("env") or {}
    classes: dict[str, int] = data.get("classes") or {}
    shape = data.get("image_shape")
    pairs: list[tuple[str, Any]] = [
        ("command", shlex.join(summary["command"]) if summary.get("command") else None),
        ("commit", summary.get("commit") or "not known (not run from a source tree)"),
        ("date", summary.get("date")),
        ("time taken", duration(summary["seconds"]) if summary.get("seconds") is not None else None),
        ("preset", summary.get("preset")),
        ("seed", summary.get("seed")),
        ("data", data["name"]),
        ("images", " × ".join(map(str, shape)) + " (channels, height, width)" if shape else None),
        ("classes", ", ".join(f"{n:,} {split}" for split, n in classes.items())),
        ("task", f"{data['way']}-way {data['shot']}-shot, {data['query']} query images per class"),
        ("test episodes", f"{data['episodes']:,}, the same ones for every method"),
        ("of them for movement and similarity", data.get("analysis_episodes")),
        ("of them early in training", (summary.get("early") or [{}])[0].get("episodes")),
        ("inner steps", f"{data['train_inner_steps']} in training, {data['inner_steps']} at test time"),
        ("batch norm", _statistics(str(data["statistics"])) if data.get("statistics") else None),
        ("innerloop", summary.get("innerloop")),
        ("Python", env.get("python")),
        ("PyTorch", env.get("torch")),
        ("processor", env.get("processor")),
        ("CPUs, threads", ", ".join(str(env[k]) for k in ("cpus", "threads") if env.get(k) is not None)),
        ("GPU", env.get("gpu") or "none"),
    ]
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def _statistics(setting: str) -> str:
    if setting == "batch":
        return "batch: statistics of the current set, support and query apart (transductive)"
    return setting
