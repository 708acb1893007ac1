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


def unchecked(cls: type, *_: object, **__: object) -> object:
    """A configuration checks its own fields, which is what is to be tested: its constructor loses the hook's check."""
    cls.__init__ = inspect.unwrap(cls.__init__)
    return object.__new__(cls)


Validated.__new__ = unchecked
