"""The tables of a study as rows of text: the page and the terminal show the same ones."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from innerloop.report.formats import (
    NONE,
    SAID,
    blocks,
    duration,
    in_percent,
    milliseconds,
    number,
    percent,
    plain,
    points,
    ratio,
    with_interval,
)
from innerloop.report.summary import Summary

CLAIMS = (
    "A claim holds where the whole interval of its number is on the right side of the bound, does not hold where all "
    "of it is on the wrong side, and else inconclusive."
)
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
        "over_seeds": _over_seeds,
        "claims": _claims,
        "methods": _methods,
        "paired": _paired,
        "steps": _steps,
        "freezing": _freezing,
        "movement": _movement,
        "cka": _cka,
        "early": _early,
        "cost": _cost,
        "heads": _heads,
        "dial": _dial,
    }
    made = {name: make(summary) for name, make in makers.items()}
    return {name: table for name, table in made.items() if table.rows}


def title_of(summary: Summary, method: str) -> str:
    """The name of a method as the reader sees it."""
    return str(summary["methods"].get(method, {}).get("title") or method)


def short_title(summary: Summary, method: str) -> str:
    """The name of a method without its part in brackets, for headings and legends."""
    short = {"nil": "NIL", "nil_maml": "NIL (MAML's body)", "maml_small": "MAML, small start"}
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


MARKS = {True: "✓ holds", False: "✗ does not hold", None: "? inconclusive"}
DATA = {"mini_imagenet": "mini-ImageNet", "omniglot": "Omniglot"}


def _over_seeds(summary: Summary) -> Table:
    """Accuracies, then each claim with the number that decides it."""
    over = summary.get("over_seeds") or {"seeds": [], "accuracy": [], "claims": {}}

    def numbers(row: Mapping[str, Any] | None) -> list[str]:
        if row is None:
            return [NONE] * 3
        unit = row["unit"]
        mean = f"{number(row['mean'], unit, sign=unit == 'points')} {SAID[unit]}".strip()
        return [mean, number(row["seed_std"], unit), number(row["ci95"], unit)]

    scales = {d["method"]: d["head_scale"] for d in summary.get("dial") or []}
    rows = [[f"{r['label']}, accuracy", *numbers(r), ""] for r in over["accuracy"]]
    rows += [
        [
            c["claim"] if name == "maml" else f"Head × {scales[name]:g}: {c['claim']}",
            *numbers(c["number"]),
            MARKS[c["holds"]],
        ]
        for name, tested in over["claims"].items()
        for c in tested
    ]
    note = (
        "Beside a claim stands the number that decides it, for the body that of its lowest block. mean and seed_std"
        " (standard deviation) are over the seeds; ci95, over test episodes of one model, is averaged. A claim"
        " holds where the intervals of all seeds are on the right side of the bound, does not hold where all are on the"
        " wrong side, and else inconclusive."
    )
    return Table(
        f"Over {seeds_of(summary)}, {setting(summary)}", ["", "mean", "seed_std", "ci95", "outcome"], rows, note
    )


def seeds_of(summary: Summary) -> str:
    """seeds 0, 1, 2"""
    return f"seeds {', '.join(map(str, (summary.get('over_seeds') or {}).get('seeds', ())))}"


def _claims(summary: Summary) -> Table:
    claims = (summary.get("verdict") or {}).get("claims") or []
    rows = []
    for c in claims:
        shown = " and ".join(str(DATA.get(d, d)) for d in c.get("paper_data") or ())
        evidence = [c.get("evidence") or "", *([f"tested: {c['predicate']}"] if c.get("predicate") else [])]
        evidence += [f"the paper shows it on {shown}"] if shown else []
        rows.append([MARKS[c["holds"]], c["claim"], "; ".join(filter(None, evidence))])
    return Table("What was tested", ["", "claim", "evidence"], rows, CLAIMS if summary.get("dial") else "")


def _dial(summary: Summary) -> Table:
    """A column a setting, a row a measure: narrow enough for a phone."""
    dial = summary.get("dial") or []
    if len(dial) < 2:
        return Table("", [], [], "")

    def test(name: str) -> list[str]:
        return [f"{points(d[name]['difference'])}" if d.get(name) else NONE for d in dial]

    def low(name: str) -> list[str]:
        return [plain(d["lowest_body"][name], None) for d in dial]

    rows = [
        ["accuracy, all blocks adapt, %", *(with_interval(d["whole"]) for d in dial)],
        ["body frozen, points", *test("frozen")],
        ["body frozen, head from zeros, points", *test("zeros")],
        ["body frozen, no head (NIL), points", *test("nil")],
        ["lowest CCA of the body", *low("cca")],
        ["the same over 98 % of the correlations", *low("cca98")],
        ["lowest CKA of the body", *low("cka")],
        *(
            [f"{b} moves, of its size", *(plain(d["moved"][b], None) for d in dial)]
            for b in list(dial[0]["moved"])[-2:]
        ),
        ["head's share of the first gradient", *(plain(d["share"]["mean"], d["share"]["ci95"]) for d in dial)],
        *([c["claim"], *(MARKS[d["claims"][i]["holds"]] for d in dial)] for i, c in enumerate(dial[0]["claims"])),
    ]
    header = ["", *(f"head × {d['head_scale']:g}, ± ci95" for d in dial)]
    note = "Points: against all blocks adapting, on the same test episodes."
    return Table(f"Two starts of MAML's head, {setting(summary)}", header, rows, note)


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
        "Both methods saw the same test episodes, so the interval is for the difference per episode. "
        "An interval that includes 0 leaves open which of the two is better."
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
    adapts = {"head from zeros": "head, from zeros", "NIL": "nothing: no head (NIL)"}
    rows += [
        [blocks(summary["freezing"][-1]["frozen"]), adapts.get(e["head"], e["head"]), with_interval(e),
         points(e["difference"]), f"{e['episodes']:,}"]
        for e in (summary.get("still") if rows else None) or []
    ]  # fmt: skip
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
    others = {part: _by_block(summary, part) for part in ("cca", "cca98") if summary.get(part)}

    def cell(method: str, e: Mapping[str, Any]) -> list[str]:
        found = [by.get((method, e["block"])) or {} for by in others.values()]
        return [plain(e["mean"], e["ci95"]), *(plain(o.get("mean"), o.get("ci95")) for o in found)]

    rows = [
        [short_title(summary, method), e["block"], *cell(method, e)]
        for method, found in (summary.get("cka") or {}).items()
        for e in found
    ]
    what = "Linear CKA and mean CCA" if others else "Linear CKA"
    note = f"{what} of a block's activations on the query images, before against after; 1 is unchanged."
    note += _analysed(summary)
    if "cca98" in others:
        note += (
            " CCA of 98 %: over the leading correlations that make up 98 % of their sum, as the paper's code takes it."
        )
    if points := summary["data"].get("cca_points") if others else None:
        note += f" CCA takes {points} data points per neuron at most, evenly spaced."
    if left_out := without_cca(summary):
        note += f" {NONE}: no CCA for {', '.join(left_out)}, which give{'s' if len(left_out) == 1 else ''} fewer than "
        note += "two data points per neuron here."
    titles = {"cca": "CCA ± ci95", "cca98": "CCA of 98 % ± ci95"}
    header = ["method", "block", "CKA ± ci95", *(titles[part] for part in others)]
    return Table("Similarity before and after the inner loop", header, rows, note)


def without_cca(summary: Summary) -> list[str]:
    """The blocks that have a CKA but no CCA: their outputs are too few for it. None where CCA was not measured."""
    if not summary.get("cca"):
        return []
    cka, cca = _by_block(summary, "cka"), _by_block(summary, "cca")
    return list(dict.fromkeys(block for method, block in cka if (method, block) not in cca))


def _by_block(summary: Summary, part: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(m, e["block"]): e for m, found in (summary.get(part) or {}).items() for e in found}


def _early(summary: Summary) -> Table:
    found = summary.get("early") or []
    rows = [
        [
            f"{e['step']:,}",
            with_interval(e),
            with_interval(e["body_frozen"]),
            points(e["difference"]),
            f"{plain(low['mean'], low['ci95'])} ({low['block']})" if (low := e.get("lowest_body_cka")) else NONE,
        ]
        for e in found
    ]
    header = [
        "outer steps",
        "nothing frozen, % ± ci95",
        "body frozen, % ± ci95",
        "difference, points ± ci95",
        "lowest CKA in the body ± ci95",
    ]
    note = "MAML's checkpoints along the training; a frozen body gets no inner update. Differences are paired."
    if found and found[0].get("episodes") is not None:
        note += f" Over the first {found[0]['episodes']:,} test episodes."
    return Table("Early in training", header, rows, note)


def _heads(summary: Summary) -> Table:
    found = summary.get("heads") or []
    rows = [[e["name"], with_interval(e), points(e["difference"]) if i else NONE] for i, e in enumerate(found)]
    header = ["head", "accuracy, % ± ci95", "difference to the first, points ± ci95"]
    note = f"The same {found[0]['episodes']:,} test episodes for every head; differences are paired." if found else ""
    return Table("Other heads on MAML's model", header, rows, note)


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
