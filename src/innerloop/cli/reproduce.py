"""`innerloop reproduce`: the paper's tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.cli.train import detail
from innerloop.errors import InnerloopError
from innerloop.methods.catalogue import method
from innerloop.report.formats import NONE
from innerloop.report.reproduction import HEADER, claim_rows, header, notes, rows, write_reproduction
from innerloop.rl.catalogue import ENVIRONMENTS, find
from innerloop.runs.files import read_object
from innerloop.studies import (
    TABLES,
    TRAINING_MINUTES,
    Budget,
    Lab,
    RlLab,
    Stage,
    Table,
    default_seeds,
    find_table,
    finished,
    place,
    reproduce,
)
from innerloop.training import Interrupted

_NAMES = "\n".join(f"  {e.name:<20}{e.title} ({e.where})" for e in TABLES)

HELP = Help(
    "Reproduce a table or figure of Raghu et al. 2020: the published number beside ours, with error bars, and whether "
    "the paper's claim holds. Missing runs are trained, unfinished ones continued; tables share runs.",
    (
        "innerloop reproduce --list                        # what each needs, and how long it trains",
        "innerloop reproduce table2 --budget smoke         # seconds, to see that it runs",
        "innerloop reproduce table1 --data omniglot        # freezing blocks at test time",
        "innerloop reproduce families --methods maml proto my_methods:mine  # your own method beside ours",
    ),
    more=f"""names
{_NAMES}
  all                 the tables and figures of the paper that are about images
  module:attribute    a table of your own, an innerloop.Table""",
)


@dataclass(frozen=True)
class ReproduceArgs:
    """Options of `innerloop reproduce`."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """a name below, all, or module:attribute for a table of your own"""
    data: str = "glyphs"
    """data set: a name of `innerloop data list`, or module:attribute for one of your own"""
    budget: Budget = "cpu"
    """smoke: seconds, to see that it runs; cpu: all names in about three hours on two cores; paper: 30,000 steps"""
    way: int = 5
    """classes per episode"""
    shot: int = 1
    """support images per class"""
    methods: tuple[str, ...] = ()
    """families: which methods, module:attribute for one of your own (default: all of ours)"""
    env: tuple[str, ...] = tuple(e.name for e in ENVIRONMENTS if e.published)
    """table2-rl, rl-features and rl-baselines: the environments, ours or module:attribute of your own (data, way and
    shot are for the others)"""
    seeds: tuple[int, ...] = ()
    """seeds of the trainings (default: 0 1; with budget paper, and for policies, 0 1 2)"""
    out: Path = Path("runs/reproduce")
    """where runs and results go"""
    jobs: int = 1
    """number of runs that train at once, each on one thread"""
    again: bool = False
    """recompute existing results (runs are kept)"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""
    list: bool = False
    """list all names with what they need, and do nothing"""


def run(args: Sequence[str]) -> int:
    """Reproduce and print."""
    asked = options.parse(ReproduceArgs, args, "reproduce", text=HELP)
    if asked.list:
        print_list()
        return 0
    if not asked.name:
        raise InnerloopError("which table or figure? Give its NAME, or all; 'innerloop reproduce --list' shows them")
    tables = [t for t in TABLES if t.in_all] if asked.name == "all" else [find_table(asked.name)]
    if asked.way < 2:
        raise InnerloopError(f"way must be 2 or more to tell classes apart, got {asked.way}")
    options.check_out(asked.out)
    if len(set(asked.seeds)) != len(asked.seeds):
        raise InnerloopError(f"seeds must differ, got {' '.join(map(str, asked.seeds))}")
    if tables[0].rl:
        run_rl(asked, tables)
        return 0
    if asked.methods and tables[0].name != "families":
        raise InnerloopError(f"--methods is for families; it has no effect on {asked.name}")
    for name in asked.methods:
        method(name)
    if asked.env != ReproduceArgs().env:
        raise InnerloopError(f"{asked.name} is about images: --env has no effect on it")
    with show.progress() as bar:

        def report(stage: Stage) -> None:
            p = stage.training
            bar(stage.title, stage.done, stage.total, detail(p, config) if p else "", p.first if p else 0)

        lab = Lab(
            asked.data,
            asked.budget,
            asked.out,
            way=asked.way,
            shot=asked.shot,
            seeds=asked.seeds or default_seeds(asked.budget),
            data_dir=asked.data_dir,
            threads=asked.threads,
            device=asked.device,
            methods=asked.methods,
            report=report,
        )
        config = lab.config("maml", lab.seeds[0])
        if len(lab.seeds) < 2 and (pairs := [t.name for t in tables if t.two_seeds]):
            raise InnerloopError(f"{', '.join(pairs)}: similarity between seeds needs 2 or more; give --seeds 0 1")
        if asked.jobs != 1:
            missing = [t for t in tables if asked.again or finished(t, lab) is None]
            lab.train_together((n for t in missing for n in asked.methods or t.trains), asked.jobs)
        make(asked, tables, lab)
    return 0


