"""What a step costs: training steps and test-time adaptation of several methods, timed in turn in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


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
