"""Make one table or figure of the paper again, from run folders, into a folder of its own."""

import datetime
import time
from pathlib import Path
from typing import Any

from innerloop.runs import environment, read_json, write_json
from innerloop.studies.bench import Bench
from innerloop.studies.experiments import experiment
from innerloop.version import __version__


def reproduce(name: str, bench: Bench) -> dict[str, Any]:
    """Run the experiment `name` on `bench` and write result.json into its folder, which is returned as a value.

    Finished runs under ``bench.out/runs`` are used, unfinished ones continued, missing ones trained.
    """
    what = experiment(name)
    began = time.perf_counter()
    result = what.make(bench)
    env = environment()
    config = bench.config("maml", bench.seeds[0])
    runs = sorted(
        bench.folder(m, s).path.name
        for m in what.methods
        for s in bench.seeds
        if bench.folder(m, s).finished  # pyright: ignore[reportArgumentType]
    )
    value = {
        "name": name,
        "title": what.title,
        "where": what.where,
        "data": bench.data,
        "way": bench.way,
        "shot": bench.shot,
        "query": getattr(bench.family, "query", bench.settings.query),
        "budget": bench.budget,
        "seeds": list(bench.seeds),
        "innerloop": __version__,
        "command": env["command"],
        "commit": env["commit"],
        "env": env,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": time.perf_counter() - began,
        "outer_steps": config.outer.steps,
        "meta_batch": config.outer.meta_batch,
        "inner_steps": {"train": config.inner.steps, "test": config.test.inner_steps},
        "inner_lr": config.inner.lr,
        "statistics": config.test.statistics,
        "runs": {n: _run(bench.out / "runs" / n) for n in runs},
        **result.to_json(),
    }
    write_json(place(bench, name) / "result.json", value)
    return value


def place(bench: Bench, name: str) -> Path:
    """The folder of the result."""
    return bench.out / f"{bench.data}-{bench.way}way-{bench.shot}shot-{bench.budget}" / name


def _run(path: Path) -> dict[str, Any]:
    finished, env = read_json(path / "finished.json"), read_json(path / "env.json")
    return {
        "commit": env.get("commit"),
        "train_seconds": finished["seconds"],
        "best_step": finished["best_step"],
        "best_validation": finished["best_validation"],
    }
