"""Table 3, figure 2, appendices B.4 and D.2: how alike representations are."""

import math
from itertools import combinations

from torch import nn

from innerloop.analysis import between, linear_cka, mean_cca, similarity
from innerloop.core.functional import block_names, split_model
from innerloop.core.inner import with_steps
from innerloop.core.statistics import Estimate
from innerloop.errors import InnerloopError
from innerloop.studies.lab import Lab, Trained, seed_value
from innerloop.studies.paper import TABLE3
from innerloop.studies.regimes import REGIMES, SHORT
from innerloop.studies.result import Claim, Drawing, Result, Row, SeedValue, Series, at_least, at_most, printed
from innerloop.studies.study import MOVEMENT_EPISODES, Stage

MEASURES = {"CCA": mean_cca, "CKA": linear_cka}
SEEDS_NEEDED = 2


def figure2(lab: Lab) -> Result:
    """CCA and CKA of each block's output before and after MAML's inner loop, on the same query images."""
    found: dict[str, dict[str, list[SeedValue]]] = {m: {} for m in MEASURES}
    for i, seed in enumerate(lab.seeds):
        lab.report(Stage("similarity before and after", i, len(lab.seeds)))
        run = lab.trained("maml", seed)
        inner = with_steps(run.config.inner_loop, lab.settings.inner_steps)
        alike = similarity(
            run.model,
            run.parameters,
            lab.episodes(MOVEMENT_EPISODES),
            inner,
            measures=MEASURES,
            statistics=lab.settings.statistics,
            task_chunk=lab.chunk,
        )
        for name, blocks in alike.items():
            for block, e in blocks.items():
                if e is not None:
                    found[name].setdefault(block, []).append(seed_value(seed, e))
    rows = [
        Row(f"{block}, {name}", "similarity", tuple(values), _figure2_paper(block, name))
        for name, blocks in found.items()
        for block, values in blocks.items()
    ]
    claims = []
    for name in MEASURES:
        mean = {r.label.split(",")[0]: r.mean for r in rows if r.label.endswith(f", {name}")}
        body = [v for b, v in mean.items() if b != "head"]
        claims.append(
            Claim(
                f"The inner loop leaves the body's representation alike ({name})",
                f"{name} of every body block ≥ 0.9",
                at_least(body, 0.9),
                ", ".join(f"{b} {v:.3f}" for b, v in mean.items() if b != "head"),
            )
        )
        claims.append(
            Claim(
                f"It changes the head's most ({name})",
                f"{name} of the head at most that of every body block",
                at_most([mean.get("head", math.nan) - min(body, default=math.nan)], 0.0),
                f"head {mean.get('head', math.nan):.3f}, lowest of the body {min(body, default=math.nan):.3f}",
            )
        )
    series = [
        Series(
            name,
            list(found[name]),
            [Row(b, "similarity", tuple(v)).mean for b, v in found[name].items()],
            [Row(b, "similarity", tuple(v)).ci95 or 0.0 for b, v in found[name].items()],
        )
        for name in MEASURES
    ]
    drawing = Drawing("bars", "", "similarity before / after", tuple(series), "ci95 over test episodes")
    notes = (
        "Convolutions: every pixel of every query image is a data point, every channel a neuron. The paper's values "
        "can only be read from bars: body above 0.9, head below 0.5.",
    )
    return Result(tuple(rows), tuple(claims), drawing, "mini-ImageNet 5-way", notes)


def _figure2_paper(block: str, measure: str) -> str:
    if measure == "CCA":
        return "< 0.5" if block == "head" else "> 0.9"
    return "" if block == "head" else "like CCA"


