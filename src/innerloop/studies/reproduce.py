"""Make one table or figure again, from run folders, into a folder of its own."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from innerloop.runs import RunFolder, read_json, write_json
from innerloop.studies.lab import Lab
from innerloop.studies.rl_lab import RlLab
from innerloop.studies.table import Table
from innerloop.version import __version__


def reproduce(table: Table, lab: Lab | RlLab) -> dict[str, Any]:
    """Make `table` on `lab` and write result.json into its folder, which is returned as a value.

    Finished runs under ``lab.out/runs`` are used, unfinished ones continued, missing ones trained.
    """
    began = time.perf_counter()
    lab.asked.clear()
    result = table.result(lab)
    took = time.perf_counter() - began
    value = lab.described(result, name=table.name, title=table.title, where=table.where, seconds=took)
    value |= {"budget": lab.budget, "seeds": list(lab.seeds), "runs": _runs(lab, lab.asked)}
    if table.source:
        value["source"] = table.source
    write_json(place(lab, table) / "result.json", value)
    return value


def finished(table: Table, lab: Lab | RlLab) -> dict[str, Any] | None:
    """The existing result, if it is complete, has this version, configuration, seeds and table, and the runs that it
    was made from are unchanged; else None."""
    try:
        value = read_json(place(lab, table) / "result.json")
        same = (
            value["name"] == table.name
            and value["innerloop"] == __version__
            and value.get("source", "") == table.source
            and value["seeds"] == list(lab.seeds)
            and value["config"] == json.loads(json.dumps(lab.identity))
            and value["runs"] == _runs(lab, value["runs"])
            and all(k in value for k in ("rows", "claims", "drawing", "notes"))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value if same else None


def place(lab: Lab | RlLab, table: Table) -> Path:
    """The folder of the result."""
    return lab.out / lab.title / table.name


def _runs(lab: Lab | RlLab, names: Iterable[str]) -> dict[str, Any]:
    """What is known of the finished ones of these runs."""
    found: dict[str, Any] = {}
    for name in sorted(names):
        folder = RunFolder(lab.out / "runs" / name)
        if folder.finished:
            summary = folder.summary_with("best_step", "best_validation")
            found[name] = {
                "commit": folder.environment.get("commit"),
                "train_seconds": summary["seconds"],
                "best_step": summary["best_step"],
                "best_validation": summary["best_validation"],
            }
    return found
