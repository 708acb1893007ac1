"""Anything can be a job: here least squares by Adam, which one loop trains, stops, resumes and judges as ours."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import innerloop as il
from innerloop.training import Interrupted, Progress
from planting import plants

WANTED = torch.tensor([1.0, -2.0, 3.0])


def line(steps: int = 9) -> tuple[il.Job, Tensor]:
    """y = x · w; the data of a step depend on the step alone."""
    w = torch.nn.Parameter(torch.zeros(3))
    adam = torch.optim.Adam([w], lr=0.5, foreach=False)

    def step(i: int) -> dict[str, float]:
        x = torch.randn(8, 3, generator=il.generator_for(0, "line", i))
        loss = (x @ (w - WANTED)).square().mean()
        if not loss.isfinite():
            raise FloatingPointError(f"the loss at step {i} is {loss}")
        adam.zero_grad()
        loss.backward()
        adam.step()
        return {"loss": loss.item(), "first": w[0].item()}

    def validate() -> dict[str, float]:
        return {"validation": (w - WANTED).square().sum().item(), "last": w[2].item()}

    job = il.Job(
        steps, step, {"w": w}, [(adam, {"w": w})], 3, validate, larger_is_better=False, averaged=("loss",), log_every=2
    )
    return job, w


def stop_at(step: int):
    def report(p: Progress) -> None:
        if p.step == step:
            raise BrokenPipeError

    return report


@plants(
    "the steps before an interruption count in no mean",
    "training.loop:Checkpoint",
    lambda right: lambda step, *more: right(step, *more[:-1], {**more[-1], "sums": [0.0], "count": 0}),
)
@plants(
    "an interruption keeps the weights of the last validation",
    "training.loop:load_weights",
    lambda right: lambda tensors, checkpoint: None,
)
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_it_resumes_to_the_same_bits(cut: int, tmp_path: Path) -> None:
    whole, w = line()
    folder = il.run(whole, tmp_path / "whole", {"kind": "line"})
    with pytest.raises(Interrupted, match=f"step {cut}"):
        il.run(line()[0], tmp_path / "cut", {"kind": "line"}, report=stop_at(cut))
    again, v = line()
    other = il.run(again, tmp_path / "cut", {"kind": "line"}, resume=True)
    assert torch.equal(w, v)
    rows = [[{k: x for k, x in r.items() if k != "seconds"} for r in f.metrics] for f in (folder, other)]
    assert rows[0] == rows[1]


@plants(
    "the largest loss is the best",
    "training.loop:run",
    lambda right: lambda job, *more, **options: right(replace(job, larger_is_better=True), *more, **options),
)
@plants(
    "a line has the latest loss, not the mean",
    "training.loop:run",
    lambda right: lambda job, *more, **options: right(replace(job, averaged=()), *more, **options),
)
def test_what_its_folder_holds(tmp_path: Path) -> None:
    """Means since the last line, the latest of the rest, the best by the smallest validation."""
    job, _ = line()
    seen: list[Progress] = []
    folder = il.run(job, tmp_path / "r", {"kind": "line"}, report=seen.append)
    assert [r["step"] for r in folder.metrics] == [2, 3, 4, 6, 8, 9]
    losses = [p.numbers["loss"] for p in seen]
    assert folder.metrics[0]["loss"] == pytest.approx(sum(losses[:2]) / 2)
    assert folder.metrics[1]["loss"] == losses[2]
    assert folder.metrics[3]["first"] == seen[5].numbers["first"]
    judged = {r["step"]: r["validation"] for r in folder.metrics if "validation" in r}
    assert list(judged) == [3, 6, 9]
    best = min(judged, key=lambda s: judged[s])
    assert (folder.summary["best_step"], folder.summary["best_validation"]) == (best, judged[best])
    assert folder.load("best").step == best
    assert folder.config == {"kind": "line"}


def test_numbers_that_are_not_finite_leave_the_last_checkpoint(tmp_path: Path) -> None:
    job, w = line()

    def spoil(p: Progress) -> None:
        if p.step == 4:
            w.data.fill_(torch.inf)

    with pytest.raises(FloatingPointError, match=r"step 4.*checkpoint"):
        il.run(job, tmp_path / "r", {}, report=spoil)
    assert bool(torch.isfinite(il_weights(tmp_path / "r")).all())


def il_weights(path: Path) -> Tensor:
    from innerloop.runs import RunFolder

    return RunFolder(path).load("last").weights["w"]
