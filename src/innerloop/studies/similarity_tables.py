"""Table 3, figure 2, appendices B.4 and D.2: how alike representations are."""

import math
from itertools import combinations

from torch import nn

from innerloop.analysis import between, linear_cka, mean_cca, similarity
from innerloop.core.functional import block_names, split_model
from innerloop.core.inner import with_steps
from innerloop.core.statistics import Estimate
from innerloop.errors import InnerloopError
from innerloop.studies import claims
from innerloop.studies.accuracy_tables import REGIMES, SHORT
from innerloop.studies.inside import CUT, measures, similarity_claims
from innerloop.studies.lab import Lab, Trained
from innerloop.studies.published import TABLE3
from innerloop.studies.result import Drawing, Outcome, Result, Row, SeedValue, Series, printed
from innerloop.studies.stage import MOVEMENT_EPISODES, Stage
from innerloop.studies.table import Found, Table

MEASURES = {"CCA": mean_cca, "CKA": linear_cka}
SEEDS_NEEDED = 2


def before_and_after(lab: Lab, run: Trained) -> dict[str, dict[str, Estimate]]:
    """Similarity of each block's output before and after the run's inner loop, on the same query images: measure ->
    block -> mean and ci95; blocks that are constant left out."""
    found = similarity(
        run.model,
        run.parameters,
        lab.episodes(MOVEMENT_EPISODES),
        with_steps(run.config.inner_loop, lab.settings.inner_steps),
        measures=measures(),
        statistics=lab.settings.statistics,
        task_chunk=lab.chunk,
    )
    return {m: {b: e for b, e in blocks.items() if e is not None} for m, blocks in found.items()}


def _figure2(lab: Lab, seed: int) -> dict[str, Estimate]:
    lab.report(Stage("similarity before and after", lab.seeds.index(seed), len(lab.seeds)))
    alike = before_and_after(lab, lab.trained("maml", seed))
    return {f"{block}, {name}": e for name, blocks in alike.items() for block, e in blocks.items()}


def _figure2_claims(found: Found) -> list[Outcome]:
    alike = {
        name: {r.split(",")[0]: found.range(r) for r in found.rows if r.endswith(f", {name}")} for name in measures()
    }
    return similarity_claims(alike, "head")  # of the networks of a lab


FIGURE_2 = Table(
    "figure2",
    "Similarity before and after the inner loop",
    _figure2,
    claims=(_figure2_claims,),
    where="figure 2",
    unit="similarity",
    paper=lambda _: {
        f"{block}, {measure}": text
        for measure, body, head in (("CCA", "", ""), (CUT, "> 0.9", "< 0.5"), ("CKA", "like CCA", ""))
        for block, text in [*((f"conv{i}", body) for i in (1, 2, 3, 4)), ("head", head)]
    },
    paper_column="mini-ImageNet 5-way",
    y="similarity before / after",
    grouped=True,
    notes=(
        "Convolutions: every pixel of every query image is a data point, every channel a neuron. The paper's values "
        f"can only be read from bars: body above 0.9, head below 0.5. {CUT}: the mean over the leading correlations "
        "that make up 98 % of their sum, as the code that the paper cites takes it; CCA: over all of them.",
    ),
    trains=("maml",),
    in_all=True,
)


def table3(lab: Lab) -> Result:
    """Bodies of two MAMLs, of two ANILs, and of a MAML and an ANIL of different seeds, on the same query images."""
    _two_seeds(lab)
    pairs: dict[str, list[tuple[tuple[str, int], tuple[str, int]]]] = {
        "MAML – MAML": [(("maml", a), ("maml", b)) for a, b in combinations(lab.seeds, 2)],
        "ANIL – ANIL": [(("anil", a), ("anil", b)) for a, b in combinations(lab.seeds, 2)],
        "MAML – ANIL": [(("maml", a), ("anil", b)) for a in lab.seeds for b in lab.seeds if a != b],
    }
    rows: list[Row] = []
    own: dict[tuple[str, str], Row] = {}
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
            own[title, name] = row
    outcomes = [
        claims.models_alike(
            m,
            claims.range_of(own["MAML – ANIL", m]),
            [claims.range_of(own[t, m]) for t in ("MAML – MAML", "ANIL – ANIL")],
        )
        for m in MEASURES
    ]
    drawing = Drawing(
        "bars",
        "",
        "similarity, mean over the body",
        tuple(
            Series(n, list(pairs), [own[t, n].mean for t in pairs], paper=[printed(TABLE3[t][i]) for t in pairs])
            for i, n in enumerate(MEASURES)
        ),
    )
    notes = ("Un-adapted models; each value is the mean over the body's blocks; seed_std is over pairs of seeds.",)
    return Result(tuple(rows), tuple(outcomes), drawing, "mini-ImageNet", notes)


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
            series[measure][name] = row
    outcomes = [claims.regimes_alike(m, {n: claims.range_of(r) for n, r in v.items()}) for m, v in series.items()]
    drawing = Drawing(
        "bars",
        f"body trained by, seed {', '.join(map(str, others))}",
        f"similarity to MAML, seed {first}",
        tuple(Series(m, [SHORT[n] for n in v], [r.mean for r in v.values()]) for m, v in series.items()),
    )
    notes = (
        "Un-adapted models at their last checkpoints, mean over the body's blocks. The paper's ordering (MAML highest, "
        "random lowest) is known to us second-hand, without numbers.",
    )
    return Result(tuple(rows), tuple(outcomes), drawing, "", notes)


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
    rows, outcomes, series = [], [], []
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
        outcomes.append(claims.seeds_unchanged(m, slope, intercept, r2, len(x)))
    drawing = Drawing("points", "similarity of two seeds, both un-adapted", "the same with adapted weights",
                      tuple(series), diagonal=True)  # fmt: skip
    notes = (
        f"Seeds {a} and {b}, the blocks of the body, {min(MOVEMENT_EPISODES, lab.settings.episodes)} test episodes. "
        "What the paper's appendix says is known to us from memory only.",
    )
    return Result(tuple(rows), tuple(outcomes), drawing, "", notes)


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
