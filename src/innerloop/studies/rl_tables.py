"""Meta-reinforcement learning: MAML against ANIL, and whether the policy's body changes when it adapts."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from innerloop.analysis.cka import linear_cka
from innerloop.analysis.movement import movement
from innerloop.analysis.similarity import similarity
from innerloop.core.episodes import Episodes
from innerloop.core.functional import block_names
from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes, seed_std
from innerloop.rl import build
from innerloop.rl.environment import Environment
from innerloop.rl.methods import method as find
from innerloop.rl.sampling import examples, sample
from innerloop.studies import claims
from innerloop.studies.inside import cca_if_enough
from innerloop.studies.result import Drawing, Outcome, Result, Row, SeedValue, Series, bars_of, seed_value
from innerloop.studies.rl_lab import RlLab, RlStage, TrainedPolicy, rows_by_step, value_after

BOTH: tuple[str, ...] = ("maml", "anil")
FEATURES = (
    "Movement and similarity: one inner step from trajectories of the policy before it; relative movement is the "
    "distance over the norm of the block's weights; CKA and CCA compare each block's outputs on those states before "
    "and after, over test tasks."
)


def table2_rl(lab: RlLab) -> Result:
    """The return on new tasks after one inner step; beside it after none, two and three."""
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    for env in lab.envs:
        own = [_returns_rows(lab, env, method) for method in BOTH]
        rows += [r for steps in own for r in steps]
        outcomes.append(_as_good(lab, env))
    curves = Drawing(
        "lines",
        "meta-iteration",
        "return on validation tasks",
        tuple(_curve(lab, env, method) for env in lab.envs for method in BOTH),
        "seed_std" if len(lab.seeds) > 1 else "",
    )
    return Result(
        tuple(rows),
        tuple(outcomes),
        curves,
        "table 2",
        (
            "ours: undiscounted return on test tasks that no training has drawn, the same for all runs. Environment "
            "versions, horizon and protocol of the paper are not printed there: compare the pattern, not the level.",
        ),
    )


def rl_features(lab: RlLab) -> Result:
    """The paper's question for the policies that MAML trains: what freezing their blocks costs, how far each moves in
    one inner step, and how much its output changes on the same states; and for ANIL's, whose bodies stay."""
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    series: list[Series] = []
    for env in lab.envs:
        for method in BOTH:
            frozen, changed, said = features(lab, env, method)
            rows += [*frozen, *changed]
            outcomes += said
            if frozen:
                names = block_names(lab.trained(env, method, lab.seeds[0]).policy)
                labels = ["none", names[0], *(f"to {n}" for n in names[1:])]
                series.append(replace(bars_of(method.upper(), labels, frozen), panel=env.title))
    drawing = Drawing(
        "bars", "blocks frozen at test time", "return after one inner step", tuple(series), "ci95 over test tasks"
    )
    return Result(tuple(rows), tuple(outcomes), drawing, notes=(FEATURES,))


def features(lab: RlLab, env: Environment, method: str) -> tuple[list[Row], list[Row], list[Outcome]]:
    """Rows of freezing (where all blocks adapt) and of change, and what they say."""
    names = block_names(lab.trained(env, method, lab.seeds[0]).policy)
    moved, alike = _changes(lab, env, method)
    changed = [*moved.values(), *alike["CKA"].values(), *alike["CCA"].values()]
    blocks = find(method).blocks
    if blocks == "head":
        return [], changed, [_body_stays(env, method, names[:-1], moved, alike["CKA"])]
    if blocks != "all":
        return [], changed, []
    frozen = [_frozen_row(lab, env, method, names[i:]) for i in range(len(names) + 1)]
    return frozen, changed, _feature_claims(lab, env, method, frozen, moved, alike)


def _returns_rows(lab: RlLab, env: Environment, method: str) -> list[Row]:
    """After 0, 1, 2, … steps; the paper's number and the time of training beside the first step."""
    found = {s: lab.returns(env, method, s) for s in lab.seeds}
    seconds = [lab.folder(env, method, s).summary["seconds"] for s in lab.seeds]
    minutes = {"training (min)": math.fsum(seconds) / len(seconds) / 60}
    rows = rows_by_step(f"{env.title}, {method.upper()}", found)
    return [
        replace(r, paper=env.published.get(method, ""), measured=minutes) if k == 1 else r for k, r in enumerate(rows)
    ]


def _as_good(lab: RlLab, env: Environment) -> Outcome:
    """Table 2's, whose ± is over seeds."""
    after = {m: {s: lab.returns(env, m, s).values[1] for s in lab.seeds} for m in BOTH}
    means = {m: [float(v.mean()) for v in of.values()] for m, of in after.items()}
    gaps = [value_of(s, after["anil"][s] - after["maml"][s]) for s in lab.seeds]
    spread = seed_std(means["maml"]) if len(lab.seeds) > 1 else math.nan
    text = "{:.2f} against {:.2f}".format(*(math.fsum(means[m]) / len(lab.seeds) for m in ("anil", "maml")))
    gap = claims.range_of(gaps)
    return Outcome(
        f"ANIL does as well as MAML on {env.title}",
        "ANIL − MAML on the same tasks ≥ −(MAML's seed_std)",
        claims.at_least(gap, -spread),
        f"{text}, {claims.said(gap, 'return')}" + ("" if math.isnan(spread) else f", seed_std {spread:.2f}"),
        (env.name,) if env.published else (),
    )


