"""Time of one meta-step (the meta-gradient of a whole meta-batch) against the other ways to compute the same number.

    pip install -e . higher==0.2.1 torchopt==0.7.3 graphviz
    python benchmarks/meta_step.py --out results/speed_meta_step.json

MAML, first-order MAML and ANIL, Omniglot 20-way and 5-way 1-shot, mini-ImageNet and CIFAR-FS 5-way 1-shot, in the
shapes of their published settings, on random images, with malloc set as the command line sets it. The peers are a
loop over tasks with `torch.autograd.grad(create_graph=True)`, `higher` and `torchopt`, each on a net of torch's own
layers, with the convolution's bias that those nets have, and the fairest of all: a loop that leaves the bias out,
keeps images and net in channels-last memory and takes ANIL's features once. This library without its compiled kernel
is in the table too. All meta-gradients are compared in float64 before anything is timed in float32. One thread, CPU
time of the process; in each round all contenders run one after the other, each round begins with the next one, and a
ratio is the median over rounds of (peer's time / innerloop's time in that round).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.cli.memory import keep_freed_memory
from innerloop.core.episodes import Episodes
from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import cross_entropy
from innerloop.core.outer import OuterLoop, meta_gradient
from innerloop.core.random import generator_for
from innerloop.methods.method import predictor
from innerloop.models import conv4, kernel
from innerloop.training import Config, Inner, Model, build

Gradient = dict[str, Tensor]
EPS = 1e-3


@dataclass(frozen=True)
class Setting:
    """Shapes of one meta-step."""

    name: str
    way: int
    query: int
    meta_batch: int
    channels: int
    image_size: int
    filters: int
    pool: bool
    inner_lr: float
    inner_steps: int = 5
    dtype: torch.dtype = torch.float32

    def model(self) -> nn.Sequential:
        model = conv4(
            self.way,
            channels=self.channels,
            image_size=self.image_size,
            filters=self.filters,
            downsample="max_pool" if self.pool else "stride",
            readout="flatten" if self.pool else "mean",
            generator=generator_for(0, "init"),
        )
        return model.to(self.dtype)

    def config(self, method: str) -> Config:
        """For `train`."""
        return Config(
            data={1: "omniglot", 3: "cifar_fs" if self.image_size == 32 else "mini_imagenet"}[self.channels],
            method=method,
            way=self.way,
            query=self.query,
            model=Model(filters=self.filters, downsample="max_pool" if self.pool else "stride"),
            inner=Inner(steps=self.inner_steps),
            outer=OuterLoop(meta_batch=self.meta_batch),
        )

    def episodes(self) -> Episodes:
        shape = (self.channels, self.image_size, self.image_size)
        labels = torch.arange(self.way).expand(self.meta_batch, -1)
        g = generator_for(0, "images")
        return Episodes(
            torch.rand(self.meta_batch, self.way, *shape, generator=g).to(self.dtype),
            labels,
            torch.rand(self.meta_batch, self.way * self.query, *shape, generator=g).to(self.dtype),
            labels.repeat_interleave(self.query, 1),
        )


SETTINGS = (
    Setting("omniglot 20-way 1-shot", 20, 1, 16, 1, 28, 64, pool=False, inner_lr=0.1),
    Setting("omniglot 5-way 1-shot", 5, 1, 32, 1, 28, 64, pool=False, inner_lr=0.4, inner_steps=1),
    Setting("mini-imagenet 5-way 1-shot", 5, 15, 4, 3, 84, 32, pool=True, inner_lr=0.01),
    Setting("cifar-fs 5-way 1-shot", 5, 15, 4, 3, 32, 64, pool=True, inner_lr=0.01),
)
KERNEL, NO_KERNEL = kernel._kernel(), (None, kernel.KernelStatus("off", "for comparison"))
METHODS = (("maml", "all"), ("fomaml", "all"), ("anil", "head"))


def innerloop_step(s: Setting, method: str, e: Episodes, *, compiled: bool = True) -> Callable[[], Gradient]:
    """This library, with as many tasks at once as `train` takes. `compiled`: with its kernel."""
    model, chunk = s.model(), build.chunk_size(s.config(method), torch.device("cpu"))
    inner = InnerLoop(blocks=dict(METHODS)[method], steps=s.inner_steps, lr=s.inner_lr, first_order=method == "fomaml")
    predict, weights = predictor(model, inner), slow_weights(model)

    def step() -> Gradient:
        kernel._found = KERNEL if compiled else NO_KERNEL
        return meta_gradient(predict, weights, e, cross_entropy, task_chunk=chunk).gradient

    return step


class Norm(nn.Module):
    """Batch norm with the statistics of the batch at hand; its scale and shift are not adapted, so they live apart."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(filters)), nn.Parameter(torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=EPS)


