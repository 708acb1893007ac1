"""`innerloop train`: one method, one run folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.evaluate import evaluate_run, print_evaluation
from innerloop.core.ranks import joined
from innerloop.methods.catalogue import method
from innerloop.training import Config, Progress, train

ABOUT = f"""Train a few-shot method into a run folder, keep the checkpoint that is best on held-out classes, test it.

--preset chooses the defaults of all other options; the values shown below are those of the preset asked for.

{options.PRESET_HELP}"""


@dataclass(frozen=True)
class TrainArgs:
    """Options of `innerloop train`."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str = "glyphs-5way-1shot"
    """where the defaults come from"""
    out: Path | None = None
    """the run folder; by default runs/PRESET-METHOD-seedN"""
    data_dir: Path | None = None
    """where the archives lie (default: INNERLOOP_DATA, else the user's data folder)"""
    resume: bool = False
    """go on with the unfinished run in --out; where there is none, a new one starts and a line says so"""
    tensorboard: bool = False
    """write TensorBoard event files too (needs the extra `tensorboard`)"""


def run(args: Sequence[str]) -> int:
    """Train and test."""
    args = options.whole_names(args)
    name, config = options.starting_config(args, "glyphs-5way-1shot")
    asked = options.parse(TrainArgs, args, "train", default=TrainArgs(config, preset=name), about=ABOUT)
    out = asked.out or Path("runs") / f"{asked.preset}-{method(asked.config.method).name}-seed{asked.config.seed}"
    with joined() as ranks:
        if ranks.first:
            options.check_out(out, resume=asked.resume)
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
        row = evaluate_run(folder.path, data_dir=asked.data_dir, ranks=ranks)
        if ranks.first:
            print_evaluation(folder.path, row)
    return 0


def detail(p: Progress, config: Config) -> str:
    """Loss and score of a step in words."""
    loss, score = p.numbers["loss"], p.numbers["score"]
    if config.regression:
        return f"mse {loss:.3f}" + ("" if p.validation is None else f"  val {p.validation:.3f}")
    val = "" if p.validation is None else f"  val {100 * p.validation:.1f} %"
    return f"loss {loss:.3f}  acc {100 * score:.1f} %{val}"