def table3(lab: Lab) -> Result:
    """Bodies of two MAMLs, of two ANILs, and of a MAML and an ANIL of different seeds, on the same query images."""
    _two_seeds(lab)
    pairs: dict[str, list[tuple[tuple[str, int], tuple[str, int]]]] = {
        "MAML – MAML": [(("maml", a), ("maml", b)) for a, b in combinations(lab.seeds, 2)],
        "ANIL – ANIL": [(("anil", a), ("anil", b)) for a, b in combinations(lab.seeds, 2)],
        "MAML – ANIL": [(("maml", a), ("anil", b)) for a in lab.seeds for b in lab.seeds if a != b],
    }
    rows: list[Row] = []
    mean: dict[tuple[str, str], float] = {}
    done, total = 0, sum(len(p) for p in pairs.values())
    for title, of in pairs.items():
        values: dict[str, list[SeedValue]] = {m: [] for m in MEASURES}
        for (a, s), (b, t) in of:
            lab.report(Stage("similarity between models", done, total))
            done += 1
            for name, e in _bodies(lab, lab.trained(a, s), lab.trained(b, t)).items():
                values[name].append(SeedValue(s, e.mean, e.ci95, e.episodes))
        for i, name in enumerate(MEASURES):
            pairs_of = ", ".join(f"{s}–{t}" for (_, s), (_, t) in of)
            row = Row(f"{title}, {name}", "similarity", tuple(values[name]), TABLE3[title][i], f"seeds {pairs_of}")
            rows.append(row)
            mean[title, name] = row.mean
    claims = []
    for name in MEASURES:
        within = [mean[t, name] for t in ("MAML – MAML", "ANIL – ANIL")]
        cross = mean["MAML – ANIL", name]
        claims.append(
            Claim(
                f"A MAML and an ANIL are as alike as two MAMLs or two ANILs ({name})",
                f"{name} of the cross pairs within the range of the two others, or outside by at most 0.02",
                min(within) - 0.02 <= cross <= max(within) + 0.02,
                f"{cross:.3f} against {within[0]:.3f} and {within[1]:.3f}",
            )
        )
    drawing = Drawing(
        "bars",
        "",
        "similarity, mean over the body",
        tuple(
            Series(n, list(pairs), [mean[t, n] for t in pairs], paper=[printed(TABLE3[t][i]) for t in pairs])
            for i, n in enumerate(MEASURES)
        ),
    )
    notes = ("Un-adapted models; each value is the mean over the body's blocks; seed_std is over pairs of seeds.",)
    return Result(tuple(rows), tuple(claims), drawing, "mini-ImageNet", notes)


def regime_similarity(lab: Lab) -> Result:
    """Appendix D.2: each regime's body against MAML's of another seed."""
    _two_seeds(lab)
    first, others = lab.seeds[0], lab.seeds[1:]
    rows, series = [], {m: {} for m in MEASURES}
    for i, (name, title) in enumerate(REGIMES.items()):
        lab.report(Stage("similarity between regimes", i, len(REGIMES)))
        values: dict[str, list[SeedValue]] = {m: [] for m in MEASURES}
        for seed in others:
            maml, other = lab.trained("maml", first, "last"), lab.trained(name, seed, "last")
            for measure, e in _bodies(lab, maml, other).items():
                values[measure].append(SeedValue(seed, e.mean, e.ci95, e.episodes))
        for measure in MEASURES:
            pairs_of = ", ".join(f"{first}–{s}" for s in others)
            row = Row(f"MAML – {title}, {measure}", "similarity", tuple(values[measure]), "", f"seeds {pairs_of}")
            rows.append(row)
            series[measure][name] = row.mean
    claims = [
        Claim(
            f"MAML's body is most like another MAML's or an ANIL's, and least like an untrained one ({m})",
            "max over MAML and ANIL is the highest of all regimes, random the lowest",
            max(v, key=v.__getitem__) in ("maml", "anil") and min(v, key=v.__getitem__) == "random",
            ", ".join(f"{n} {x:.2f}" for n, x in v.items()),
        )
        for m, v in series.items()
    ]
    drawing = Drawing(
        "bars",
        f"body trained by, seed {', '.join(map(str, others))}",
        f"similarity to MAML, seed {first}",
        tuple(Series(m, [SHORT[n] for n in v], list(v.values())) for m, v in series.items()),
    )
    notes = (
        "Un-adapted models at their last checkpoints, mean over the body's blocks. The paper's ordering (MAML highest, "
        "random lowest) is known to us second-hand, without numbers.",
    )
    return Result(tuple(rows), tuple(claims), drawing, "", notes)


