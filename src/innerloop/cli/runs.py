"""`innerloop runs list | compare | delete`."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.core.statistics import paired_difference
from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder
from innerloop.training import Config

HELP = Help(
    "List the runs in a folder, compare their test results, delete run folders.",
    (
        "innerloop runs list                     # the runs below runs/",
        "innerloop runs compare runs/quick-maml-seed0 runs/quick-anil-seed0  # paired difference with ci95",
        "innerloop runs delete runs/quick-anil-seed0",
    ),
    more="""usage: innerloop runs list [FOLDER]
       innerloop runs compare RUN RUN ...
       innerloop runs delete RUN ...

actions
  list      the runs in FOLDER (default: runs) and below: method, data, steps, validation, test
  compare   test accuracies, and their differences to the first run on the same episodes
  delete    remove run folders; nothing else is removed, and no run that is being trained""",
)

ACTIONS = ("list", "compare", "delete")


@dataclass(frozen=True)
class RunsArgs:
    """Options of an action."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = ()
    """run folders; for list, one folder that holds some"""


def run(args: Sequence[str]) -> int:
    """List, compare or delete."""
    action, rest = options.action_of("runs", args, HELP, ACTIONS), args[1:]
    if isinstance(action, int):
        return action
    paths = options.parse(RunsArgs, rest, f"runs {action}", text=HELP).paths
    if action == "list":
        if len(paths) > 1:
            raise InnerloopError(f"runs list takes one folder, got {len(paths)}")
        return show_list(*paths or [Path("runs")])
    for path in paths:
        options.check_run(path)
    if action == "delete":
        if not paths:
            raise InnerloopError("which runs? Give their folders; 'innerloop runs list' shows them")
        return delete(paths)
    if len(set(paths)) != len(paths) or len(paths) < 2:
        raise InnerloopError(f"runs compare takes two different run folders or more, got {len(set(paths))}")
    return show_comparison(paths)


def found_in(folder: Path) -> Iterator[RunFolder]:
    """The run folders in `folder` and below, in the order of their names."""
    for file in sorted(folder.rglob("config.json")):
        run = RunFolder(file.parent)
        if (run.path / "env.json").exists():
            yield run


def show_list(folder: Path) -> int:
    """One line a run."""
    if not folder.is_dir():
        raise InnerloopError(f"there is no folder {folder}; give the one that holds your runs")
    rows = [line(run, folder) for run in found_in(folder)]
    if not rows:
        print(f"{folder} holds no runs")
        return 0
    show.table(f"runs in {folder}", ("run", "what", "steps", "validation", "test"), rows)
    return 0


def line(run: RunFolder, folder: Path) -> tuple[str, ...]:
    """Name, what is trained, steps, validation and test of a run; a dash for what is not there or cannot be read."""
    name = str(run.path.relative_to(folder)) if run.path != folder else run.path.name
    try:
        c = run.config
        env = c.get("env")
        of = {**c, "env": env.get("name") if isinstance(env, dict) else env}
        what = " ".join(str(of[k]) for k in ("kind", "method", "data", "env") if of.get(k))
        if "way" in c:
            what += f" {c['way']}-way {c.get('shot')}-shot"
        if run.finished:
            summary = run.summary
            steps, best = f"{summary['steps']:,}", summary.get("best_validation")
        else:
            rows = run.metrics
            last = rows[-1] if rows else {}
            steps, best = f"{last.get('step', 0):,}, unfinished", last.get("validation")
        test = _test(run)
        tested = f"{_number(test)} ± {test['ci95'] * _scale(test):.2f}" if test else "–"
        accuracy = not {"kind", "env"} & set(c) and not Config.from_json(c).regression
        scale = 100 if accuracy else 1
        return name, what, steps, "–" if best is None else f"{scale * best:.2f}", tested
    except (InnerloopError, KeyError, TypeError) as error:
        return name, f"cannot be read: {error}", "–", "–", "–"


def _scale(test: Mapping[str, Any]) -> int:
    return 100 if test.get("metric") == "accuracy" else 1


def _number(test: Mapping[str, Any]) -> str:
    return f"{_scale(test) * test['mean']:.2f}"


def show_comparison(paths: Sequence[Path]) -> int:
    """The test of each run as it was trained, and the paired difference to the first run's."""
    tests = [_needed_test(RunFolder(p)) for p in paths]
    first, drawn = tests[0], _episodes_of(RunFolder(paths[0]), tests[0])
    rows = []
    for path, test in zip(paths, tests, strict=True):
        gap = "–"
        if test is not first:
            for key, mine in _episodes_of(RunFolder(path), test).items():
                if mine != drawn[key]:
                    raise InnerloopError(
                        f"{path} was tested with {key} {mine!r}, {paths[0]} with {drawn[key]!r}, so not on the same "
                        "episodes; runs compare where both were tested on the same"
                    )
            found = paired_difference(torch.tensor(test["per_episode"]), torch.tensor(first["per_episode"]))
            gap = f"{_scale(test) * found.mean:+.2f} ± {_scale(test) * found.ci95:.2f}"
        rows.append((str(path), test["method"], f"{_number(test)} ± {_scale(test) * test['ci95']:.2f}", gap))
    show.table(
        f"{first['metric']} on {first['data']}, {first['split']} classes",
        ("run", "method", "mean ± ci95", "difference to the first, paired ± ci95"),
        rows,
        f"{first['episodes']} episodes, the same for all; ci95 is over episodes of one model, not over seeds",
    )
    return 0


def _episodes_of(run: RunFolder, test: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides which episodes a test had."""
    config = run.config_as(Config.from_json)
    own = {"data": config.data, "split scheme": getattr(config.dataset, "scheme", ""), "way": config.way}
    shared = {k: test[k] for k in ("split", "shot", "query", "episodes")}
    asked = {f"settings.{k}": test["settings"].get(k) for k in ("query", "seed")}
    return {**own, "folder": config.folder, **shared, **asked}


def _test(run: RunFolder) -> dict[str, Any] | None:
    """The test by the run's own method, data and settings, on its best checkpoint: not one of another kind."""
    config = run.config
    settings = config.get("test", {})
    own = {"method": config.get("method"), "data": config.get("data"), "shot": config.get("shot")}
    wanted = {**own, "split": "test", "checkpoint": "best"}
    for e in run.evaluations:
        found = {"data": own["data"], **e}  # earlier versions wrote no data
        asked = e.get("settings", {})
        same = all(asked.get(k) == v for k, v in settings.items() if k in asked)
        if not e.get("augment_support") and same and all(found.get(k) == v for k, v in wanted.items()):
            return e
    return None


def _needed_test(run: RunFolder) -> dict[str, Any]:
    test = _test(run)
    if test is None or not isinstance(test.get("per_episode"), list):
        raise InnerloopError(f"{run.path} was not tested as it was trained yet: innerloop evaluate {run.path}")
    return test


def delete(paths: Sequence[Path]) -> int:
    """Remove the folders, after all were found to be free."""
    for path in paths:
        with RunFolder(path).alone():
            pass
    for path in paths:
        with RunFolder(path).alone():
            shutil.rmtree(path)
        print(f"deleted {path}")
    return 0
