"""What `task_chunk` gives the sinusoid's small net, and what `recompute` costs and saves.

    python benchmarks/sinusoid_chunk.py --out results/speed_chunk_and_recompute.json

Chunk: one meta-step of MAML, MLP 40-40, 1 inner step, 10 support and 10 query points, 25 and 100 tasks: one task at a
time against all at once. Recompute: MAML on one mini-ImageNet task and on 25 sinusoid tasks at 1, 5 and 10 inner steps:
CPU time, and for mini-ImageNet the growth of the process's peak resident memory in one meta-step (Linux). One thread,
CPU time of the process, runs interleaved; a ratio is the median over rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from meta_step import SETTINGS, machine
from torch import Tensor

from innerloop.core.episodes import Episodes
from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import cross_entropy, mean_squared_error
from innerloop.core.outer import meta_gradient
from innerloop.core.random import generator_for
from innerloop.methods.method import predictor
from innerloop.models import mlp

Step = Callable[[], dict[str, Tensor]]


def peak_memory(inner_steps: int, recompute: bool) -> float:
    """MB by which the peak resident memory of a fresh process grows in one mini-ImageNet meta-step."""
    ask = [sys.executable, __file__, "--memory", str(inner_steps), *(["--recompute"] if recompute else [])]
    return float(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)


def resident_mb() -> float:
    """Peak resident memory of this process (getrusage would count the parent's from before exec)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def sinusoid(tasks: int, inner: InnerLoop, chunk: int | None) -> Step:
    model = mlp(1, 1, generator=generator_for(0, "init"))
    x = torch.rand(tasks, 20, 1, generator=generator_for(0, "x")) * 10 - 5
    amplitude, phase = torch.rand(2, tasks, 1, 1, generator=generator_for(0, "tasks"))
    y = (0.1 + 4.9 * amplitude) * torch.sin(x - torch.pi * phase)
    e = Episodes(x[:, :10], y[:, :10], x[:, 10:], y[:, 10:])
    predict = predictor(model, inner, loss=mean_squared_error)
    return lambda: meta_gradient(predict, slow_weights(model), e, mean_squared_error, task_chunk=chunk).gradient


def mini_imagenet(inner: InnerLoop) -> Step:
    setting = replace(SETTINGS[1], meta_batch=1)
    model, e = setting.model(), setting.episodes()
    predict = predictor(model, inner)
    return lambda: meta_gradient(predict, slow_weights(model), e, cross_entropy, task_chunk=1).gradient


def compare(steps: dict[str, Step], rounds: int, inside: int = 1) -> dict[str, list[float]]:
    """CPU seconds of each, round by round, after checking that all give the same gradient."""
    results = [step() for step in steps.values()]
    for other in results[1:]:
        for name, g in results[0].items():
            torch.testing.assert_close(other[name], g, rtol=1e-3, atol=1e-3 * float(g.abs().max()) + 1e-7)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.process_time()
            for _ in range(inside):
                step()
            seconds[name].append((time.process_time() - began) / inside)
    return seconds


def median_ratio(over: list[float], under: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(over, under, strict=True)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", type=int, help="only print the memory of one meta-step of so many inner steps")
    parser.add_argument("--recompute", action="store_true", help="with --memory")
    given = parser.parse_args()
    torch.set_num_threads(1)

    if given.memory:
        step = mini_imagenet(InnerLoop(steps=given.memory, lr=0.01, recompute=given.recompute))
        before = resident_mb()
        step()
        print(resident_mb() - before)
        return

    where = machine()
    chunks = []
    for tasks in (25, 100):
        inner = InnerLoop(steps=1, lr=0.01)
        steps = {"one": sinusoid(tasks, inner, 1), "all": sinusoid(tasks, inner, None)}
        seconds = compare(steps, given.rounds, inside=3)
        row = {"tasks": tasks, "ratio_one_to_all": median_ratio(seconds["one"], seconds["all"])}
        row |= {f"seconds_{n}": round(statistics.median(t), 5) for n, t in seconds.items()}
        chunks.append(row)
        print(row, flush=True)

    recompute = []
    for what, make in {
        "mini-imagenet 5-way 1-shot, one task": mini_imagenet,
        "sinusoid, 25 tasks": lambda inner: sinusoid(25, inner, None),
    }.items():
        for n in (1, 5, 10):
            inner = InnerLoop(steps=n, lr=0.01)
            steps = {"plain": make(inner), "recompute": make(replace(inner, recompute=True))}
            seconds = compare(steps, 3 if what.startswith("mini") else given.rounds)
            row = {"what": what, "inner_steps": n, "ratio": median_ratio(seconds["recompute"], seconds["plain"])}
            row |= {f"seconds_{name}": round(statistics.median(t), 5) for name, t in seconds.items()}
            if what.startswith("mini"):
                row |= {f"peak_mb_{name}": round(peak_memory(n, name == "recompute")) for name in steps}
            recompute.append(row)
            print(row, flush=True)

    if given.out:
        result = {"machine": where, "chunk": chunks, "recompute": recompute}
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
