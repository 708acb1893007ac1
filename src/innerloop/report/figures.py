"""The figures of a study, each from its part of the summary."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from innerloop.report.drawing import blank, grid
from innerloop.report.episode_picture import draw_episodes
from innerloop.report.formats import milliseconds, ratio
from innerloop.report.style import FAINT, INK, look
from innerloop.report.summary import Episodes, Summary
from innerloop.report.tables import cut, label, setting


def figures(summary: Summary, episodes: Episodes | None) -> dict[str, Callable[[], Figure]]:
    """name → how to draw it, for those figures that the study has numbers for, in the order of the page."""
    methods = summary["methods"].values()
    wanted: dict[str, tuple[Any, Callable[[], Figure]]] = {
        "dial": (len(summary.get("dial") or []) > 1, lambda: draw_dial(summary)),
        "episodes": (episodes is not None, lambda: draw_episodes(summary, episodes)),  # type: ignore[arg-type]
        "training": (any(m.get("curve") for m in methods), lambda: draw_training(summary)),
        "steps": (any(len(m.get("steps") or []) > 1 for m in methods), lambda: draw_steps(summary)),
        "freezing": (summary.get("freezing"), lambda: draw_freezing(summary)),
        "movement": (summary.get("movement"), lambda: draw_movement(summary)),
        "similarity": (summary.get("cka"), lambda: draw_similarity(summary)),
        "early": (len(summary.get("early") or []) > 1, lambda: draw_early(summary)),
        "cost": (summary.get("cost"), lambda: draw_cost(summary)),
    }
    return {name: _named(summary, draw) for name, (there, draw) in wanted.items() if there}


def _named(summary: Summary, draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """The figure with the name of its data."""

    def drawn() -> Figure:
        figure = draw()
        figure.supxlabel(setting(summary), fontsize=9, x=0.995, ha="right")
        return figure

    return drawn


TESTS = {
    "whole": "all blocks adapt",
    "frozen": "frozen: head as trained",
    "zeros": "frozen: head from zeros",
    "nil": "frozen: no head (NIL)",
}


def draw_dial(summary: Summary) -> Figure:
    """Accuracy of MAML's two models, all adapting and with the body frozen in three ways."""
    dial = summary["dial"]
    figure, (axes,) = blank(3.6)
    width = 0.8 / len(TESTS)
    looks = [look(m) for m in ("maml", "anil", "nil_maml", "nil")]
    for i, ((key, title), how) in enumerate(zip(TESTS.items(), looks, strict=True)):
        found = [(j, d[key]) for j, d in enumerate(dial) if d.get(key)]
        at = [j + (i - (len(TESTS) - 1) / 2) * width for j, _ in found]
        heights, errors = [100 * e["mean"] for _, e in found], [100 * e["ci95"] for _, e in found]
        axes.bar(at, heights, width * 0.92, yerr=errors, color=how.colour, hatch=how.hatch, edgecolor="#ffffff",
                 linewidth=0, ecolor=INK, capsize=2.5, label=title)  # fmt: skip
        for x, y, e in zip(at, heights, errors, strict=True):
            axes.annotate(f"{y:.1f}", (x, y + e), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xlim(-0.5, len(dial) - 0.25)  # room for a word
    _chance(axes, summary)
    named = ["ordinary" if d["head_scale"] == 1 else f"{1 / d['head_scale']:.0f} times smaller" for d in dial]
    axes.set_xticks(range(len(dial)), [f"{n}\nfirst head weights" for n in named])
    axes.set_ylim(0, 104)
    axes.set_ylabel("test accuracy, %")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, title="bar ends: ci95", title_fontsize=9,
                alignment="left")  # fmt: skip
    grid(axes)
    return figure


def draw_training(summary: Summary) -> Figure:
    """Accuracy over training: thin for the training tasks, thick with markers for validation."""
    figure, (axes,) = blank(3.1)
    for name, m in summary["methods"].items():
        curve = m.get("curve")
        if not curve:
            continue
        how, title = look(name), label(summary, name)
        scored = [(r["step"], 100 * r["score"]) for r in curve if r.get("score") is not None]
        checked = [(r["step"], 100 * _mean(r["validation"])) for r in curve if r.get("validation") is not None]
        if scored:
            axes.plot(*zip(*scored, strict=True), color=how.colour, alpha=0.4, linewidth=0.9, linestyle=how.line)
        if checked:
            style = {"color": how.colour, "marker": how.marker, "fillstyle": how.fill, "linestyle": how.line}
            axes.plot(*zip(*checked, strict=True), label=f"{title}, validation", **style)  # type: ignore[arg-type]
    axes.plot([], [], color=FAINT, linewidth=0.9, label="thin: training tasks")
    axes.set_xlabel("outer steps")
    axes.set_ylabel("accuracy, %")
    axes.legend(loc="lower right")
    grid(axes)
    return figure


