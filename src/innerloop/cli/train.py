"""`innerloop train`: one method, one run folder."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.evaluate import EvaluateArgs, evaluate_run, print_evaluation
from innerloop.cli.help import Help
from innerloop.core.ranks import Ranks, joined
from innerloop.methods.catalogue import method
from innerloop.training import PRESETS, Config, Progress, train

HELP = Help(
    "Train a few-shot method into a run folder, keep the checkpoint that is best on validation classes, and test it "
    "on unseen classes. --preset decides the defaults of all other options.",
    (
        "innerloop train --preset quick                       # MAML on glyphs; no download",
        "innerloop train --preset quick --method anil         # another method on the same data",
        "innerloop train --preset omniglot-5way-1shot-cpu --dry-run  # what it would do, and how long",
        "innerloop train --data folder --folder.root photos --shot 5  # your own images, photos/CLASS/IMAGE",
    ),
    main=(
        *("--preset", "--data", "--method", "--way", "--shot", "--seed", "--outer.steps", "--inner.steps"),
        *("--inner.lr", "--out", "--data-dir", "--resume", "--dry-run", "--tensorboard", "--device", "--threads"),
    ),
    more=options.preset_list(PRESETS),
)


@dataclass(frozen=True)
class TrainArgs:
    """Options of `innerloop train`."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str = "glyphs-5way-1shot"
    """decides the defaults of all other options; listed below"""
    out: Path | None = None
    """the run folder (default: runs/PRESET-METHOD-seedN; TASK-like-PRESET where data, way or shot differ)"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""
    resume: bool = False
    """continue the unfinished run in --out; if there is none, start a new one and say so"""
    tensorboard: bool = False
    """also write TensorBoard event files (extra `tensorboard`)"""
    dry_run: bool = False
    """print what would be trained and about how long that takes on this machine; write nothing"""


def run(args: Sequence[str]) -> int:
    """Train and test."""
    args = options.whole_names(args)
    name, config = options.starting_config(args, "glyphs-5way-1shot")
    asked = options.parse(TrainArgs, args, "train", default=TrainArgs(config, preset=name), text=HELP)
    out = asked.out or Path("runs") / (
        f"{options.start_of(asked.preset, asked.config)}-{method(asked.config.method).name}-seed{asked.config.seed}"
    )
    plan = planned(asked.config, out)
    with joined() as ranks:
        if asked.dry_run:
            seconds = estimated_seconds(asked.config, asked.data_dir, ranks)
            if ranks.first:
                show.console.print(f"{plan}; about {show.clock(seconds)} on this machine")
            return 0
        if ranks.first:
            options.check_out(out, resume=asked.resume)
            show.console.print(f"{plan}; Ctrl-C stops, --resume continues")
        with show.progress() as bar:
            folder = train(
                asked.config,
                out,
                data_dir=asked.data_dir,
                resume=asked.resume,
                tensorboard=asked.tensorboard,
                report=lambda p: bar(f"train {asked.config.method}", p.step, p.steps, detail(p, asked.config), p.first),
            )
        if ranks.first:
            finished = folder.summary_with("best_step")
            show.console.print(
                f"trained {finished['steps']} steps in {finished['seconds']:.0f} s; "
                f"best on validation at step {finished['best_step']}"
            )
        row = evaluate_run(EvaluateArgs(folder.path, data_dir=asked.data_dir), ranks)
        if ranks.first:
            print_evaluation(folder.path, row)
    return 0


def planned(config: Config, out: Path) -> str:
    """What a training will do, in one line."""
    tasks = "" if config.regression else f", {config.way}-way {config.shot}-shot"
    return (
        f"{method(config.method).name.upper()} on {config.dataset.name}{tasks}: {config.outer.steps:,} outer steps of "
        f"{config.outer.meta_batch} tasks, then {config.test.episodes:,} test episodes, into {out}"
    )


def estimated_seconds(config: Config, data_dir: Path | None, ranks: Ranks) -> float:
    """How long the training with its test may take: three steps and a validation are timed, in a temporary folder.

    Only the first process knows; the others give 0.
    """
    few = replace(
        config,
        outer=replace(config.outer, steps=4),
        validation=replace(config.validation, every=4, keep_every=0),
    )
    at: list[float] = []
    with TemporaryDirectory() as own:
        folder = Path(ranks.from_first(lambda: own))
        train(few, folder / "run", data_dir=data_dir, report=lambda _: at.append(time.perf_counter()))
    if not ranks.first:
        return 0.0
    step = min(at[1] - at[0], at[2] - at[1])
    validation = max(0.0, at[3] - at[2] - step)
    often = math.ceil(config.outer.steps / config.validation.every)
    test = config.test.episodes / config.validation.episodes
    return config.outer.steps * step + (often + test) * validation


def detail(p: Progress, config: Config) -> str:
    """Loss and score of a step as text."""
    loss, score = p.numbers["loss"], p.numbers["score"]
    if config.regression:
        return f"mse {loss:.3f}" + ("" if p.validation is None else f"  val {p.validation:.3f}")
    val = "" if p.validation is None else f"  val {100 * p.validation:.1f} %"
    return f"loss {loss:.3f}  acc {100 * score:.1f} %{val}"
