"""Pickles of arrays from strangers: only arrays and plain values can come out, and nothing can run.

The opcodes are handled as by the standard library's unpickler in Python. The one in C cannot be told what it may do:
ten bytes make it reserve 32 GB, a key of nested tuples ends the process, and `BUILD` sets attributes of whatever it
meets. Here an opcode that no file of arrays needs is refused, no object of NumPy is given out, keys are text, and
arrays are built from parts that have been checked.
"""

import io
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from innerloop.data.paths import DataCorrupt
from innerloop.errors import brief

STEPS = 2_000_000
"""the most opcodes; CIFAR-100 takes 200,000"""
_CODE = re.compile(r"[<>=|]?[biufcSU][1-9]\d{0,5}")
_PAIR = 100
"""bytes that an entry of a dict takes"""


@dataclass
class _Dtype:
    """Stands for `numpy.dtype`: numbers or text of a fixed width, of which only the byte order can be changed."""

    value: np.dtype[Any]


_NDARRAY = object()
"""stands for `numpy.ndarray`: the first argument of `_reconstruct`, and good for nothing else"""


def _dtype(code: Any, align: Any = False, copy: Any = False) -> _Dtype:  # noqa: ARG001 (NumPy's signature)
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise pickle.UnpicklingError(f"it holds an array of {brief(code)}, neither numbers nor text")
    return _Dtype(np.dtype(code))


def _set_dtype(dtype: _Dtype, state: Any) -> None:
    match state:
        case (3, "<" | ">" | "=" | "|" as order, None, None, None, size, _, _) if size in (-1, dtype.value.itemsize):
            dtype.value = dtype.value.newbyteorder("=" if order == "|" else order)
        case _:
            raise pickle.UnpicklingError("it changes more of a dtype than its byte order")


def _reconstruct(kind: Any, shape: Any, _: Any) -> NDArray[Any]:
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("it makes an array that is not empty at first")
    return np.empty(0, np.int8)


def _set_array(array: NDArray[Any], state: Any) -> None:
    match state:
        case (1, tuple() as shape, _Dtype() as dtype, 0 | 1 as fortran, str() | bytes() as raw):
            content = _content(raw, shape, dtype)
            if array.shape != (0,):
                raise pickle.UnpicklingError("it fills an array twice")
            array.__setstate__((1, shape, dtype.value, bool(fortran), content))  # pyright: ignore[reportArgumentType]
        case _:
            raise pickle.UnpicklingError("it holds an array whose state is not that of numbers or text")


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("it holds an array whose state is not that of numbers or text")
    content = _content(raw, shape, dtype)
    if order == "K":
        return np.ndarray(shape, dtype.value, content).transpose(axes)
    return np.ndarray(shape, dtype.value, content, order=order)


def _scalar(dtype: Any, raw: Any) -> Any:
    return _frombuffer(raw, dtype, (), "C")[()]


def _content(raw: Any, shape: tuple[Any, ...], dtype: _Dtype) -> bytes:
    """The bytes of an array, if they are as many as shape and type say."""
    raw = _encode(raw) if isinstance(raw, str) else raw  # Python 2 has no bytes
    whole = len(shape) <= 32 and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if type(raw) is not bytes or not whole or len(raw) != math.prod(shape) * dtype.value.itemsize:
        raise pickle.UnpicklingError("it holds an array whose shape does not fit its bytes")
    return raw


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str):
        raise pickle.UnpicklingError(f"it makes bytes of a {type(text).__name__}")
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {brief(encoding)}")
    return text.encode("latin1")


def _bytes(text: Any = b"", encoding: Any = "latin1") -> bytes:
    return text if isinstance(text, bytes) else _encode(text, encoding)


def _dict(*args: Any) -> dict[Any, Any]:
    """Of OrderedDict (its pairs, from Python 2) and defaultdict (what it makes of missing keys, which nobody asks)."""
    pairs = args[0] if args and isinstance(args[0], list) else []
    return _put({}, [x for key, value in pairs for x in (key, value)])


