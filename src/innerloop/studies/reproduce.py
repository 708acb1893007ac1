"""Make one table or figure of the paper again, from run folders, into a folder of its own."""

import json
import time
from pathlib import Path
from typing import Any

from innerloop.runs import read_json, write_json
from innerloop.studies.bench import Bench
from innerloop.studies.experiments import experiment
from innerloop.studies.rl_bench import RlBench
from innerloop.version import __version__


def reproduce(name: str, bench: Bench | RlBench) -> dict[str, Any]:
    """Run the experiment `name` on `bench` and write result.json into its folder, which is returned as a value.

    Finished runs under ``bench.out/runs`` are used, unfinished ones continued, missing ones trained.
    """
    what = experiment(name)
    began = time.perf_counter()
    result = what.make(bench)
    value = bench.described(result, name=name, title=what.title, where=what.where, seconds=time.perf_counter() - began)
    value |= {"budget": bench.budget, "seeds": list(bench.seeds), "runs": _runs(name, bench)}
    write_json(place(bench, name) / "result.json", value)
    return value


def finished(name: str, bench: Bench | RlBench) -> dict[str, Any] | None:
    """The result that is there already, if it is whole, of this version, configuration and seeds, and of the runs that
    are there now; else None."""
    try:
        value = read_json(place(bench, name) / "result.json")
        same = (
            value["name"] == name
            and value["innerloop"] == __version__
            and value["seeds"] == list(bench.seeds)
            and value["config"] == json.loads(json.dumps(bench.identity))
            and value["runs"] == _runs(name, bench)
            and all(k in value for k in ("rows", "claims", "drawing", "notes"))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if same else None


def place(bench: Bench | RlBench, name: str) -> Path:
    """The folder of the result."""
    return bench.out / bench.title / name


def _runs(name: str, bench: Bench | RlBench) -> dict[str, Any]:
    """The finished runs that the experiment takes."""
    found: dict[str, Any] = {}
    for folder in bench.folders(getattr(bench, "methods", ()) or experiment(name).methods):
        if folder.finished:
            summary = folder.summary_with("best_step", "best_validation")
            found[folder.path.name] = {
                "commit": folder.environment.get("commit"),
                "train_seconds": summary["seconds"],
                "best_step": summary["best_step"],
                "best_validation": summary["best_validation"],
            }
    return dict(sorted(found.items()))
