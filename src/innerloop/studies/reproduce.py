"""Make one table or figure of the paper again, from run folders, into a folder of its own."""

import json
import time
from pathlib import Path
from typing import Any

from innerloop.runs import read_json, write_json
from innerloop.studies.experiments import experiment
from innerloop.studies.lab import Lab
from innerloop.studies.rl_lab import RlLab
from innerloop.version import __version__


def reproduce(name: str, lab: Lab | RlLab) -> dict[str, Any]:
    """Run the experiment `name` on `lab` and write result.json into its folder, which is returned as a value.

    Finished runs under ``lab.out/runs`` are used, unfinished ones continued, missing ones trained.
    """
    what = experiment(name)
    began = time.perf_counter()
    result = what.make(lab)
    value = lab.described(result, name=name, title=what.title, where=what.where, seconds=time.perf_counter() - began)
    value |= {"budget": lab.budget, "seeds": list(lab.seeds), "runs": _runs(name, lab)}
    write_json(place(lab, name) / "result.json", value)
    return value


def finished(name: str, lab: Lab | RlLab) -> dict[str, Any] | None:
    """The result that is there already, if it is whole, of this version, configuration and seeds, and of the runs that
    are there now; else None."""
    try:
        value = read_json(place(lab, name) / "result.json")
        same = (
            value["name"] == name
            and value["innerloop"] == __version__
            and value["seeds"] == list(lab.seeds)
            and value["config"] == json.loads(json.dumps(lab.identity))
            and value["runs"] == _runs(name, lab)
            and all(k in value for k in ("rows", "claims", "drawing", "notes"))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if same else None


def place(lab: Lab | RlLab, name: str) -> Path:
    """The folder of the result."""
    return lab.out / lab.title / name


def _runs(name: str, lab: Lab | RlLab) -> dict[str, Any]:
    """The finished runs that the experiment takes."""
    found: dict[str, Any] = {}
    for folder in lab.folders(getattr(lab, "methods", ()) or experiment(name).methods):
        if folder.finished:
            summary = folder.summary_with("best_step", "best_validation")
            found[folder.path.name] = {
                "commit": folder.environment.get("commit"),
                "train_seconds": summary["seconds"],
                "best_step": summary["best_step"],
                "best_validation": summary["best_validation"],
            }
    return dict(sorted(found.items()))
