"""`innerloop analyse`: rapid learning or feature reuse, for one trained run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.evaluate import of_images
from innerloop.cli.reproduce import print_result
from innerloop.report.reproduction import write_reproduction
from innerloop.studies import ANALYSIS, Stage, analyse

ABOUT = """Look into a trained run: what freezing blocks costs at test, how much the inner loop changes each block's
weights and representation (CCA, CKA), and what other heads are worth. Written to RUN/analysis."""


INSTEAD = {
    "rl": "look into it with 'innerloop rl analyse {run}'",
    "dagan": "see what it makes with 'innerloop dagan --samples-only --out {run}'",
}
"""for runs of other commands"""


@dataclass(frozen=True)
class AnalyseArgs:
    """Options of `innerloop analyse`."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """the run folder"""
    which: str = "best"
    """which checkpoint: best, last, or stepN where training kept it"""
    episodes: int | None = None
    """test episodes (default: as the run was tested)"""
    data_dir: Path | None = None
    """where the archives lie"""
    device: str | None = None
    """auto, cpu, cuda"""


def run(args: Sequence[str]) -> int:
    """Analyse and print."""
    asked = options.parse(AnalyseArgs, args, "analyse", about=ABOUT)
    of_images(asked.run, INSTEAD)
    with show.progress() as bar:

        def report(stage: Stage) -> None:
            bar(stage.title, stage.done, stage.total)

        analyse(
            asked.run,
            which=asked.which,
            episodes=asked.episodes,
            data_dir=asked.data_dir,
            device=asked.device,
            report=report,
        )
    write_reproduction(asked.run / ANALYSIS)
    print_result(asked.run / ANALYSIS)
    return 0