def _curve(lab: RlLab, env: Environment, method: str) -> Series:
    seen: dict[int, list[float]] = {}
    for s in lab.seeds:
        for row in lab.folder(env, method, s).metrics:
            if "validation" in row:
                seen.setdefault(row["step"], []).append(row["validation"])
    whole = {step: v for step, v in sorted(seen.items()) if len(v) == len(lab.seeds)}
    error = [seed_std(v) for v in whole.values()] if len(lab.seeds) > 1 else None
    means = [math.fsum(v) / len(v) for v in whole.values()]
    return Series(method.upper(), list(whole), means, error, panel=env.title)


def _frozen_row(lab: RlLab, env: Environment, method: str, adapting: tuple[str, ...]) -> Row:
    values = tuple(value_after(lab.returns(env, method, s, adapting), s, 1) for s in lab.seeds)
    return Row(f"{env.title}: {' '.join(adapting) or 'nothing'} adapts", "return", values)


def _changes(lab: RlLab, env: Environment, method: str) -> tuple[dict[str, Row], dict[str, dict[str, Row]]]:
    """Rows of relative movement, and of each similarity, by block."""
    moved: dict[str, list[SeedValue]] = {}
    alike: dict[str, dict[str, list[SeedValue]]] = {"CKA": {}, "CCA": {}}
    for seed in lab.seeds:
        run = lab.trained(env, method, seed)
        lab.report(RlStage(f"change of each block, {method} on {env.title}, seed {seed}", 0, 1))
        learner = build.learner(run.config, run.policy)
        slow = {**run.slow, **{f"rate:{n}": r for n, r in (learner.rates or {}).items()}}
        tasks = list(states(run))
        for m in movement(run.policy, slow, tasks, learner.one_step, loss=learner.loss):
            moved.setdefault(m.block, []).append(seed_value(seed, m.relative))
        found = similarity(
            run.policy,
            slow,
            tasks,
            learner.one_step,
            measures={"CKA": linear_cka, "CCA": cca_if_enough},
            loss=learner.loss,
        )
        for measure, blocks in found.items():
            for block, estimate in blocks.items():
                if estimate is not None:
                    alike[measure].setdefault(block, []).append(seed_value(seed, estimate))
    name = env.title + (f", {method.upper()}" if method != "maml" else "")
    return (
        {b: Row(f"{name}: movement of {b}", "relative", tuple(v)) for b, v in moved.items()},
        {
            m: {b: Row(f"{name}: {m} of {b}", "similarity", tuple(v)) for b, v in blocks.items()}
            for m, blocks in alike.items()
        },
    )


@torch.no_grad()
def states(run: TrainedPolicy) -> Iterator[Episodes]:
    """Each test task as an episode: what the inner step learns from, and as query set the states that were met (those
    behind an end left out)."""
    test = run.config.test
    tasks = run.environment.sample_tasks(test.tasks, generator_for(test.seed, "tasks"))
    kind = next(iter(run.slow.values())).dtype
    found = sample(
        run.policy,
        run.slow,
        {},
        run.environment,
        tasks.to(kind),
        test.rollouts,
        generator_for(test.seed, "rollouts", 0),
        action_scale=run.config.action_scale,
    )
    data = examples(build.learner(run.config, run.policy), run.slow, {}, found, run.config)
    for t in range(len(tasks)):
        one = slice(t, t + 1)
        met = data.weight[t] > 0
        yield Episodes(data.x[one], data.y[one], data.x[one, met], data.y[one, met])


def value_of(seed: int, tasks: Tensor) -> SeedValue:
    """The mean of one number per task, with its ci95."""
    e = over_episodes(tasks)
    return SeedValue(seed, e.mean, e.ci95, e.episodes)


def _feature_claims(
    lab: RlLab,
    env: Environment,
    method: str,
    frozen: list[Row],
    moved: dict[str, Row],
    alike: dict[str, dict[str, Row]],
) -> list[Outcome]:
    name, (*body, _) = env.title, moved
    names = tuple(moved)

    def returns(seed: int, blocks: tuple[str, ...]) -> Tensor:
        return lab.returns(env, method, seed, blocks).values[1]

    gains, kept = [], []
    for seed in lab.seeds:
        whole, head, nothing = (returns(seed, b) for b in (names, names[-1:], ()))
        gains.append(value_of(seed, whole - nothing))
        kept.append(value_of(seed, (head - nothing) - 0.9 * (whole - nothing)))
    means = [frozen[i].mean - frozen[-1].mean for i in (0, len(body))]
    holds = claims.at_least(claims.range_of(kept), 0.0) if claims.range_of(gains).low > 0 else None
    return [
        Outcome(
            f"The body need not adapt ({name})",
            "on the same tasks, the head alone keeps at least 90 % of what one inner step of all blocks gains",
            holds,
            "all blocks {:+.2f}, the head alone {:+.2f}".format(*means),
        ),
        claims.body_alike("CKA", {b: claims.range_of(alike["CKA"][b]) for b in body if b in alike["CKA"]}, of=name,
                          data=()),
        claims.head_moves_most({b: claims.range_of(r) for b, r in moved.items()}, data=(), of=name),
    ]  # fmt: skip


def _body_stays(
    env: Environment, method: str, body: tuple[str, ...], moved: dict[str, Row], cka: dict[str, Row]
) -> Outcome:
    far = max(v.mean for b in body for v in moved[b].values)
    alike = [v.mean for b in body if b in cka for v in cka[b].values]
    return Outcome(
        f"{method.upper()}'s body is the same before and after ({env.title})",
        "movement of every body block exactly 0, its CKA at least 1 − 1e-6",
        far == 0 and min(alike, default=1.0) >= 1 - 1e-6,
        f"largest movement {far:g}" + (f", lowest CKA {min(alike):.6f}" if alike else ""),
    )
