"""What it saves that the command line keeps freed memory (`innerloop.cli.memory`), and what memory it costs.

    python benchmarks/freed_memory.py --out results/speed_freed_memory.json

Training steps (episodes, meta-gradient, Adam step) of MAML and ANIL at presets, on random images of the data's shape,
each in fresh processes with one thread, with and without in turn. CPU seconds a step of the process itself ("own") and
of the system on its behalf ("system": page faults), wall seconds per step, peak resident memory of the process. A ratio
is the median over rounds of "without" to "with": above 1, keeping is faster. Linux with glibc only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from os import times
from pathlib import Path

import torch
from meta_step import machine
from sinusoid_chunk import median_ratio, resident_mb

from innerloop.cli.memory import keep_freed_memory
from innerloop.core.episodes import ClassImages
from innerloop.core.outer import objective_gradient, outer_step
from innerloop.core.random import generator_for
from innerloop.training import build, preset

Cell = tuple[str, str, tuple[int, int, int], int]

CELLS: tuple[Cell, ...] = (
    ("omniglot-5way-1shot-cpu", "maml", (1, 28, 28), 10),
    ("omniglot-20way-1shot-cpu", "anil", (1, 28, 28), 10),
    ("cifar-fs-5way-1shot", "maml", (3, 32, 32), 3),
    ("mini-imagenet-5way-1shot", "anil", (3, 84, 84), 3),
)
"""preset, method, image shape, steps that are measured"""


def random_images(shape: tuple[int, int, int]) -> ClassImages:
    classes, each = 64, 20
    return ClassImages(
        "random",
        torch.randint(0, 256, (classes * each, *shape), dtype=torch.uint8, generator=generator_for(0, "images")),
        torch.arange(classes) * each,
        torch.full((classes,), each),
        torch.zeros(classes, dtype=torch.long),
        tuple(map(str, range(classes))),
        {"train": range(classes)},
    )


def measure(cell: Cell) -> dict[str, float]:
    """CPU and wall seconds a step of this process after one step to warm up, and its peak memory in MB."""
    name, method, shape, steps = cell
    config = replace(preset(name, method), device="cpu", threads=1)
    torch.set_num_threads(1)
    images = random_images(shape)
    tasks = build.training_tasks(config, images)
    model = build.build_model(config, images)
    parameters = build.learner(config, model).init()
    optimizer = torch.optim.Adam(parameters.values(), lr=config.outer.lr, foreach=False)
    chunk = build.chunk_size(config, torch.device("cpu"))
    score = build.losses(config).score
    began, wall = times(), time.perf_counter()
    for step in range(steps + 1):
        if step == 1:  # the one before was to warm up
            began, wall = times(), time.perf_counter()
        batch = tasks.sample(config.outer.meta_batch, generator_for(0, "episodes", step))
        objective = build.learner(config, model, step).objective
        found = objective_gradient(
            objective, parameters, batch, score, task_chunk=chunk, reduction=config.outer.reduction
        )
        outer_step(optimizer, parameters, found.gradient, config.outer, step)
    ended, wall = times(), time.perf_counter() - wall
    return {
        "own": (ended.user - began.user) / steps,
        "system": (ended.system - began.system) / steps,
        "wall": wall / steps,
        "peak_mb": resident_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cell", type=int, help="measure this cell here and print it")
    parser.add_argument("--keep", action="store_true", help="with --cell: keep freed memory")
    given = parser.parse_args()

    if given.cell is not None:
        if given.keep and not keep_freed_memory():
            parser.error("freed memory cannot be kept here: not Linux with glibc, or a setting of malloc is given")
        print(json.dumps(measure(CELLS[given.cell])))
        return

    rows = []
    for i, (name, method, _, _) in enumerate(CELLS):
        found: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
        for r in range(given.rounds):
            for how in sorted(found, reverse=r % 2 == 1):
                ask = [sys.executable, __file__, "--cell", str(i), *(["--keep"] if how == "with" else [])]
                said = subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=True).stdout
                found[how].append(json.loads(said))
        row: dict[str, object] = {"preset": name, "method": method, "rounds": given.rounds}
        for what in ("cpu", "wall"):
            ratio = {how: [f["own"] + f["system"] if what == "cpu" else f["wall"] for f in found[how]] for how in found}
            row[f"{what}_ratio"] = median_ratio(ratio["without"], ratio["with"])
        for how, all_of_it in found.items():
            row[how] = {k: round(statistics.median(f[k] for f in all_of_it), 4) for k in all_of_it[0]}
        rows.append(row)
        print(row, flush=True)
    if given.out:
        given.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
