"""What the reproductions of meta-reinforcement learning share: policies that are trained once, and their meta-tests."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from innerloop.core.functional import Blocks
from innerloop.core.statistics import over_episodes
from innerloop.rl import build
from innerloop.rl.config import Config, MetaTest, Policy, Validation
from innerloop.rl.environment import Environment, Simulator
from innerloop.rl.meta_test import Returns, meta_test
from innerloop.rl.presets import own_settings, preset
from innerloop.rl.train import Progress, load_run
from innerloop.runs import RunFolder
from innerloop.studies.budget import Budget
from innerloop.studies.fan_out import Training, finished_run, train_together
from innerloop.studies.result import Result, Row, SeedValue, made_by
from innerloop.studies.stage import Stage


def rl_budget_config(env: Environment, budget: Budget, method: str, seed: int) -> Config:
    """The training at that budget. smoke: two tiny iterations; cpu: the environment's own settings; paper: the preset
    ENV-2019, the protocol whose returns fit the paper's table."""
    config = preset(f"{env.name}-2019", method) if budget == "paper" else own_settings(env, method)
    if budget == "smoke":
        config = replace(
            config,
            horizon=8,
            policy=Policy(hidden=(6, 6)),
            iterations=2,
            meta_batch=2,
            rollouts=3,
            trpo=replace(config.trpo, curvature_rollouts=0),
            validation=Validation(every=1, tasks=2),
            test=MetaTest(tasks=4, rollouts=3, steps=2),
            threads=1,
        )
    return replace(config, seed=seed)


@dataclass(frozen=True)
class RlStage(Stage):
    """What a study is doing, and in a training the returns so far."""

    detail: str = ""
    first: int = 0
    """meta-iteration that this process began at"""


@dataclass(frozen=True)
class TrainedPolicy:
    """A finished run."""

    config: Config
    policy: nn.Sequential
    slow: dict[str, Tensor]
    environment: Simulator
    folder: RunFolder


@dataclass
class RlLab:
    """The runs and test tasks of some environments and one budget."""

    envs: tuple[Environment, ...]
    budget: Budget
    out: Path
    """the folder under which runs/ lies"""
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int = 0
    which: str = "best"
    """checkpoint: best or last"""
    report: Callable[[RlStage], None] = lambda _: None
    _returns: dict[tuple[Any, ...], Returns] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """the names of the run folders that were asked for"""

    @property
    def title(self) -> str:
        """What a folder of its results is called."""
        return f"rl-{'-'.join(e.name for e in self.envs)}-{self.budget}"

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that a result depends on."""
        return {e.name: replace(self.config(e, "maml", 0), threads=0).to_json() for e in self.envs}

    def config(self, env: Environment, method: str, seed: int) -> Config:
        """The configuration of one run."""
        config = rl_budget_config(env, self.budget, method, seed)
        return replace(config, threads=self.threads or config.threads)

    def folder(self, env: Environment, method: str, seed: int) -> RunFolder:
        """Where a run lies."""
        return RunFolder(self.out / "runs" / f"{env.name}-{self.budget}-{method}-seed{seed}")

    def train(self, env: Environment, method: str, seed: int) -> RunFolder:
        """The finished run: used if there, continued if started, trained if not."""
        for e in self.envs:
            _ = build.simulator(self.config(e, method, seed), e).observation_size  # a package may lack
        config, folder = self.config(env, method, seed), self.folder(env, method, seed)
        self.asked.add(folder.path.name)

        def show(p: Progress) -> None:
            returns = f"return {p.numbers['return_before']:.1f} → {p.numbers['return_after']:.1f}"
            title = f"train {method} on {env.title}, seed {seed}"
            self.report(RlStage(title, p.step, p.steps, detail=returns, first=p.first))

        return finished_run(Training(config, folder.path), show, env=env)

    def train_together(self, methods: Iterable[str], jobs: int) -> None:
        """Train these methods in every environment with every seed, `jobs` at once in processes of one thread; what is
        there is used. The environments are found by their names."""
        wanted = [
            Training(self.config(e, m, s), self.folder(e, m, s).path)
            for e in self.envs
            for m in dict.fromkeys(methods)
            for s in self.seeds
        ]
        title = f"train {len(wanted)} policies, {jobs} at once"
        train_together(
            wanted, jobs=jobs, report=lambda _finished, _runs, done, steps: self.report(RlStage(title, done, steps))
        )

    def trained(self, env: Environment, method: str, seed: int) -> TrainedPolicy:
        """A run's checkpoint, trained if need be."""
        folder = self.train(env, method, seed)
        config, policy, simulator = load_run(folder.path, self.which, threads=self.threads, env=env)
        slow = {n: w.detach() for n, w in policy.named_parameters()}
        return TrainedPolicy(config, policy, slow, simulator, folder)

    def returns(self, env: Environment, method: str, seed: int, blocks: Blocks | None = None) -> Returns:
        """What the test tasks return after 0, 1, 2, … inner steps: the same tasks and noise for every run. With
        `blocks` just these adapt, for one step."""
        key = (env, method, seed, blocks)
        self.asked.add(self.folder(env, method, seed).path.name)
        if key not in self._returns:
            run = self.trained(env, method, seed)
            how = f"{' '.join(blocks) or 'nothing'} adapt" if isinstance(blocks, tuple) else method
            self.report(RlStage(f"test {method} on {env.title}, seed {seed}: {how}", 0, 1))
            settings = run.config.test if blocks is None else replace(run.config.test, steps=1)
            self._returns[key] = meta_test(
                run.policy, run.slow, run.environment, run.config, settings=settings, blocks=blocks
            )
        return self._returns[key]

    def described(self, result: Result, *, name: str, title: str, where: str, seconds: float) -> dict[str, Any]:
        """The result as written to result.json."""
        return {
            "name": name,
            "title": title,
            "where": where,
            **made_by(seconds),
            "settings": "; ".join(self.said(e) for e in self.envs)
            + f"; budget {self.budget}, seeds {', '.join(map(str, self.seeds))}",
            "over": "test tasks",
            "config": self.identity,
            **result.to_json(),
        }

    def said(self, env: Environment) -> str:
        """What is run in one environment."""
        c = self.config(env, "maml", 0)
        return (
            f"{env.title}: {c.iterations:,} meta-iterations of {c.meta_batch} tasks × {c.rollouts} trajectories "
            f"before and after {c.inner.steps} inner step{'' if c.inner.steps == 1 else 's'} at rate {c.inner.lr:g}, "
            f"horizon {c.horizon}, tested on {c.test.tasks} tasks × {c.test.rollouts} trajectories"
        )


def rows_by_step(title: str, returns: Mapping[int, Returns]) -> list[Row]:
    """A row after each number of inner steps, from each seed's returns."""
    return [
        Row(
            f"{title}, {step} step{'' if step == 1 else 's'}",
            "return",
            tuple(value_after(r, s, step) for s, r in returns.items()),
        )
        for step in range(min(len(r.values) for r in returns.values()))
    ]


def value_after(returns: Returns, seed: int, step: int) -> SeedValue:
    """The return after `step` inner steps, over the test tasks."""
    found = over_episodes(returns.values[step])
    return SeedValue(seed, found.mean, found.ci95, found.episodes)
