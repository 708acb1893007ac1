"""`innerloop sweep`: many trainings over any options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.cli.reproduce import print_result
from innerloop.errors import InnerloopError
from innerloop.report.reproduction import write_reproduction
from innerloop.studies.fan_out import Launcher
from innerloop.studies.sweep import combinations, sweep
from innerloop.training import PRESETS, Config

HELP = Help(
    "Train over a grid of any options, or random draws of them, and compare the runs on validation classes. It takes "
    "all options of `innerloop train`. The same command continues a sweep that was stopped. No test episode is used: "
    "test the best run with `innerloop evaluate RUN`.",
    (
        "innerloop sweep --vary inner.lr=0.1,0.2,0.4 --vary method=maml,anil --seeds 0 1 --jobs 2",
        "innerloop sweep --preset omniglot-5way-1shot-cpu --vary inner.lr=0.01..1 --draws 27 --halving 3",
        "innerloop sweep --vary seed=0,1,2,3 --launcher slurm --option slurm_partition=gpu --option timeout_min=240",
    ),
    main=(
        *(
            "--vary",
            "--draws",
            "--halving",
            "--seeds",
            "--jobs",
            "--launcher",
            "--option",
            "--preset",
            "--data",
            "--method",
        ),
        *("--outer.steps", "--out", "--data-dir"),
    ),
    more=options.preset_list(PRESETS),
)


@dataclass(frozen=True)
class SweepArgs:
    """Options of `innerloop sweep`."""

    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)
    vary: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """OPTION=VALUE,VALUE,… or, with --draws, OPTION=LOW..HIGH; may be repeated"""
    draws: int = 0
    """number of random draws instead of the whole grid"""
    halving: int = 0
    """successive halving: stop early, and let one training in so many continue from look to look; 0: train all"""
    seeds: tuple[int, ...] = ()
    """seeds of each training (default: --seed)"""
    jobs: int = 1
    """number of trainings that run at once, each on one thread"""
    launcher: Launcher = "local"
    """local: processes on this machine; slurm: one job per training (extra `slurm`); ray: one task per training (extra
    `ray`)"""
    option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=VALUE for the launcher: a parameter of submitit's AutoExecutor or of ray.init; may be repeated"""
    preset: str = "quick"
    """decides the defaults of all other options; listed below"""
    out: Path = Path("runs/sweep")
    """the folder of the runs and the result"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""


def run(args: Sequence[str]) -> int:
    """Sweep, and print the table."""
    asked = parsed(args)
    options.check_out(asked.out)
    if len(set(asked.seeds)) != len(asked.seeds):
        raise InnerloopError(f"seeds must differ, got {' '.join(map(str, asked.seeds))}")
    launch = options.of_launcher(asked.option)
    configs = []
    for values in combinations(asked.vary, asked.draws, asked.config.seed):
        if {"seed", "seeds"} & set(values) and asked.seeds:
            raise InnerloopError("give --seeds, or --vary seed=…, and not both")
        configs.append((values, parsed([*args, *(a for n, v in values.items() for a in flag(n, v))]).config))
    with show.progress() as bar:
        sweep(
            configs,
            asked.seeds,
            asked.out,
            halving=asked.halving,
            data_dir=asked.data_dir,
            jobs=asked.jobs,
            launcher=asked.launcher,
            options=launch,
            report=lambda done, runs, step, steps: bar(f"{runs} trainings", step, steps, f"{done} finished"),
        )
    write_reproduction(asked.out)
    print_result(asked.out)
    return 0


def flag(option: str, value: str) -> list[str]:
    """One varied option as `innerloop train` takes it; true and false turn a switch on and off."""
    if value in ("true", "false"):
        before, dot, last = option.rpartition(".")
        return [f"--{before}{dot}{'' if value == 'true' else 'no-'}{last}"]
    return [f"--{option}", value]


def parsed(args: Sequence[str]) -> SweepArgs:
    """The options, their defaults those of the preset and the method that they name."""
    args = options.whole_names(args)
    name, config = options.starting_config(args, "quick")
    return options.parse(SweepArgs, args, "sweep", default=SweepArgs(config, preset=name), text=HELP)
