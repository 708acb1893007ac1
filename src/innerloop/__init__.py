"""innerloop: few-shot meta-learning, and the study of why it works.

The public API is what `__init__.pyi` lists, in the order of the docs; other modules may change without a word in the
changelog. The names are loaded when first used, so that the command line starts without PyTorch.
"""

import importlib
import pkgutil
import re
from typing import Any

from innerloop.version import __version__ as __version__

_STUB = pkgutil.get_data("innerloop", "__init__.pyi")
if _STUB is None:
    raise ImportError("innerloop is installed without __init__.pyi, which lists its public names")
_LISTED = re.findall(r"^from (\S+) import (\w+) as", _STUB.decode(), re.MULTILINE)
_MODULE_OF: dict[str, str] = {name: module for module, name in _LISTED}
_EXTRA = ("innerloop.estimator",)
"""modules that need packages of an extra: `from innerloop import *` leaves them alone"""

__all__ = [n for n, m in _MODULE_OF.items() if m not in _EXTRA]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'innerloop' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # `innerloop.evaluate` is the function, also once the package of that part is imported
    return value


def __dir__() -> list[str]:
    return [*_MODULE_OF]
