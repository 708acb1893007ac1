"""`innerloop analyse`: rapid learning or feature reuse, for one trained run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.evaluate import of_images
from innerloop.cli.help import Help
from innerloop.cli.reproduce import print_result
from innerloop.report.reproduction import write_reproduction
from innerloop.studies import ANALYSIS, Stage, analyse

HELP = Help(
    "Analyse a trained run: what freezing blocks costs at test time, how much the inner loop changes each block's "
    "weights and representation (CCA, CKA), and what other heads reach. Results go to RUN/analysis.",
    (
        "innerloop analyse runs/quick-maml-seed0",
        "innerloop analyse runs/quick-maml-seed0 --episodes 100    # faster, with wider intervals",
        "innerloop analyse runs/quick-maml-seed0 --which last      # another checkpoint",
    ),
)


INSTEAD = {
    "rl": "analyse it with 'innerloop rl analyse {run}'",
    "dagan": "see what it makes with 'innerloop dagan --samples-only --out {run}'",
}
"""for runs of other commands"""


@dataclass(frozen=True)
class AnalyseArgs:
    """Options of `innerloop analyse`."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """the run folder"""
    which: str = "best"
    """which checkpoint: best, last, or stepN if training kept it"""
    episodes: int | None = None
    """number of test episodes (default: as the run was tested)"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""
    device: str | None = None
    """auto, cpu, cuda (default: as trained)"""


def run(args: Sequence[str]) -> int:
    """Analyse and print."""
    asked = options.parse(AnalyseArgs, args, "analyse", text=HELP)
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
