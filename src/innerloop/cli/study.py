"""`innerloop study`: the main job."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from innerloop.cli import options, show
from innerloop.cli.train import detail
from innerloop.errors import InnerloopError
from innerloop.report import ReportError, answer, tables, write_report
from innerloop.runs import RunError, read_json
from innerloop.studies import Stage, study
from innerloop.training import Config, Interrupted

ABOUT = f"""Did MAML learn rapidly, or did it reuse features? Train MAML and ANIL from the same start on the same
episodes, and MAML once more with 20 times smaller first weights of its head; test them and NIL, freeze the body, look
at how the inner loop changes weights and representations, and write report.html.

Without options: glyphs (letters of many scripts, drawn on this machine, no download), 5-way 1-shot, a few minutes
on two CPU cores. `--data omniglot` does it on the real Omniglot.

{options.PRESET_HELP}"""


@dataclass(frozen=True)
class StudyArgs:
    """Options of `innerloop study`."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str = "quick"
    """where the defaults come from"""
    out: Path | None = None
    """the folder of the study; by default runs/study-PRESET-DATA-seedN"""
    data_dir: Path | None = None
    """where the archives lie (default: INNERLOOP_DATA, else the user's data folder)"""
    resume: bool = False
    """go on with the unfinished study in --out; where there is none, a new one starts and a line says so"""
    jobs: int = 0
    """trainings at once, each on its share of the cores; 0: one a core, but one on a GPU or with --threads"""


def run(args: Sequence[str]) -> int:
    """Run the study, print its tables, write its page."""
    name, config = options.starting_config(args, "quick")
    asked = options.parse(StudyArgs, args, "study", default=StudyArgs(config, preset=name), about=ABOUT)
    config = asked.config
    if config.method != "maml":
        raise InnerloopError(
            "the study trains both maml and anil: leave --method out (one method alone: innerloop train)"
        )
    out = asked.out or Path("runs") / f"study-{asked.preset}-{config.data}-seed{config.seed}"
    options.check_out(out, resume=asked.resume)
    if (out / "summary.json").exists() and not (out / "report.html").exists():  # only the page is missing
        return finish(out)
    with show.progress() as bar:

        def report(stage: Stage) -> None:
            said = detail(stage.training, config) if stage.training else ""
            bar(stage.title, stage.done, stage.total, said, stage.training.first if stage.training else 0)

        try:
            study(
                config,
                out,
                preset=asked.preset,
                data_dir=asked.data_dir,
                resume=asked.resume,
                jobs=asked.jobs,
                report=report,
            )
        except Interrupted as stopped:  # it names the run inside; what goes on is the study
            raise Interrupted(out, stopped.step) from None
    return finish(out)


def finish(out: Path) -> int:
    """Write the page and print the tables."""
    try:
        page = write_report(out)
    except ReportError as error:
        raise RunError(str(error)) from None
    summary = read_json(out / "summary.json")
    for title, header, rows, note in tables(summary):
        show.table(title, header, rows, note)
    show.console.print(Text(f"\n{answer(summary)}", style="bold"))
    show.console.print(f"Look at {page.resolve()}  (numbers: {out / 'summary.json'})")
    return 0
