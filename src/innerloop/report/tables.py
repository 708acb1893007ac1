"""The tables of a study as rows of text: the page and the terminal show the same ones."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from innerloop.report.formats import (
    NONE,
    blocks,
    duration,
    in_percent,
    milliseconds,
    percent,
    plain,
    points,
    ratio,
    with_interval,
)
from innerloop.report.summary import Summary

CI95 = "ci95: half width of the 95 % interval of the mean over test episodes of one trained model"


class Table(NamedTuple):
    """A table to print; the first column names the row."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str


def tables(summary: Summary) -> list[Table]:
    """All tables that the summary has numbers for, in the order of the page."""
    return list(named_tables(summary).values())


def named_tables(summary: Summary) -> dict[str, Table]:
    """The same tables by the part of the summary they show."""
    makers: dict[str, Callable[[Summary], Table]] = {
        "claims": _claims,
        "methods": _methods,
        "paired": _paired,
        "steps": _steps,
        "freezing": _freezing,
        "movement": _movement,
        "cka": _cka,
        "cost": _cost,
    }
    made = {name: make(summary) for name, make in makers.items()}
    return {name: table for name, table in made.items() if table.rows}


def title_of(summary: Summary, method: str) -> str:
    """The name of a method as the reader sees it."""
    return str(summary["methods"].get(method, {}).get("title") or method)


def short_title(summary: Summary, method: str) -> str:
    """The name of a method without what stands in brackets, for headings and legends."""
    short = {"nil": "NIL", "nil_maml": "NIL (MAML's body)"}
    return short.get(method) or title_of(summary, method).split(" (")[0]


def label(summary: Summary, method: str) -> str:
    """The short title, cut to what fits into a figure."""
    return cut(short_title(summary, method), 20)


def cut(text: str, length: int) -> str:
    """The text, its end replaced by … where it is longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def setting(summary: Summary) -> str:
    """5-way 1-shot on glyphs"""
    data = summary["data"]
    return f"{data['way']}-way {data['shot']}-shot on {data['name']}"


def _claims(summary: Summary) -> Table:
    claims = (summary.get("verdict") or {}).get("claims") or []
    rows = [["✓ holds" if c["holds"] else "✗ does not", c["claim"], c.get("evidence") or ""] for c in claims]
    return Table("What was tested", ["", "claim", "evidence"], rows, "")


def _methods(summary: Summary) -> Table:
    rows = []
    for name, m in summary["methods"].items():
        steps = f"{m['outer_steps']:,}" if m.get("outer_steps") is not None else NONE
        if m.get("best_step") is not None:
            steps += f" (best: {m['best_step']:,})"
        time, note = duration(m.get("train_seconds")), m.get("note") or ""
        rows.append([title_of(summary, name), with_interval(m), time, steps, f"{m['episodes']:,}", note])
    header = ["method", "accuracy, % ± ci95", "training time", "outer steps", "episodes", "note"]
    return Table(f"Test accuracy, {setting(summary)}", header, rows, f"{CI95}.")


def _paired(summary: Summary) -> Table:
    rows = [
        [f"{short_title(summary, p['a'])} − {short_title(summary, p['b'])}", points(p), f"{p['episodes']:,}"]
        for p in summary.get("paired") or []
    ]
    note = (
        "Both methods saw the same test episodes, so the interval is that of the difference per episode. "
        "An interval that includes 0 shows no difference."
    )
    return Table("Differences on the same episodes", ["difference", "points ± ci95", "episodes"], rows, note)


def _steps(summary: Summary) -> Table:
    methods = {n: m["steps"] for n, m in summary["methods"].items() if len(m.get("steps") or []) > 1}
    longest = max((len(s) for s in methods.values()), default=0)
    rows = [[str(i), *(with_interval(s[i]) if i < len(s) else NONE for s in methods.values())] for i in range(longest)]
    header = ["inner steps", *(f"{short_title(summary, n)}, % ± ci95" for n in methods)]
    return Table("Test accuracy after each inner step", header, rows, f"{CI95}.")


def _freezing(summary: Summary) -> Table:
    rows = [
        [
            blocks(f["frozen"]),
            blocks(f["adapted"]),
            with_interval(f),
            points(f["difference"]) if f["frozen"] and f.get("difference") else NONE,
            f"{f['episodes']:,}",
        ]
        for f in summary.get("freezing") or []
    ]
    header = [
        "frozen",
        "adapted",
        "accuracy, % ± ci95",
        "difference to none frozen, points ± ci95",
        "episodes",
    ]
    note = "MAML's model; at test time the frozen blocks get no inner update. Differences are paired."
    return Table("Freezing blocks at test time", header, rows, note)


def _per_block(summary: Summary, part: str, cell: Callable[[Mapping[str, Any]], list[str]]) -> list[list[str]]:
    entries: Mapping[str, Any] = summary.get(part) or {}
    return [[short_title(summary, name), e["block"], *cell(e)] for name, found in entries.items() for e in found]


def _movement(summary: Summary) -> Table:
    def cell(e: Mapping[str, Any]) -> list[str]:
        count = f"{e['parameters']:,}" if e.get("parameters") is not None else NONE
        distance, relative = (
            plain(e.get("distance"), e.get("distance_ci95")),
            plain(e["relative"], e["relative_ci95"]),
        )
        return [count, distance, relative]

    header = ["method", "block", "parameters", "L2 distance ± ci95", "relative distance ± ci95"]
    note = "How far the inner loop moves a block's weights; relative: divided by their norm before it."
    note += _analysed(summary)
    return Table("Movement of the weights in the inner loop", header, _per_block(summary, "movement", cell), note)


def _cka(summary: Summary) -> Table:
    rows = _per_block(summary, "cka", lambda e: [plain(e["mean"], e["ci95"])])
    note = "Linear CKA of a block's activations on the query images, before against after; 1 is unchanged."
    note += _analysed(summary)
    return Table("Similarity before and after the inner loop", ["method", "block", "CKA ± ci95"], rows, note)


def _analysed(summary: Summary) -> str:
    episodes = summary["data"].get("analysis_episodes")
    return f" Over the first {episodes:,} test episodes." if episodes is not None else ""


def _cost(summary: Summary) -> Table:
    cost = summary.get("cost") or {}
    rows = []
    for part, what in (("train", "training, one outer step"), ("inference", "inference, one episode")):
        times: Mapping[str, float] = cost.get(f"{part}_ms") or {}
        rows += [[what, short_title(summary, name), milliseconds(ms)] for name, ms in times.items()]
        if cost.get(f"{part}_ratio") is not None:
            rows.append([what, "MAML ÷ ANIL", ratio(cost[f"{part}_ratio"])])
    made = [str(cost["device"])] if cost.get("device") else []
    if cost.get("threads"):
        made.append(f"{cost['threads']} thread" + ("s" if cost["threads"] != 1 else ""))
    note = "; ".join(filter(None, [cost.get("note"), ", ".join(made)]))
    return Table("Cost", ["what", "method", "time"], rows, note)


def accuracy_in_words(summary: Summary, method: str) -> str:
    """46.9 % (ci95 ± 0.7)"""
    m = summary["methods"][method]
    return f"{in_percent(m['mean'])} (ci95\u00a0±\u00a0{percent(m.get('ci95'))})"
