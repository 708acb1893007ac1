"""For every test: signatures are checked at run time, one thread, and the same examples on every run."""

import gc

gc.disable()  # see pytest_collection

from signatures import check_signatures  # noqa: E402

check_signatures("innerloop")  # before anything of the package is imported

import shutil  # noqa: E402
import sys  # noqa: E402
from collections.abc import Generator, Iterator  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from planting import pytest_addoption, pytest_runtestloop  # noqa: E402, F401  the hooks of --plant

settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("fixed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The garbage collector need not look again and again at what importing and collecting left for good.

    pytest-xdist's first process collects nothing and need not import torch.
    """
    found = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if kernel := sys.modules.get("innerloop.models.kernel"):
        kernel.kernel_status()  # compiled here where it has to be, and not in some test
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests go to one process, so that what its fixtures make is made once."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium for the tests of a file. No test starts its own: a process runs one Playwright at a time."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()
