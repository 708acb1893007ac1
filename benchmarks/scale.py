r"""How much faster two processes are: torchrun on one training, and `--jobs` on many; and how long published settings
train on one core.

    python benchmarks/scale.py torchrun --out results/scale.json
    python benchmarks/scale.py jobs --out results/scale_jobs.json
    OMP_NUM_THREADS=1 python benchmarks/scale.py hours --rounds 3 --out results/scale_hours.json \
        --presets omniglot-5way-1shot omniglot-5way-5shot omniglot-20way-1shot

Nothing else may run meanwhile: on this table wall-clock time counts. Each cell is timed `--rounds` times, one process
and several in turn; the ratio of each round is reported, its median and its range. Trainings are timed from the first
step to the last (finished.json), without imports; those with `--jobs` as whole commands.

`hours` takes the CPU time of one thread, so that something else may run beside it: in each round the training begins
again, and the least of two steps and of one validation of `EPISODES` episodes counts. Data sets that are not on the
machine are replaced by random images of their shape.
"""

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from innerloop.cli.memory import keep_freed_memory
from innerloop.core.episodes import ClassImages
from innerloop.core.random import generator_for
from innerloop.data.catalogue import find_images
from innerloop.runs import RunFolder, environment
from innerloop.training import Config, preset, train

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


PUBLISHED = (
    *("omniglot-5way-1shot", "omniglot-5way-5shot", "omniglot-20way-1shot", "omniglot-20way-5shot"),
    *("mini-imagenet-5way-1shot", "mini-imagenet-5way-5shot", "cifar-fs-5way-1shot", "cifar-fs-5way-5shot"),
    "sinusoid-10shot",
)
EPISODES = 20
"""of a validation that is timed"""


def made_images(name: str) -> ClassImages:
    """Random images of the shape of a data set's, three splits of 20 classes."""
    channels, height, width = find_images(name).shape
    g = generator_for(0, "images")
    images = torch.randint(256, (60, 20, channels, height, width), generator=g, dtype=torch.uint8)
    splits = {s: range(20 * i, 20 * (i + 1)) for i, s in enumerate(("train", "val", "test"))}
    return ClassImages.from_tensors(name, list(images), [str(i) for i in range(60)], splits)


def cpu_seconds(config: Config, data: ClassImages | None) -> tuple[float, float]:
    """CPU time of one outer step and of one validation episode."""
    few = replace(
        config,
        outer=replace(config.outer, steps=4),
        validation=replace(config.validation, every=4, episodes=EPISODES, keep_every=0),
        threads=1,
        device="cpu",
    )
    at: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(few, Path(folder) / "run", data=data, report=lambda _: at.append(time.process_time()))
    step = min(at[1] - at[0], at[2] - at[1])
    return step, max(0.0, at[3] - at[2] - step) / EPISODES


def hours(presets: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Each preset with MAML and ANIL: the least CPU time of its parts, and that of the whole."""
    cells = []
    for name in presets:
        for method in ("maml", "anil"):
            config = preset(name, method)
            data = None if config.regression or config.data != "mini_imagenet" else made_images(config.data)
            found = [cpu_seconds(config, data) for _ in range(rounds)]
            step, episode = (min(f[i] for f in found) for i in (0, 1))
            looks = math.ceil(config.outer.steps / config.validation.every) * config.validation.episodes
            tested = (looks + config.test.episodes) * episode
            cell = {
                "what": f"hours: {name}, {method}",
                "preset": name,
                "method": method,
                "rounds": rounds,
                "steps": config.outer.steps,
                "tasks": config.outer.meta_batch,
                "seconds_a_step": step,
                "seconds_a_step_of_each_round": [f[0] for f in found],
                "seconds_an_episode": episode,
                "hours": (config.outer.steps * step + tested) / 3600,
            }
            cells.append(cell)
            print(json.dumps(cell), flush=True)
    return cells


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
    parser.add_argument("what", choices=("torchrun", "jobs", "hours"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--presets", nargs="+", default=PUBLISHED, help="of hours")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.what == "hours":
        keep_freed_memory()  # as the command line does
        write(args.out, hours(args.presets, args.rounds))
        return
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
    write(args.out, cells)


def write(out: Path | None, cells: list[dict[str, Any]]) -> None:
    """The cells and the machine, as JSON."""
    if out:
        out.write_text(json.dumps({"environment": environment(), "cells": cells}, indent=1) + "\n")


if __name__ == "__main__":
    main()