def draw_steps(summary: Summary) -> Figure:
    """Accuracy after each inner step, with a band of ci95."""
    figure, (axes,) = blank(3.1)
    for name, m in summary["methods"].items():
        steps = m.get("steps") or []
        if len(steps) < 2:
            continue
        how, at = look(name), list(range(len(steps)))
        low = [100 * (s["mean"] - s["ci95"]) for s in steps]
        high = [100 * (s["mean"] + s["ci95"]) for s in steps]
        axes.fill_between(at, low, high, color=how.colour, alpha=0.2, linewidth=0)
        text = f"{label(summary, name)} (band: ci95)"
        axes.plot(
            at,
            [100 * s["mean"] for s in steps],
            color=how.colour,
            marker=how.marker,
            fillstyle=how.fill,
            linestyle=how.line,
            label=text,
        )
    _chance(axes, summary)
    trained = summary["data"].get("train_inner_steps")
    if trained:
        axes.axvline(trained, color=FAINT, linestyle="--", linewidth=0.8)
        axes.annotate("as in training", (trained, 0.02), xycoords=("data", "axes fraction"), fontsize=9,
                      rotation=90, ha="right", va="bottom")  # fmt: skip
    axes.set_xlabel("inner steps on the support images")
    axes.set_ylabel("test accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    grid(axes)
    return figure


def draw_freezing(summary: Summary) -> Figure:
    """Accuracy of MAML's model with the first blocks frozen in the inner loop."""
    figure, (axes,) = blank(3.0)
    found, how = summary["freezing"], look("maml")
    mean, ci95 = [100 * f["mean"] for f in found], [100 * f["ci95"] for f in found]
    at = list(range(len(found)))
    axes.axhline(mean[0], color=FAINT, linestyle="--", linewidth=0.9)
    axes.errorbar(at, mean, yerr=ci95, color=how.colour, marker=how.marker, capsize=4, label="MAML's model (bar: ci95)")
    low, high = (
        min(m - c for m, c in zip(mean, ci95, strict=True)),
        max(m + c for m, c in zip(mean, ci95, strict=True)),
    )
    spare = max(20.0 - (high - low), 2.0) / 2  # at least 20 points of height: noise should look like noise
    axes.set_ylim(max(0.0, low - spare), min(100.0, high + spare))
    axes.set_xlim(-0.4, len(found) - 0.6)
    labels = [
        "none" if not f["frozen"] else ("only\n" if i == 1 else "… to\n") + cut(f["frozen"][-1], 10)
        for i, f in enumerate(found)
    ]
    axes.set_xticks(at, labels)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("blocks frozen in the inner loop")
    axes.set_ylabel("test accuracy, %")
    axes.legend(loc="lower left")
    grid(axes)
    return figure


def draw_movement(summary: Summary) -> Figure:
    """Relative distance that each block's weights move in the inner loop."""
    figure, (axes,) = blank(3.0)
    _bars(axes, summary, summary["movement"], "relative", "relative_ci95")
    axes.set_ylabel("distance moved ÷ norm before")
    axes.legend(loc="upper left", title="bar ends: ci95", title_fontsize=9, alignment="left")
    return figure


def draw_similarity(summary: Summary) -> Figure:
    """CKA, and CCA below it, of each block's activations before and after the inner loop."""
    parts = {name: summary[name.lower()] for name in ("CKA", "CCA") if summary.get(name.lower())}
    blocks = list(dict.fromkeys(e["block"] for found in summary["cka"].values() for e in found))
    figure, all_axes = blank(3.2 if len(parts) == 1 else 4.8, rows=len(parts))
    for axes, (name, found) in zip(all_axes, parts.items(), strict=True):
        _bars(axes, summary, found, "mean", "ci95", blocks)
        for at, block in enumerate(blocks):
            if not any(e["block"] == block for entries in found.values() for e in entries):
                axes.annotate("too few\npoints", (at, 0.03), ha="center", va="bottom", fontsize=9)
        axes.set_ylim(0, 1.02)
        axes.set_ylabel(f"{name}, before and after" if len(parts) == 1 else name)
    all_axes[0].legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, title="bar ends: ci95", title_fontsize=9, alignment="left"
    )
    return figure


