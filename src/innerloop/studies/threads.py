"""Independent measurements at once: PyTorch computes without Python's lock, so threads share out the cores."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from innerloop.studies.stage import Stage

Work = Callable[[], Any]


def in_turn(works: Sequence[Work]) -> list[Any]:
    """What each of them gives, one after the other."""
    return [work() for work in works]


class Threads:
    """`jobs` threads. Each computes with as many threads of PyTorch's as `torch.set_num_threads` says."""

    def __init__(self, jobs: int, report: Callable[[Stage], None]) -> None:
        self._jobs, self._report = jobs, report
        self._lock, self._ended = threading.Lock(), threading.Event()

    def report(self, stage: Stage) -> None:
        """To be called by the works now and then: an error in one of them, or Ctrl-C, ends the others here."""
        with self._lock:
            if self._ended.is_set():
                raise KeyboardInterrupt
            self._report(stage)

    def __call__(self, works: Sequence[Work]) -> list[Any]:
        """What each of the works gives, in their order."""
        if self._jobs == 1:
            return in_turn(works)
        pool = ThreadPoolExecutor(self._jobs)
        try:
            futures = [pool.submit(work) for work in works]
            first, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in first:
                future.result()  # raises
            return [future.result() for future in futures]
        except BaseException:
            self._ended.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
