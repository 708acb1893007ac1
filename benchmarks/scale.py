"""How much faster two processes are: torchrun on one training, and `--jobs` on many.

    python benchmarks/scale.py torchrun --out results/scale.json
    python benchmarks/scale.py jobs --out results/scale_jobs.json

Nothing else may run meanwhile: on this table wall-clock time counts. Each cell is timed `--rounds` times, one process
and several in turn; the ratio of each round is reported, its median and its range. Trainings are timed from the first
step to the last (finished.json), without imports; those with `--jobs` as whole commands.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from innerloop.runs import RunFolder, environment

TRAIN = "--validation.every 1000 --validation.episodes 2 --test.episodes 2 --threads 1 --device cpu"
TRAININGS = {
    "maml, glyphs 20-way 1-shot, 8 tasks": "train --preset quick --way 20 --outer.meta-batch 8 "
    f"--outer.steps 12 {TRAIN}",
    "anil, glyphs 20-way 1-shot, 8 tasks": "train --preset quick --method anil --way 20 --outer.meta-batch 8 "
    f"--outer.steps 30 {TRAIN}",
    "maml-trpo, half-cheetah direction, 20 tasks": "rl train --preset cheetah-direction-cpu --iterations 4 "
    "--validation.every 1000 --validation.tasks 2 --test.tasks 2 --threads 1",
}
JOBS = {
    "reproduce families, smoke (20 trainings of less than a second)": "reproduce families --budget smoke --way 3",
    "sweep, 4 seeds of maml, 60 steps each": "sweep --preset quick --seeds 0 1 2 3 --vary inner.lr=0.4 "
    "--outer.steps 60 --validation.every 60",
}


def python(*args: str, folder: str) -> float:
    """Seconds of wall-clock time of a command."""
    began = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *args], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(args)}: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def training(command: str, ranks: int) -> dict[str, float]:
    """Seconds of the training; for a policy also environment steps a second of sampling."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
        python(*torchrun, "-m", "innerloop", *shlex.split(command), "--out", "run", folder=folder)
        run = RunFolder(Path(folder) / "run")
        found = {"seconds": float(run.summary["seconds"])}
        rows = run.metrics
        if "environment_steps" in rows[0]:
            found["sampled"] = sum(r["environment_steps"] / r["seconds_sampling"] for r in rows) / len(rows)
        return found


def at_once(command: str, jobs: int) -> dict[str, float]:
    """Seconds of the command; one job alone trains in the command's own process where it can."""
    with tempfile.TemporaryDirectory() as folder:
        command = f"{command} --out made" + (f" --jobs {jobs}" if jobs > 1 else " --threads 1")
        return {"seconds": python("-m", "innerloop", *shlex.split(command), folder=folder)}


def compared(one: list[dict[str, float]], many: list[dict[str, float]]) -> dict[str, Any]:
    """Medians, and the ratios of the rounds."""
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(one, many, strict=True)]
    cell: dict[str, Any] = {
        "seconds": [statistics.median(r["seconds"] for r in rows) for rows in (one, many)],
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }
    if "sampled" in one[0]:
        cell["environment_steps_a_second"] = [statistics.median(r["sampled"] for r in rows) for rows in (one, many)]
    return cell


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("torchrun", "jobs"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    work, commands = (training, TRAININGS) if args.what == "torchrun" else (at_once, JOBS)
    cells = []
    for name, command in commands.items():
        one, many = [], []
        for _ in range(args.rounds):
            one.append(work(command, 1))
            many.append(work(command, args.processes))
        cells.append(
            {"what": f"{args.what}: {name}", "processes": args.processes, "rounds": args.rounds, **compared(one, many)}
        )
        print(json.dumps(cells[-1]), flush=True)
    if args.out:
        text = json.dumps({"environment": environment(), "cells": cells}, indent=1)
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
