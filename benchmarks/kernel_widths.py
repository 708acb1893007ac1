"""The compiled kernel by the width of its vectors: CPU time against that of the processor's own instructions.

    python benchmarks/kernel_widths.py --out results/speed_kernel_widths.json

Value, gradient and derivative of the gradient, one thread, libraries in turn, median of the rounds' ratios. "AVX2, 64
bytes" has vectors wider than the instructions that it is compiled for. For x86-64 processors that have all of them.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from innerloop.models import kernel
from innerloop.runs import environment

KINDS = {"AVX-512": ("x86-64-v4", ""), "AVX2": ("x86-64-v3", ""), "SSE2": ("x86-64", "")}
KINDS["AVX2, 64 bytes"] = ("x86-64-v3", "#define WIDTH 32")
SHAPES = [((25, 64, 28, 28), False), ((80, 32, 84, 84), True), ((25, 64, 32, 32), True)]


def library(folder: Path, march: str, narrow: str) -> Any:
    """The kernel for these instructions; with the line `narrow` in its source widened to 64 bytes."""
    source = folder / "kernel.cpp"
    source.write_text(kernel._SOURCE.read_text().replace(narrow or "\0", "#define WIDTH 64"))
    flags = [*kernel._FLAGS, kernel._OPENMP, f"-march={march}"]
    subprocess.run(["c++", *flags, "-c", "kernel.cpp", "-o", "kernel.o"], cwd=folder, check=True)
    subprocess.run(["c++", "-shared", "kernel.o", "-o", "kernel.so"], cwd=folder, check=True)
    return kernel._load(folder / "kernel.so")


def seconds(of: Any, x: torch.Tensor, pool: bool) -> float:
    """CPU time of both derivatives."""
    gamma, beta = torch.ones(x.shape[1], requires_grad=True), torch.zeros(x.shape[1], requires_grad=True)
    began = time.process_time()
    y: Any = kernel._NormPoolReLU.apply(x, gamma, beta, 1e-3, pool, False, 1, of)
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.autograd.grad(g.square().sum(), x)
    return time.process_time() - began


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    native = kernel._kernel()[0]
    cells = []
    for name, (march, narrow) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            own = library(Path(folder), march, narrow)
            for shape, pool in SHAPES:
                x = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
                ratios = [seconds(own, x, pool) / seconds(native, x, pool) for _ in range(args.rounds + 1)][1:]
                cells.append({"kind": name, "shape": shape, "pool": pool, "ratio": statistics.median(ratios)})
                print(cells[-1], flush=True)
    if args.out:
        args.out.write_text(
            json.dumps({"environment": environment(), "rounds": args.rounds, "cells": cells}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