def seeds_regression(lab: Lab) -> Result:
    """Appendix B.4: does adaptation change how alike two seeds are? CCA(pre, pre) against the pairs with a post."""
    _two_seeds(lab)
    a, b = lab.seeds[:2]
    one, two = lab.trained("maml", a), lab.trained("maml", b)
    inner = with_steps(one.config.inner_loop, lab.settings.inner_steps)
    kinds = {
        "pre, pre": (None, None),
        "pre, post": (None, inner),
        "post, pre": (inner, None),
        "post, post": (inner, inner),
    }
    alike: dict[str, dict[str, dict[str, Estimate | None]]] = {}
    for i, (kind, (first, second)) in enumerate(kinds.items()):
        lab.report(Stage("similarity between seeds", i, len(kinds)))
        alike[kind] = between(
            (one.model, one.parameters, first),
            (two.model, two.parameters, second),
            lab.episodes(MOVEMENT_EPISODES),
            measures=MEASURES,
            statistics=lab.settings.statistics,
            task_chunk=lab.chunk,
        )
    body = block_names(one.model)[:-1]
    rows, claims, series = [], [], []
    for m in MEASURES:
        x, y = [], []
        for kind in list(kinds)[1:]:
            points = [(alike["pre, pre"][m][k], alike[kind][m][k]) for k in body]
            xs = [p.mean for p, q in points if p and q]
            ys = [q.mean for p, q in points if p and q]
            series.append(Series(f"{m}, {kind}", xs, ys))
            x, y = x + xs, y + ys
        slope, intercept, r2 = line(x, y)
        if not math.isnan(r2):
            pair = f"seeds {a} and {b}"
            rows += [
                Row(f"slope of the fitted line, {m}", "ratio", (SeedValue(a, slope),), "close to 1", pair),
                Row(f"R² of the fitted line, {m}", "ratio", (SeedValue(a, r2),), "close to 1", pair),
            ]
        claims.append(
            Claim(
                f"Adaptation does not change how alike two seeds are ({m})",
                "R² > 0.9 and 0.9 < slope < 1.1",
                None if math.isnan(r2) else r2 > 0.9 and 0.9 < slope < 1.1,
                f"slope {slope:.3f}, intercept {intercept:+.3f}, R² {r2:.3f}, {len(x)} points",
            )
        )
    drawing = Drawing("points", "similarity of two seeds, both un-adapted", "the same with adapted weights",
                      tuple(series), diagonal=True)  # fmt: skip
    notes = (
        f"Seeds {a} and {b}, the blocks of the body, {min(MOVEMENT_EPISODES, lab.settings.episodes)} test episodes. "
        "What the paper's appendix says is known to us from memory only.",
    )
    return Result(tuple(rows), tuple(claims), drawing, "", notes)


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line through the points; NaN where x does not vary."""
    n = len(x)
    if n < 2:
        return math.nan, math.nan, math.nan
    mx, my = math.fsum(x) / n, math.fsum(y) / n
    sxx = math.fsum((v - mx) ** 2 for v in x)
    syy = math.fsum((v - my) ** 2 for v in y)
    sxy = math.fsum((u - mx) * (v - my) for u, v in zip(x, y, strict=True))
    if sxx == 0 or syy == 0:
        return math.nan, math.nan, math.nan
    slope = sxy / sxx
    return slope, my - slope * mx, sxy**2 / (sxx * syy)


def _bodies(lab: Lab, one: Trained, two: Trained) -> dict[str, Estimate]:
    """Mean over the body's blocks of the similarity of two un-adapted models."""
    found = between(
        (_body(one.model), one.parameters),  # without the heads: a multiclass one has too many neurons to compare
        (_body(two.model), two.parameters),
        lab.episodes(MOVEMENT_EPISODES),
        measures=MEASURES,
        statistics=lab.settings.statistics,
        task_chunk=lab.chunk,
    )
    out = {}
    for name, blocks in found.items():
        seen = [e for e in blocks.values() if e is not None]
        if not seen:
            raise InnerloopError(f"every block of {one.name} or {two.name} is constant over the test images")
        n = len(seen)
        # blocks of one episode are not independent: the intervals are averaged, not shrunk by their number
        out[name] = Estimate(math.fsum(e.mean for e in seen) / n, math.fsum(e.ci95 for e in seen) / n, seen[0].episodes)
    return out


def _body(model: nn.Sequential) -> nn.Sequential:
    return split_model(model, block_names(model)[-1:])[0]


def _two_seeds(lab: Lab) -> None:
    if len(lab.seeds) < SEEDS_NEEDED:
        raise InnerloopError(
            f"similarity between seeds needs {SEEDS_NEEDED} or more seeds, got {len(lab.seeds)}: give --seeds 0 1"
        )
