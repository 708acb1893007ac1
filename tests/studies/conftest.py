"""Made images; also prepares the check of signatures for the modules imported after it."""

import sys
from collections.abc import Callable, Iterator, Mapping

import pytest

from innerloop.analysis import cost
from tiny import made_images  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def each_cost_is_timed_once() -> Iterator[None]:
    """How long a step takes is not what these tests are about."""
    right = cost.measure_cost

    def once(work: Mapping[str, Callable[[], object]], *, device: object = "cpu", **_: int) -> cost.Cost:
        return right(work, repeats=1, warm_up=0, device=device)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as m:
        for name, module in list(sys.modules.items()):
            if name.startswith("innerloop.") and vars(module).get("measure_cost") is right:
                m.setattr(module, "measure_cost", once)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_png() -> Iterator[None]:
    """Figures are drawn as SVG; as PNG they take as long again: test_rl_tables.py and tests/report draw some."""
    with pytest.MonkeyPatch.context() as m:
        for name in ("page", "reproduction"):
            m.setattr(f"innerloop.report.{name}.png", lambda figure: b"")
        yield
