"""`innerloop study`: the main job."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.cli.train import detail
from innerloop.errors import InnerloopError
from innerloop.report import ReportError, answer, read_summary, tables, write_report
from innerloop.runs import RunError
from innerloop.studies import Stage, study
from innerloop.studies.fan_out import Launcher
from innerloop.studies.study_seeds import study_seeds
from innerloop.training import PRESETS, Config, Interrupted

HELP = Help(
    "Rapid learning or feature reuse? Train MAML and ANIL from the same start on the same episodes, and MAML again "
    "with a 20 times smaller initial head; test them and NIL, freeze the body, measure how the inner loop changes "
    "weights and representations, and write report.html. Without options: on glyphs (characters rendered on this "
    "machine, no download), about 5 minutes on two CPU cores.",
    (
        "innerloop study",
        "innerloop study --data omniglot                # the same on Omniglot",
        "innerloop study --preset glyphs-5way-1shot     # longer training: 10,000 steps",
        "innerloop study --seeds 0 1 2 --jobs 8         # three seeds: each claim's number with its seed_std",
    ),
    main=(
        *("--preset", "--data", "--way", "--shot", "--seed", "--seeds", "--outer.steps", "--test.episodes"),
        *("--out", "--data-dir", "--resume", "--jobs", "--device", "--threads"),
    ),
    hidden=(
        *("--method", "--train-way", "--metric.", "--model.head-scale"),
        *("--inner.proximal", "--inner.solve-steps", "--inner.anneal-steps", "--test.temperature"),
    ),
    more=options.preset_list(PRESETS),
)


@dataclass(frozen=True)
class StudyArgs:
    """Options of `innerloop study`."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    preset: str = "quick"
    """decides the defaults of all other options; listed below"""
    out: Path | None = None
    """the folder of the study (default: runs/study-PRESET-DATA-seedN; study-TASK-like-PRESET-seedN where data, way or
    shot differ)"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""
    resume: bool = False
    """continue the unfinished study in --out; if there is none, start a new one and say so"""
    seeds: tuple[int, ...] = ()
    """several seeds: a study of each in --out/seedN, and the claims over all of them (default: --seed)"""
    jobs: int = 0
    """trainings at once, each on its share of the cores; 0: three, or one a core, but one on a single core, a GPU or
    with --threads"""
    launcher: Launcher = "local"
    """where the trainings run, as in `innerloop sweep`; what is measured is measured here"""
    option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE for the launcher, as in `innerloop sweep`; may be repeated"""


def run(args: Sequence[str]) -> int:
    """Run the study, print its tables, write its page."""
    name, config = options.starting_config(args, "quick")
    asked = options.parse(StudyArgs, args, "study", default=StudyArgs(config, preset=name), text=HELP)
    config = asked.config
    if config.method != "maml":
        raise InnerloopError(
            "the study trains both maml and anil: leave --method out (one method alone: innerloop train)"
        )
    seeds = asked.seeds or (config.seed,)
    if asked.seeds and options.value_of(args, "--seed"):
        raise InnerloopError("give --seed or --seeds, and not both")
    config = replace(config, seed=seeds[0])
    many = f"s{'-'.join(map(str, seeds))}" if len(seeds) > 1 else config.seed
    start = options.start_of(asked.preset, config)
    of = f"{start}-{config.data}" if start == asked.preset else start
    out = asked.out or Path("runs") / f"study-{of}-seed{many}"
    options.check_out(out, resume=asked.resume)
    if (out / "summary.json").exists() and not (out / "report.html").exists():  # only the page is missing
        return finish(out)
    with show.progress() as bar:

        def report(stage: Stage) -> None:
            said = detail(stage.training, config) if stage.training else ""
            bar(stage.title, stage.done, stage.total, said, stage.training.first if stage.training else 0)

        try:
            (partial(study_seeds, config, seeds) if len(seeds) > 1 else partial(study, config))(
                out,
                preset=asked.preset,
                data_dir=asked.data_dir,
                resume=asked.resume,
                jobs=asked.jobs,
                launcher=asked.launcher,
                options=options.of_launcher(asked.option),
                report=report,
            )
        except Interrupted as stopped:  # it names one run; --resume continues the study
            raise Interrupted(out, stopped.step) from None
    return finish(out)


def finish(out: Path) -> int:
    """Write the page and print the tables."""
    try:
        summary = read_summary(out)
        for seed in summary.get("over_seeds", {}).get("seeds", ()):
            write_report(out / f"seed{seed}")
        page = write_report(out)
    except ReportError as error:
        raise RunError(str(error)) from None
    for title, header, rows, note in tables(summary):
        show.table(title, header, rows, note)
    show.console.print(Text(f"\n{answer(summary)}", style="bold"))
    show.console.print(f"Look at {page.resolve()}  (numbers: {out / 'summary.json'})")
    return 0