class Net(nn.Module):
    """The four-block net in torch's own layers; the adapted layers are `adapted.conv1 … adapted.head`.

    `lean`: in channels-last memory, without the convolutions' bias, ReLU after the pooling.
    """

    def __init__(self, s: Setting, *, lean: bool = False) -> None:
        super().__init__()
        width, stride = [s.channels, *[s.filters] * 4], 1 if s.pool else 2
        convs = {f"conv{i}": nn.Conv2d(width[i - 1], s.filters, 3, stride, 1, bias=not lean) for i in range(1, 5)}
        head = nn.Linear(s.filters * ((s.image_size // 16) ** 2 if s.pool else 1), s.way)
        self.adapted = nn.ModuleDict({**convs, "head": head})
        self.norms = nn.ModuleList(Norm(s.filters) for _ in range(4))
        self.pool, self.lean = s.pool, lean
        self.to(s.dtype, memory_format=torch.channels_last if lean else torch.preserve_format)
        ours = s.model()
        with torch.no_grad():
            for name, p in self.named_parameters():
                if name.startswith("adapted.conv") and name.endswith("bias"):
                    p.zero_()
                else:
                    p.copy_(ours.get_parameter(our_name(name)))

    def body(self, x: Tensor) -> Tensor:
        for i in range(1, 5):
            x = self.norms[i - 1](self.adapted[f"conv{i}"](x))
            x = x if self.lean else torch.relu(x)
            if self.pool:
                x = F.max_pool2d(x, 2)
            x = torch.relu(x) if self.lean else x
        return x.flatten(1) if self.pool else x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.adapted["head"](self.body(x))


def our_name(theirs: str) -> str:
    """Name in innerloop's model of a parameter of `Net`."""
    kind, layer, leaf = theirs.split(".")
    if kind == "norms":
        return f"conv{int(layer) + 1}.norm.{leaf}"
    return f"{layer}.{leaf}" if layer == "head" else f"{layer}.conv.{leaf}"


def over_tasks(net: Net, e: Episodes, task_loss: Callable[[Episodes], Tensor]) -> Gradient:
    """The mean over tasks of the query loss, back-propagated a task at a time."""
    parameters = dict(net.named_parameters())
    total = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for t in range(len(e)):
        grads = torch.autograd.grad(task_loss(e[t : t + 1]) / len(e), list(parameters.values()), allow_unused=True)
        for n, g in zip(parameters, grads, strict=True):
            if g is not None:
                total[n] += g
    return {our_name(n): g for n, g in total.items()}


def plain_loop(
    s: Setting, method: str, e: Episodes, *, once: bool = False, lean: bool = False
) -> Callable[[], Gradient]:
    """`torch.autograd.grad(create_graph=True)` and `functional_call`. `once`: ANIL's support features once."""
    blocks, second = dict(METHODS)[method], method != "fomaml"
    net = Net(s, lean=lean)
    if lean:
        e = replace(e, support_x=_channels_last(e.support_x), query_x=_channels_last(e.query_x))
    adapted = [n for n, _ in net.named_parameters() if n.startswith("adapted." if blocks == "all" else "adapted.head")]

    def loss_of(fast: Gradient, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(net, fast, (x,)), y)

    def head_loss(fast: Gradient, h: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(h, fast["adapted.head.weight"], fast["adapted.head.bias"]), y)

    def task_loss(e: Episodes) -> Tensor:
        fast = {n: net.get_parameter(n) for n in adapted}
        support = net.body(e.support_x[0]) if once else e.support_x[0]
        for _ in range(s.inner_steps):
            loss = (head_loss if once else loss_of)(fast, support, e.support_y[0])
            grads = torch.autograd.grad(loss, list(fast.values()), create_graph=second)
            fast = {n: w - s.inner_lr * g for (n, w), g in zip(fast.items(), grads, strict=True)}
        return loss_of(fast, e.query_x[0], e.query_y[0])

    return lambda: over_tasks(net, e, task_loss)


def _channels_last(x: Tensor) -> Tensor:
    """Images [tasks, n, channels, h, w], those of a task in channels-last memory."""
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


def with_higher(s: Setting, method: str, e: Episodes) -> Callable[[], Gradient]:
    """`higher.innerloop_ctx`; for ANIL over the head alone, on features computed once."""
    import higher

    net, blocks = Net(s), dict(METHODS)[method]
    part = net if blocks == "all" else net.adapted["head"]
    learner = torch.optim.SGD(net.adapted.parameters() if blocks == "all" else part.parameters(), lr=s.inner_lr)

    def task_loss(e: Episodes) -> Tensor:
        support, query = e.support_x[0], e.query_x[0]
        if blocks == "head":
            support, query = net.body(support), net.body(query)
        with higher.innerloop_ctx(part, learner, copy_initial_weights=False) as (fast, optimizer):
            for _ in range(s.inner_steps):
                optimizer.step(F.cross_entropy(fast(support), e.support_y[0]))
            return F.cross_entropy(fast(query), e.query_y[0])

    return lambda: over_tasks(net, e, task_loss)


def with_torchopt(s: Setting, method: str, e: Episodes) -> Callable[[], Gradient]:
    """`torchopt.MetaSGD`; for ANIL over the head alone, on features computed once."""
    import torchopt

    net, blocks = Net(s), dict(METHODS)[method]
    head = net.adapted["head"]
    optimizer = torchopt.MetaSGD(net.adapted if blocks == "all" else head, lr=s.inner_lr)
    start = torchopt.extract_state_dict(net, by="reference"), torchopt.extract_state_dict(optimizer)
    parameters = dict(net.named_parameters())

    def task_loss(e: Episodes) -> Tensor:
        support, query, run = e.support_x[0], e.query_x[0], net
        if blocks == "head":
            support, query, run = net.body(support), net.body(query), head
        for _ in range(s.inner_steps):
            optimizer.step(F.cross_entropy(run(support), e.support_y[0]))
        loss = F.cross_entropy(run(query), e.query_y[0])
        torchopt.recover_state_dict(net, start[0])
        torchopt.recover_state_dict(optimizer, start[1])
        return loss

    assert all(p is net.get_parameter(n) for n, p in parameters.items())
    return lambda: over_tasks(net, e, task_loss)


def contenders(s: Setting, method: str) -> tuple[dict[str, Callable[[], Gradient]], dict[str, str]]:
    """The ways to compute the meta-gradient, and why some cannot be run here."""
    e = s.episodes()
    ways = {
        "innerloop": innerloop_step(s, method, e),
        "innerloop, no kernel": innerloop_step(s, method, e, compiled=False),
    }
    ways["plain loop"] = plain_loop(s, method, e)
    if method == "anil":
        ways["plain loop, features once"] = plain_loop(s, method, e, once=True)
    ways["plain loop, channels-last"] = plain_loop(s, method, e, once=method == "anil", lean=True)
    missing: dict[str, str] = {}
    for name, make in {"higher": with_higher, "torchopt": with_torchopt}.items():
        if method == "fomaml":
            missing[name] = "has no first-order form of its own"
            continue
        try:
            ways[name] = make(s, method, e)
        except ImportError as error:
            missing[name] = f"{type(error).__name__}: {error}"
    return ways, missing


def check(s: Setting, method: str) -> dict[str, float]:
    """Norm of (the peer's meta-gradient − innerloop's) / norm of innerloop's, in float64 on two tasks."""
    ways, _ = contenders(replace(s, dtype=torch.float64, meta_batch=2), method)
    ours = ways.pop("innerloop")()
    norm = torch.stack([g.norm() for g in ours.values()]).norm()
    found = {}
    for name, step in ways.items():
        theirs = step()
        error = float(torch.stack([(theirs[n] - g).norm() for n, g in ours.items()]).norm() / norm)
        if not error < 1e-9:
            raise AssertionError(f"{s.name}: the meta-gradient of {name} differs by {error:.1e} of its norm")
        found[name] = float(f"{error:.1e}")
    return found


def cell(s: Setting, method: str, rounds: int) -> dict:
    """One setting and method: medians of CPU seconds, and of ratios round by round."""
    ways, missing = contenders(s, method)
    difference = check(s, method)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            step = ways[name]
            began = time.process_time()
            step()
            seconds[name].append(time.process_time() - began)
    rows = []
    for name, times in seconds.items():
        ratios = [t / o for t, o in zip(times, seconds["innerloop"], strict=True)]
        row = {"name": name, "seconds": round(statistics.median(times), 4)}
        if name != "innerloop":
            low, _, high = statistics.quantiles(ratios, n=4)
            row |= {"ratio": round(statistics.median(ratios), 3), "ratio_quartiles": [round(low, 3), round(high, 3)]}
            row["gradient_difference_float64"] = difference[name]
        rows.append(row)
        print(f"{s.name:28} {method:5} {row}", flush=True)
    return {"setting": s.name, "method": method, "rounds": rounds, "rows": rows, "not_run": missing}


def machine() -> dict[str, str | int]:
    """What the numbers belong to."""
    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {k.strip(): v.strip() for k, v in fields.items()}
        processor = "{} (family {}, model {})".format(
            *(fields.get(k, "?") for k in ("model name", "cpu family", "model"))
        )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": processor,
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "kernel": KERNEL[1].state,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="times four in the shortest cell")
    parser.add_argument("--tasks", type=int, help="of a meta-batch; the published number where it is not given")
    parser.add_argument("--only", default="", help="run the cells whose 'setting method' contains this")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    settings = [replace(s, meta_batch=given.tasks or s.meta_batch) for s in SETTINGS]
    where = machine()
    cells = [
        cell(s, method, given.rounds if s.pool or method == "maml" else 4 * given.rounds)
        for s in settings
        for method, _ in METHODS
        if given.only in f"{s.name} {method}"
    ]
    result = {
        "what": "one meta-step, CPU seconds; ratio = median over rounds of (peer / innerloop)",
        "machine": where,
        "settings": [asdict(s) | {"dtype": str(s.dtype)} for s in settings],
        "cells": cells,
    }
    if given.out:
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
