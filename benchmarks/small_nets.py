"""MAML of a small net: one product a layer for all tasks, `vmap`, and a plain loop over tasks.

    python benchmarks/small_nets.py --out results/speed_small_nets.json

One meta-step on sinusoids (MLP 40-40, 10 support and 10 query points). `vmap` is the same code with layers that do not
say that they take all tasks at once; the plain loop is `torch.autograd.grad(create_graph=True)` and `functional_call`,
a task at a time, on torch's own layers. The gradients are compared in float64 first. One thread, CPU time of the
process; in each round all run one after the other; ratios are (the other / innerloop) in a round.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from meta_step import Gradient, machine
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.core.episodes import Episodes
from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import mean_squared_error
from innerloop.core.outer import meta_gradient
from innerloop.core.random import generator_for
from innerloop.methods.method import predictor
from innerloop.models import Linear, mlp
from innerloop.models.mlp import Hidden

LR = 0.01


class Alone(Hidden):
    """A hidden layer of one task."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class AloneHead(Linear):
    """A linear head of one task."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def sinusoids(tasks: int, dtype: torch.dtype) -> Episodes:
    x = torch.rand(tasks, 20, 1, generator=generator_for(0, "x")) * 10 - 5
    amplitude, phase = torch.rand(2, tasks, 1, 1, generator=generator_for(0, "tasks"))
    y = (0.1 + 4.9 * amplitude) * torch.sin(x - torch.pi * phase)
    x, y = x.to(dtype), y.to(dtype)
    return Episodes(x[:, :10], y[:, :10], x[:, 10:], y[:, 10:])


def net(dtype: torch.dtype) -> nn.Sequential:
    return mlp(1, 1, generator=generator_for(0, "init")).to(dtype)


def library(e: Episodes, steps: int, *, alone: bool) -> Callable[[], Gradient]:
    model = net(e.support_x.dtype)
    if alone:
        for name, block in model.named_children():
            block.__class__ = AloneHead if name == "head" else Alone
    predict = predictor(model, InnerLoop(steps=steps, lr=LR), loss=mean_squared_error)
    return lambda: meta_gradient(predict, slow_weights(model), e, mean_squared_error).gradient


def plain_loop(e: Episodes, steps: int) -> Callable[[], Gradient]:
    ours = net(e.support_x.dtype)
    model = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    model.to(e.support_x.dtype)
    names = dict(zip(dict(model.named_parameters()), dict(ours.named_parameters()), strict=True))
    model.load_state_dict({n: ours.get_parameter(o).detach() for n, o in names.items()})
    slow = dict(model.named_parameters())

    def run() -> Gradient:
        total = {n: torch.zeros_like(p) for n, p in slow.items()}
        for t in range(len(e)):
            fast: Gradient = dict(slow)
            for _ in range(steps):
                loss = F.mse_loss(functional_call(model, fast, (e.support_x[t],)), e.support_y[t])
                grads = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
                fast = {n: w - LR * g for (n, w), g in zip(fast.items(), grads, strict=True)}
            loss = F.mse_loss(functional_call(model, fast, (e.query_x[t],)), e.query_y[t]) / len(e)
            for n, g in zip(slow, torch.autograd.grad(loss, list(slow.values())), strict=True):
                total[n] += g
        return {names[n]: g for n, g in total.items()}

    return run


def ways(tasks: int, steps: int, dtype: torch.dtype) -> dict[str, Callable[[], Gradient]]:
    e = sinusoids(tasks, dtype)
    return {
        "innerloop": library(e, steps, alone=False),
        "vmap": library(e, steps, alone=True),
        "plain loop": plain_loop(e, steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for tasks in (25, 100):
        for steps in (1, 5):
            found = {name: way() for name, way in ways(tasks, steps, torch.float64).items()}
            for name, gradient in found.items():
                for n, g in found["innerloop"].items():
                    torch.testing.assert_close(gradient[n], g, rtol=1e-9, atol=1e-11, msg=lambda m, name=name: name + m)
            seconds: dict[str, list[float]] = {}
            contenders = list(ways(tasks, steps, torch.float32).items())
            for i in range(given.rounds):
                for name, way in contenders[i % 3 :] + contenders[: i % 3]:
                    began = time.process_time()
                    way()
                    seconds.setdefault(name, []).append(time.process_time() - began)
            row = {"tasks": tasks, "inner_steps": steps, "rounds": given.rounds}
            for name, _ in contenders:
                row[f"ms {name}"] = round(1000 * statistics.median(seconds[name]), 2)
                if name != "innerloop":
                    ratios = [a / b for a, b in zip(seconds[name], seconds["innerloop"], strict=True)]
                    row[f"ratio {name}"] = [round(q, 2) for q in statistics.quantiles(ratios, n=4)]
            rows.append(row)
            print(row, flush=True)
    if given.out:
        what = "one meta-step of MAML, CPU time; ratios: quartiles over rounds of (the other / innerloop)"
        given.out.write_text(json.dumps({"what": what, "machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