def draw_early(summary: Summary) -> Figure:
    """Checkpoints along MAML's training: accuracy with nothing and with the body frozen, and the lowest CKA below."""
    found, how = summary["early"], look("maml")
    low = [(e["step"], e["lowest_body_cka"]) for e in found if e.get("lowest_body_cka")]
    steps = [e["step"] for e in found]
    figure, (accuracy, *rest) = blank(4.4 if low else 3.0, rows=2 if low else 1)
    aside = 0.006 * (max(steps) - min(steps))  # so that bars of equal height are both seen
    for e, text, marker, fill, line, by in (
        (found, "nothing frozen (bar: ci95)", how.marker, "full", "-", -aside),
        ([e["body_frozen"] for e in found], "body frozen", "s", "none", "--", aside),
    ):
        accuracy.errorbar([s + by for s in steps], [100 * r["mean"] for r in e], yerr=[100 * r["ci95"] for r in e],
                          color=how.colour, marker=marker, fillstyle=fill, linestyle=line, capsize=4,
                          label=text)  # fmt: skip
    _chance(accuracy, summary)
    accuracy.set_ylim(0, 102)
    accuracy.set_ylabel("test accuracy, %")
    accuracy.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    grid(accuracy)
    for axes in rest:
        axes.errorbar([s for s, _ in low], [e["mean"] for _, e in low], yerr=[e["ci95"] for _, e in low],
                      color=how.colour, marker=how.marker, capsize=4)  # fmt: skip
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("lowest body CKA")
        grid(axes)
    for axes in figure.axes:
        axes.set_xlim(min(steps) - 12 * aside, max(steps) + 12 * aside)
        if len(steps) <= 5:
            axes.set_xticks(steps, [f"{s:,}" for s in steps])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.tick_params(labelbottom=axes is figure.axes[-1])
    figure.axes[-1].set_xlabel("outer steps")
    return figure


def draw_cost(summary: Summary) -> Figure:
    """Time of a training step and of adapting to one episode."""
    cost = summary["cost"]
    titles = {"train": "Training, one outer step", "inference": "Inference, one episode"}
    parts = [(part, what) for part, what in titles.items() if cost.get(f"{part}_ms")]
    rows = [len(cost[f"{k}_ms"]) for k, _ in parts]
    figure = blank_rows(rows)
    for axes, (part, what) in zip(figure.axes, parts, strict=True):
        times: Mapping[str, float] = cost[f"{part}_ms"]
        for i, (name, ms) in enumerate(times.items()):
            how = look(name)
            axes.barh(i, ms, color=how.colour, hatch=how.hatch, edgecolor="#ffffff", height=0.7)
            axes.annotate(milliseconds(ms), (ms, i), xytext=(4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(times)), [label(summary, n) for n in times])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * max(times.values()))
        by = cost.get(f"{part}_ratio")
        axes.set_title(what + (f": ANIL is {ratio(by)} as fast as MAML" if by else ""), loc="left")
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    return figure


def blank_rows(rows: list[int]) -> Figure:
    """A figure with axes one below another, as high as their numbers of bars ask."""
    figure, _ = blank(0.1)
    figure.clear()
    figure.set_figheight(0.3 * sum(rows) + 0.6 * len(rows))
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr]
    figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": rows})
    return figure


def _bars(
    axes: Axes,
    summary: Summary,
    by_method: Mapping[str, Any],
    value: str,
    ci95: str,
    blocks: Sequence[str] = (),
) -> None:
    names = list(blocks) or list(dict.fromkeys(e["block"] for found in by_method.values() for e in found))
    width = 0.8 / len(by_method)
    for i, (method, found) in enumerate(by_method.items()):
        how = look(method)
        at = [names.index(e["block"]) + (i - (len(by_method) - 1) / 2) * width for e in found]
        axes.bar(at, [e[value] for e in found], width * 0.92, yerr=[e[ci95] for e in found], color=how.colour,
                 hatch=how.hatch, edgecolor="#ffffff", linewidth=0, ecolor=INK, capsize=2.5,
                 label=label(summary, method))  # fmt: skip
    axes.set_xticks(range(len(names)), [cut(n, 10) for n in names])
    grid(axes)


def _chance(axes: Axes, summary: Summary) -> None:
    chance = 100 / summary["data"]["way"]
    axes.axhline(chance, color=FAINT, linestyle=":", linewidth=1.2)
    axes.annotate("guessing", (0.99, chance), xycoords=("axes fraction", "data"), xytext=(0, 3), fontsize=9,
                  textcoords="offset points", ha="right")  # fmt: skip


def _mean(validation: float | int | Mapping[str, Any]) -> float:
    return validation["mean"] if isinstance(validation, Mapping) else validation
