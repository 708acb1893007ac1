"""For every test: signatures are checked at run time, one thread, and the same examples on every run."""

from signatures import check_signatures

check_signatures("innerloop")  # before anything of the package is imported

import gc  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from planting import pytest_addoption, pytest_runtestloop  # noqa: E402, F401  the hooks of --plant

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("fixed")


def pytest_collection_finish(session: pytest.Session) -> None:
    """The garbage collector need not look again and again at what importing and collecting left for good."""
    gc.collect()
    gc.freeze()