def run_rl(asked: ReproduceArgs, tables: Sequence[Table]) -> None:
    """Those of reinforcement learning, which have environments instead of data, way and shot."""
    images = ("data", "way", "shot", "data_dir", "device", "methods")
    if given := [n for n in images if getattr(asked, n) != getattr(ReproduceArgs(), n)]:
        raise InnerloopError(
            f"{asked.name} is about environments (--env): --{given[0].replace('_', '-')} has no effect on it"
        )
    if not asked.env or len(set(asked.env)) != len(asked.env):
        raise InnerloopError(f"give one environment or more, each once, got {' '.join(asked.env) or 'none'}")
    envs = tuple(map(find, asked.env))
    with show.progress() as bar:
        lab = RlLab(
            envs,
            asked.budget,
            asked.out,
            seeds=asked.seeds or (0, 1, 2),
            threads=asked.threads,
            report=lambda stage: bar(stage.title, stage.done, stage.total, stage.detail, stage.first),
        )
        if asked.jobs != 1:
            missing = [t for t in tables if asked.again or finished(t, lab) is None]
            lab.train_together([m for t in missing for m in t.trains], asked.jobs)
        make(asked, tables, lab)


def make(asked: ReproduceArgs, tables: Sequence[Table], lab: Lab | RlLab) -> None:
    """Make each result that is not there yet, and print it."""
    for table in tables:
        try:
            if asked.again or finished(table, lab) is None:
                reproduce(table, lab)
        except Interrupted as stopped:
            raise Interrupted(asked.out, stopped.step, "the same command") from None
        write_reproduction(place(lab, table))
        print_result(place(lab, table))


def print_result(folder: Path) -> None:
    """The table and the claims of one result."""
    value = read_object(folder / "result.json")
    columns = list(zip(header(value), *rows(value), strict=True))
    wide = len(columns) > len(HEADER)  # the files have them all; a terminal has 80 columns
    kept = [c for c in columns if set(c[1:]) != {NONE} and not (wide and c[0] in ("models", "episodes", "tasks"))]
    lines = list(zip(*kept, strict=True))
    show.table(f"{value['title']} ({value['where']})", lines[0], lines[1:], " ".join(notes(value)))
    if value["claims"]:
        show.table(
            "claims",
            ("claim", "outcome", "evidence"),
            [(c[0], c[3], c[4]) for c in claim_rows(value)],
            words=True,
        )
    show.console.print(f"{folder / 'table.md'}, table.csv, result.json, figure.png, figure.svg\n")


def _minutes(e: Table) -> int:
    """How long its runs train, those that were not measured taken to be as long as MAML's."""
    return sum(TRAINING_MINUTES.get(m, TRAINING_MINUTES["maml"]) for m in e.trains)


def print_list() -> None:
    """All names with what they need."""
    lines = [
        (
            e.name,
            f"{e.title} ({e.where})",
            ", ".join(e.trains),
            NONE if e.rl else f"{_minutes(e)} min",
        )
        for e in TABLES
    ]
    show.table(
        "innerloop reproduce NAME",
        ("name", "what", "runs it needs", "a seed"),
        lines,
        "A seed: how long the runs train with budget cpu. Names share runs: each is trained once. The work beside it "
        "takes up to four minutes a name. "
        "Budget smoke: seconds. Budget paper: a GPU or a night. table2-rl, rl-features and rl-baselines train "
        "policies in the environments of --env: on a core of its own a run takes minutes (points in the plane) to "
        "half an hour (MuJoCo).",
        words=True,
    )