def _list() -> list[Any]:
    return []


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _dict,
    ("collections", "defaultdict"): _dict,
    ("__builtin__", "list"): _list,
    ("builtins", "list"): _list,
    ("__builtin__", "bytes"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytearray"): _bytes,
    ("builtins", "bytearray"): _bytes,
}
"""what a pickle may name, and what it gets; no module is imported for its sake"""


def _put(into: Any, items: list[Any]) -> dict[Any, Any]:
    """Keys and values, in turn, into a dict."""
    if type(into) is not dict or not all(type(key) in (str, bytes) for key in items[::2]):
        raise pickle.UnpicklingError("it holds a dict with a key that is not text")
    into.update(zip(items[::2], items[1::2], strict=True))
    return into


class _Arrays(pickle._Unpickler):
    """Raises UnpicklingError, or nearly anything else, for what is not plain arrays and values."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.steps = STEPS
        self.room = (1 << 20) + 2 * len(content)
        """bytes that calls may take: a value can be used any number of times, and may not be copied as often"""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            what = brief(f"{module}.{name}")
            raise pickle.UnpicklingError(f"it names {what}, which no file of images needs") from None

    def _take(self, arguments: Any) -> None:
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("it has arguments that are not a tuple")
        for a in arguments:
            self.room -= len(a) * (_PAIR if type(a) is list else 1) if type(a) in (str, bytes, list) else 0
        if self.room < 0:
            raise pickle.UnpicklingError("it copies more than it holds")

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self._take(arguments)
        self.stack[-1] = self.stack[-1](*arguments)  # nothing but the functions of ALLOWED can be called

    def _build(self) -> None:
        state = self.stack.pop()
        self._take(state)
        value = self.stack[-1]
        if type(value) is _Dtype:
            _set_dtype(value, state)
        elif type(value) is np.ndarray:
            _set_array(value, state)
        else:
            raise pickle.UnpicklingError(f"it sets the state of a {type(value).__name__}")

    def _new_dict(self) -> None:
        items = self.pop_mark()
        self.append(_put({}, items))

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [key, value])

    def _set_items(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], items)

    def _add(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError(f"it appends to a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)


def _counted(step: Callable[[Any], None]) -> Callable[[_Arrays], None]:
    def run(self: _Arrays) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise pickle.UnpicklingError(f"it takes more than {STEPS:,} steps")
        step(self)

    return run


def _refused(code: int) -> Callable[[_Arrays], None]:
    def run(_: _Arrays) -> None:
        raise pickle.UnpicklingError(f"it has the opcode {bytes([code])!r}, which no file of images needs")

    return run


_AS_EVER = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES "
    "SHORT_BINBYTES BINBYTES8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST EMPTY_DICT GLOBAL STACK_GLOBAL "
    "GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE"
)
_OWN = {
    pickle.REDUCE: _Arrays._reduce,
    pickle.BUILD: _Arrays._build,
    pickle.DICT: _Arrays._new_dict,
    pickle.SETITEM: _Arrays._set_item,
    pickle.SETITEMS: _Arrays._set_items,
    pickle.APPEND: lambda self: self._add([self.stack.pop()]),
    pickle.APPENDS: lambda self: self._add(self.pop_mark()),
    pickle.BYTEARRAY8: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
}
_STEPS = {code[0]: step for code, step in _OWN.items()}
_STEPS |= {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _AS_EVER.split()}
_Arrays.dispatch = {code: _counted(_STEPS[code]) if code in _STEPS else _refused(code) for code in range(256)}  # pyright: ignore[reportAttributeAccessIssue]


def unpickle(content: bytes, path: Path | str) -> Any:
    """The value pickled in `content` (of Python 2 or 3): arrays, numbers, text, and lists, tuples and dicts of them.

    What is no data may be among them (a stand-in for a type), so ask for the type of each value that is used. Raises
    DataCorrupt naming `path`.
    """
    try:
        return _Arrays(content).load()
    except Exception as e:  # a broken pickle can raise anything: UnpicklingError, EOFError, IndexError, MemoryError …
        raise DataCorrupt(f"{path} is refused as a pickle of images: {brief(e) or type(e).__name__}") from e
