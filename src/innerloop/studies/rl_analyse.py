"""One meta-RL run analysed: what its inner step does to each block, and what freezing blocks at test time costs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from innerloop.errors import InnerloopError
from innerloop.rl.catalogue import find
from innerloop.rl.config import Config
from innerloop.rl.environment import Environment
from innerloop.runs import RunError, RunFolder, write_json
from innerloop.studies.analyse import WHERE
from innerloop.studies.result import Drawing, Result, bars_of
from innerloop.studies.rl_lab import RlLab, RlStage
from innerloop.studies.rl_tables import FEATURES, features


@dataclass
class OneRun(RlLab):
    """A run folder as a lab: its own configuration, nothing is trained."""

    path: Path = Path()

    def config(self, env: Environment, method: str, seed: int) -> Config:  # noqa: ARG002
        """The run's own."""
        return RunFolder(self.path).config_as(Config.from_json)

    def train(self, env: Environment, method: str, seed: int) -> RunFolder:  # noqa: ARG002
        """The run as it is."""
        return RunFolder(self.path)


def analyse_policy(
    path: Path,
    *,
    which: str = "best",
    threads: int = 0,
    env: Environment | None = None,
    report: Callable[[RlStage], None] = lambda _: None,
) -> dict[str, Any]:
    """Look into the run folder `path` and write RUN/analysis/result.json, which is returned as a value.

    `env` takes the place of the environment that the run names.

    Raises ValueError for a run without an inner loop.
    """
    began = time.perf_counter()
    config = RunFolder(path).config_as(Config.from_json)
    env, method = env or find(config.env), config.method
    step = RunFolder(path).step(which)
    if not config.adapts:
        raise InnerloopError(
            f"{path} was trained with {method}, which has no inner loop to analyse; 'innerloop rl evaluate {path} "
            "--adapt all' fine-tunes it"
        )
    lab = OneRun((env,), "cpu", path, seeds=(config.seed,), threads=threads, which=which, report=report, path=path)
    frozen, changed, outcomes = features(lab, env, method)
    alike = [r for r in changed if ": CKA of " in r.label]
    names = [r.label.split(": CKA of ")[1] for r in alike]
    drawing = Drawing(
        "bars", "", "CKA before / after", (bars_of(method.upper(), names, alike),), "ci95 over test tasks"
    )
    if RunFolder(path).step(which) != step:
        raise RunError(f"{path} is being trained, and its {which} checkpoint was replaced meanwhile; try again")
    value = lab.described(
        Result((*frozen, *changed), tuple(outcomes), drawing, notes=(FEATURES,)),
        name=WHERE,
        title=f"{method.upper()} on {env.title}",
        where=f"run {path.name}, {which} checkpoint: meta-iteration {step:,} of {config.iterations:,}",
        seconds=time.perf_counter() - began,
    )
    value |= {"settings": lab.said(env), "budget": "", "seeds": [config.seed], "step": step}
    write_json(path / WHERE / "result.json", value)
    return value
