"""What a step costs: training steps and test-time adaptation of several methods, timed in turn in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights
from innerloop.core.inner import InnerLoop, with_steps
from innerloop.core.losses import Loss, cross_entropy
from innerloop.core.outer import meta_gradient
from innerloop.methods.catalogue import ANIL, FOMAML, MAML, NIL
from innerloop.methods.method import predictor


@dataclass(frozen=True)
class Cost:
    """Times of several computations, taken in turn."""

    milliseconds: Mapping[str, float]
    """the median over the repeats: CPU time of the process on a CPU, wall time on a GPU"""
    repeats: int
    clock: str

    def ratio(self, slow: str, quick: str) -> float:
        """How many times longer `slow` takes than `quick`."""
        return self.milliseconds[slow] / self.milliseconds[quick]


def measure_cost(
    work: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 9,
    warm_up: int = 2,
    device: torch.device | str = "cpu",
) -> Cost:
    """Time each callable `repeats` times, A B C A B C …, so that a drift of the machine's speed meets all alike."""
    on_gpu = torch.device(device).type == "cuda"
    times: dict[str, list[float]] = {name: [] for name in work}
    clock = time.perf_counter if on_gpu else time.process_time
    for turn in range(warm_up + repeats):
        for name, call in work.items():
            if on_gpu:
                torch.cuda.synchronize()
            start = clock()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            if turn >= warm_up:
                times[name].append(clock() - start)
    return Cost(
        {name: 1e3 * statistics.median(t) for name, t in times.items()},
        repeats,
        "wall time" if on_gpu else "CPU time",
    )


def step_work(
    model: nn.Sequential,
    parameters: Weights,
    batch: Episodes,
    episode: Episodes,
    inner: InnerLoop,
    *,
    test_steps: int,
    loss: Loss = cross_entropy,
    statistics: Literal["batch", "support"] = "batch",
    task_chunk: int | None = None,
) -> tuple[dict[str, Callable[[], dict[str, Tensor]]], dict[str, Callable[[], Tensor]]]:
    """What `step_costs` times: the meta-gradient of `batch` for maml, fomaml and anil; the query outputs of `episode`
    after `test_steps` inner steps for maml and anil, and NIL's for nil.

    A model trained by first-order MAML adapts at test time as MAML does. ANIL runs the body once on the support and
    once on the query set, whatever the steps; so does NIL.
    """
    leaves = {n: p.detach().requires_grad_() for n, p in parameters.items()}
    exact = replace(inner, first_order=False)

    def learn(loop: InnerLoop) -> Callable[[], dict[str, Tensor]]:
        predict = predictor(model, loop, loss=loss, statistics=statistics)
        return lambda: meta_gradient(predict, leaves, batch, loss, task_chunk=task_chunk).gradient

    def infer(loop: InnerLoop, head: Literal["model", "cosine"]) -> Callable[[], Tensor]:
        predict = predictor(model, with_steps(loop, test_steps), head=head, loss=loss, statistics=statistics)

        def run() -> Tensor:
            with torch.no_grad():
                return predict(leaves, episode)

        return run

    training = {m.name: learn(m.inner(exact)) for m in (MAML, FOMAML, ANIL)}
    inference = {
        "maml": infer(MAML.inner(exact), "model"),
        "anil": infer(ANIL.inner(exact), "model"),
        "nil": infer(NIL.inner(exact), "cosine"),
    }
    return training, inference


def step_costs(
    model: nn.Sequential,
    parameters: Weights,
    batch: Episodes,
    episode: Episodes,
    inner: InnerLoop,
    *,
    test_steps: int,
    loss: Loss = cross_entropy,
    statistics: Literal["batch", "support"] = "batch",
    task_chunk: int | None = None,
    repeats: int = 9,
    warm_up: int = 2,
) -> tuple[Cost, Cost]:
    """Time of one training step (maml, fomaml, anil) and of inference on one episode (maml, anil, nil), after Raghu et
    al. 2020, section 4 and appendix C.5.

    `batch` is a meta-batch and `episode` a batch of one test episode, both on the weights' device; `inner` is MAML's
    inner loop in training, `test_steps` its steps at test time. A training step is the meta-gradient; the optimizer's
    step, the same for all, is left out. ``training.ratio("maml", "anil")`` is a speed-up. Only ratios carry over to
    other machines. The number of threads is the caller's choice.
    """
    training, inference = step_work(
        model,
        parameters,
        batch,
        episode,
        inner,
        test_steps=test_steps,
        loss=loss,
        statistics=statistics,
        task_chunk=task_chunk,
    )
    device = next(iter(parameters.values())).device
    return (
        measure_cost(training, repeats=repeats, warm_up=warm_up, device=device),
        measure_cost(inference, repeats=repeats, warm_up=warm_up, device=device),
    )
