"""Meta-trained policies beside baselines without meta-training, on the same tasks with the same noise."""

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from innerloop.core.functional import Blocks
from innerloop.core.statistics import seed_std
from innerloop.rl import build
from innerloop.rl.environment import Environment
from innerloop.rl.meta_test import Returns, meta_test, random_search
from innerloop.studies.result import Drawing, Outcome, Result, Row, Series
from innerloop.studies.rl_lab import RlLab, RlStage, rows_by_step

_RULE = "Mean difference over seeds above its seed_std; within it, or with one seed, no conclusion"
TRAINED: tuple[str, ...] = ("maml", "anil", "multitask", "oracle")
NOTE = (
    "Each step learns from as many trajectories of the task as an inner step of the training; random search takes as "
    "many again to measure the best policy so far. Multitask: one policy for all tasks. Fine-tuned, trained: gradient "
    "steps on all blocks at the inner rate of the training. Random weights, which random search too starts from: the "
    "first ones of the same seeds. The oracle sees the task in its observation."
)


def rl_baselines(lab: RlLab) -> Result:
    """MAML and ANIL beside a policy for all tasks, fine-tuning (of that policy, and from random weights), random
    search, and an oracle that is told the task."""
    rows: list[Row] = []
    claims: list[Outcome] = []
    series: list[Series] = []
    for env in lab.envs:
        ways = _ways(lab, env)
        found = {name: _rows(lab, env, name, get) for name, get in ways.items()}
        for steps in found.values():
            rows += [steps[k] for k in sorted({0, min(1, len(steps) - 1), len(steps) - 1})]
        series += [_line(env, name, steps, max(map(len, found.values()))) for name, steps in found.items()]
        claims += _claims(env, found)
    drawing = Drawing("lines", "inner steps", "return", tuple(series), "ci95 over test tasks")
    return Result(tuple(rows), tuple(claims), drawing, notes=(NOTE,))


def _ways(lab: RlLab, env: Environment) -> dict[str, Callable[[int], Returns]]:
    """The returns of a seed's policy after 0, 1, 2, … steps, by name."""
    return {
        "oracle": lambda seed: lab.returns(env, "oracle", seed),
        "MAML": lambda seed: lab.returns(env, "maml", seed),
        "ANIL": lambda seed: lab.returns(env, "anil", seed),
        "multitask, fine-tuned": lambda seed: _tested(lab, env, "multitask", seed, "all"),
        "random weights, trained": lambda seed: _tested(lab, env, None, seed, "all"),
        "random search": lambda seed: _tested(lab, env, None, seed, None),
    }


def _rows(lab: RlLab, env: Environment, name: str, get: Callable[[int], Returns]) -> list[Row]:
    """After each number of steps; the oracle, which learns nothing, after none."""
    rows = rows_by_step(f"{env.title}: {name}", {seed: get(seed) for seed in lab.seeds})
    return rows[:1] if name == "oracle" else rows


def _line(env: Environment, name: str, steps: list[Row], length: int) -> Series:
    """A line over the steps; the oracle's is level."""
    shown = steps * length if len(steps) == 1 else steps
    errors = [r.ci95 or 0.0 for r in shown]
    return Series(name, [str(k) for k in range(len(shown))], [r.mean for r in shown], errors, panel=env.title)


def _tested(lab: RlLab, env: Environment, method: str | None, seed: int, blocks: Blocks | None) -> Returns:
    """New tasks learned from a run's weights (no method: the first weights of that seed); no blocks: random search."""
    what = method or "random weights"
    lab.report(RlStage(f"test {what} on {env.title}, seed {seed}: {'fine-tune' if blocks else 'search'}", 0, 1))
    run = lab.trained(env, method or "maml", seed)
    slow: Mapping[str, Tensor] = run.slow
    if method is None:
        first = build.policy(run.config, run.environment)
        slow = {n: w.detach() for n, w in first.named_parameters()}
    if blocks is None:
        return random_search(run.policy, slow, run.environment, run.config)
    return meta_test(run.policy, slow, run.environment, run.config, blocks=blocks)


def _claims(env: Environment, found: dict[str, list[Row]]) -> list[Outcome]:
    without = [r for name in ("multitask, fine-tuned", "random weights, trained", "random search") for r in found[name]]
    best = max(without, key=lambda r: r.mean)
    claims = []
    for method in ("MAML", "ANIL"):
        if len(found[method]) < 2:
            continue
        own, oracle = found[method][1], found["oracle"][0]
        claims += [
            Outcome(
                f"One step of {method} is worth more than any baseline's steps ({env.title})",
                f"best baseline: {best.label.split(': ')[1]}. {_RULE}",
                *_larger(own, best),
            ),
            Outcome(
                f"Being told the task is worth more than one step of {method} ({env.title})",
                f"the oracle against one step. {_RULE}",
                *_larger(oracle, own),
            ),
        ]
    return claims


def _larger(first: Row, second: Row) -> tuple[bool | None, str]:
    """Whether the first is larger by more than the seeds' disagreement, and the numbers."""
    gaps = [a.mean - b.mean for a, b in zip(first.values, second.values, strict=True)]
    text = f"{first.mean:.2f} against {second.mean:.2f}"
    if len(gaps) < 2:
        return None, text
    gap, spread = math.fsum(gaps) / len(gaps), seed_std(gaps)
    return (gap > 0 if abs(gap) > spread else None), f"{text}; difference {gap:+.2f}, its seed_std {spread:.2f}"
