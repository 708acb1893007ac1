"""ANIL's head in closed form (`innerloop.core.linear_head`) against the general inner loop through autograd.

    python benchmarks/linear_head.py --out results/speed_linear_head.json

Two things in the shapes of Omniglot's settings, on random images: the head alone (inner steps on given
features, the query loss, and the gradient by features and head), and a whole meta-step of ANIL. The general loop is
forced by a head that does not say it is linear; both share all else. The gradients are compared in float64 first. One
thread, CPU time of the process; the contenders alternate, and a ratio is the median over rounds of (general loop /
closed form), with its quartiles.
"""

import argparse
import json
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from meta_step import SETTINGS, Gradient, Setting, machine
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import cross_entropy
from innerloop.core.outer import meta_gradient
from innerloop.core.random import generator_for
from innerloop.methods.method import predictor
from innerloop.models import Linear, conv4
from innerloop.training.presets import preset

Contenders = Mapping[str, Callable[[], Gradient]]


class Looped(Linear):
    """The same layer; its own `forward` keeps it from being taken for a linear head."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


@dataclass(frozen=True)
class Case:
    """The published setting of Omniglot with 20 ways, or a preset for a CPU."""

    setting: Setting
    affine: bool = True
    readout: str = "mean"
    chunks: tuple[int, ...] = (1,)
    """tasks at once, for the closed form and the general loop alike"""

    def model(self, looped: bool) -> nn.Sequential:
        s = self.setting
        model = conv4(
            s.way,
            channels=s.channels,
            image_size=s.image_size,
            filters=s.filters,
            downsample="max_pool" if s.pool else "stride",
            readout=self.readout,  # pyright: ignore[reportArgumentType]
            affine=self.affine,
            generator=generator_for(0, "init"),
        ).to(s.dtype)
        if looped:
            head = Looped(model.head.in_features, s.way, readout=model.head.readout).to(s.dtype)
            head.load_state_dict(model.head.state_dict())
            model.head = head
        return model


def of_preset(name: str) -> Case:
    """The shapes of `train --preset NAME --method anil`."""
    c = preset(name, "anil")
    made = Setting(
        name,
        c.way,
        c.query,
        c.outer.meta_batch,
        1,
        28,
        c.model.filters,
        pool=c.model.downsample == "max_pool",
        inner_lr=c.inner.lr,
        inner_steps=c.inner.steps,
    )
    return Case(made, c.model.affine, c.model.readout, (1, c.outer.meta_batch))


CASES = (
    Case(SETTINGS[0]),
    of_preset("omniglot-5way-1shot-cpu"),
    of_preset("omniglot-20way-1shot-cpu"),
)


def whole(case: Case, chunk: int) -> Contenders:
    """A meta-step of ANIL."""
    s, e = case.setting, case.setting.episodes()
    inner = InnerLoop(blocks="head", steps=s.inner_steps, lr=s.inner_lr)

    def step(looped: bool) -> Callable[[], Gradient]:
        model = case.model(looped)
        predict, weights = predictor(model, inner), slow_weights(model)
        return lambda: meta_gradient(predict, weights, e, cross_entropy, task_chunk=chunk).gradient

    return {"closed form": step(False), "general loop": step(True)}


def head_alone(case: Case, chunk: int) -> Contenders:
    """The same on features that are given, which get a gradient too."""
    s, head = case.setting, case.model(False).head
    g = generator_for(0, "features")
    n, width = s.way * (1 + s.query), head.in_features
    labels = torch.arange(s.way).repeat(1 + s.query).expand(s.meta_batch, -1)
    h = torch.rand(s.meta_batch, n, width, generator=g).to(s.dtype).requires_grad_()
    inner = InnerLoop(blocks="head", steps=s.inner_steps, lr=s.inner_lr)

    def step(looped: bool) -> Callable[[], Gradient]:
        model = nn.Sequential(OrderedDict(head=case.model(looped).head))
        predict, slow = predictor(model, inner), slow_weights(model)

        def run() -> Gradient:
            total = {n: torch.zeros_like(w) for n, w in slow.items()} | {"features": torch.zeros_like(h)}
            for i in range(0, s.meta_batch, chunk):
                x, y = h[i : i + chunk], labels[i : i + chunk]
                e = Episodes(x[:, : s.way], y[:, : s.way], x[:, s.way :], y[:, s.way :])
                loss = cross_entropy(predict(slow, e), e.query_y).sum() / s.meta_batch
                for name, found in zip(total, torch.autograd.grad(loss, [*slow.values(), h]), strict=True):
                    total[name] += found
            return total

        return run

    return {"closed form": step(False), "general loop": step(True)}


def difference(ways: Contenders) -> float:
    """Norm of the difference of the gradients over their norm."""
    one, other = (way() for way in ways.values())
    gap, norm = (torch.stack([t.norm() for t in ts]).norm() for ts in ([one[n] - other[n] for n in one], one.values()))
    return float(gap / norm)


def measure(ways: Contenders, rounds: int, inside: int) -> dict[str, float | list[float]]:
    """Medians of CPU milliseconds, and of the ratios round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        for name in list(ways)[:: 1 if i % 2 else -1]:
            began = time.process_time()
            for _ in range(inside):
                ways[name]()
            seconds[name].append((time.process_time() - began) / inside)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        **{f"ms {name}": round(1000 * statistics.median(t), 3) for name, t in seconds.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_quartiles": [round(low, 2), round(high, 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        s = case.setting
        if given.only not in s.name:
            continue
        exact = replace(case, setting=replace(s, dtype=torch.float64, meta_batch=min(2, s.meta_batch)))
        for what, make, inside in (("head alone", head_alone, 5), ("meta-step", whole, 1)):
            gap = difference(make(exact, 2))
            if not 0 < gap < 1e-10:  # 0: it was one path
                raise AssertionError(f"{s.name}, {what}: the gradients differ by {gap:.1e} of their norm")
            for chunk in case.chunks:
                ways = make(case, chunk)
                gap32 = difference(ways)
                row = {"case": s.name, "what": what, "inner_steps": s.inner_steps, "tasks": s.meta_batch}
                row |= {"task_chunk": chunk, **measure(ways, given.rounds, inside)}
                row |= {"difference_float64": float(f"{gap:.1e}"), "difference_float32": float(f"{gap32:.1e}")}
                rows.append(row)
                print(row, flush=True)
    if given.out:
        what = "CPU time; ratio = median over rounds of (general loop / closed form)"
        given.out.write_text(json.dumps({"what": what, "machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
