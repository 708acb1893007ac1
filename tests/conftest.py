"""For every test: signatures are checked at run time, one thread, and the same examples on every run."""

from jaxtyping import install_import_hook

install_import_hook("innerloop", "beartype.beartype")  # before anything of the package is imported

import inspect  # noqa: E402

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from innerloop.validated import Validated  # noqa: E402
from planting import pytest_addoption, pytest_runtestloop  # noqa: E402, F401  the hooks of --plant

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("fixed")


def configs(base: type = Validated) -> list[type]:
    """All configuration classes that have been imported."""
    return [c for sub in base.__subclasses__() for c in (sub, *configs(sub))]


def pytest_collection_finish() -> None:
    """Configurations check their own fields: take the import hook's check off their constructors, so that theirs is
    the one that is tested."""
    for cls in configs():
        cls.__init__ = inspect.unwrap(cls.__init__)
