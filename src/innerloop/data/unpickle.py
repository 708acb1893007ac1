"""Pickles of arrays from strangers: only arrays and plain values can come out, and nothing can run."""

import _codecs
import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.data.places import DataCorrupt

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_FROM_BUFFER: Any = np.zeros(1).__reduce_ex__(5)[0]
_SCALAR = np.float64(0).__reduce__()[0]

ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("_codecs", "encode"): _codecs.encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("__builtin__", "list"): list,
    ("builtins", "list"): list,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("__builtin__", "bytearray"): bytearray,
    ("builtins", "bytearray"): bytearray,
}
"""what a pickle may name; no module is imported for its sake"""


class _Plain(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}, which no file of images needs"
            ) from None


def unpickle(content: bytes, path: Path | str) -> Any:
    """The value pickled in `content` (of Python 2 or 3); raises DataCorrupt naming `path`."""
    try:
        return _Plain(io.BytesIO(content), encoding="latin1").load()
    except Exception as e:  # a broken pickle can raise anything: UnpicklingError, EOFError, KeyError, MemoryError …
        raise DataCorrupt(f"{path} is refused as a pickle of images: {e or type(e).__name__}") from e
