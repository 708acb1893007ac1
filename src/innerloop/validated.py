"""The base of every configuration: a frozen dataclass whose fields are checked against their annotations.

    @dataclass(frozen=True)
    class OuterLoop(Validated, at="outer"):
        steps: Count = 1000
        lr: Annotated[float, above(0), at_most(1)] = 1e-3
        schedule: Literal["constant", "cosine"] = "constant"

    OuterLoop(schedule="cosin")  # outer.schedule must be constant or cosine, got 'cosin'; did you mean 'cosine'?

NumPy's numbers, lists for tuples and integers for floats are accepted, and stored as what the annotation says. A float
is finite, in float32 too, since that is what PyTorch computes with.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from innerloop.errors import InnerloopError, did_you_mean, quoted

_FLOAT32_MAX = 3.4028234663852886e38


@dataclass(frozen=True)
class Bound:
    """What a value must be, beyond its type: metadata of an `Annotated` field."""

    words: str
    holds: Callable[[Any], bool]
    advice: str = ""
    """what to do instead"""


def at_least(limit: int | float, advice: str = "") -> Bound:
    """value ≥ `limit`"""
    return Bound(f"at least {limit}", lambda v: v >= limit, advice)


def above(limit: int | float) -> Bound:
    """value > `limit`"""
    return Bound(f"above {limit}", lambda v: v > limit)


def at_most(limit: int | float) -> Bound:
    """value ≤ `limit`"""
    return Bound(f"at most {limit}", lambda v: v <= limit)


def below(limit: int | float) -> Bound:
    """value < `limit`"""
    return Bound(f"below {limit}", lambda v: v < limit)


NOT_EMPTY = Bound("one value or more", bool)

Count = Annotated[int, at_least(1), at_most(10**9)]
Natural = Annotated[int, at_least(0), at_most(10**9)]
Several = Annotated[int, at_least(2), at_most(10**9)]
"""as many as an interval needs"""
Width = Annotated[int, at_least(1), at_most(2**16)]
"""of a layer or an image"""
Channels = Annotated[int, Bound("1 (grey) or 3 (RGB)", (1, 3).__contains__)]
Widths = Annotated[tuple[Width, ...], NOT_EMPTY]
Threads = Annotated[int, at_least(0), at_most(1024)]
Positive = Annotated[float, above(0)]
NonNegative = Annotated[float, at_least(0)]
OptimizerRate = Annotated[float, above(0), at_most(1e30)]
"""times Adam's bias correction it is a float32 still"""
Decay = Annotated[float, at_least(0), at_most(0.999999)]
"""of an optimizer's running mean"""


class Validated:
    """Base class of frozen dataclasses that refuse what does not fit.

    `at` is the path by which the whole configuration holds the class, and by which errors name its fields. A subclass
    with a `__post_init__` of its own calls this one first.
    """

    _prefix: ClassVar[str] = ""

    def __init_subclass__(cls, *, at: str = "") -> None:
        super().__init_subclass__()
        cls._prefix = f"{at}." if at else ""

    def __post_init__(self) -> None:
        for name, kind in field_types(type(self)).items():
            value = checked(kind, getattr(self, name), self._prefix + name)
            object.__setattr__(self, name, value)


@cache
def field_types(cls: Any) -> dict[str, Any]:
    """The annotations of a dataclass's fields by name, `Annotated` metadata included."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in fields(cls)}


class WrongType(InnerloopError):
    """The value is of another type than the annotation says."""


def checked(kind: Any, value: Any, at: str) -> Any:
    """`value` as an instance of the annotation `kind`. Raises InnerloopError, which names the field `at`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = checked(inner[0], value, at)
        for bound in inner[1:]:
            if isinstance(bound, Bound) and not bound.holds(found):
                advice = f" ({bound.advice})" if bound.advice else ""
                raise InnerloopError(f"{at} must be {bound.words}, got {quoted(value)}{advice}")
        return found
    if origin in (Union, UnionType):
        for one in inner:
            try:
                return checked(one, value, at)
            except WrongType:
                pass
    elif origin is Literal:
        for member in inner:
            if isinstance(value, type(member)) and value == member:
                return member
    elif origin in (tuple, Sequence):
        if isinstance(value, list | tuple):
            if origin is Sequence or inner[-1] is Ellipsis:
                return tuple(checked(inner[0], v, f"{at}[{i}]") for i, v in enumerate(value))
            if len(value) == len(inner):
                return tuple(checked(k, v, f"{at}[{i}]") for i, (k, v) in enumerate(zip(inner, value, strict=True)))
    elif kind is int:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
    elif kind is float:
        if isinstance(value, Real) and not isinstance(value, bool):
            return _finite(value, at)
    elif isinstance(value, kind):
        return str(value) if kind is str else value
    names = [name for k in (inner if origin in (Union, UnionType) else [kind]) for name in _members(k)]
    raise WrongType(f"{at} must be {_described(kind)}, got {quoted(value)}{did_you_mean(value, names)}")


def _finite(value: Real, at: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # an integer of more than 308 digits
        number = math.inf
    if not abs(number) <= _FLOAT32_MAX:
        raise InnerloopError(f"{at} must be a finite number (of float32, so at most 3.4e38), got {quoted(value)}")
    return number


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _described(kind: Any) -> str:
    """What an annotation asks for, as text."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _described(inner[0])
    if origin is Literal or origin in (Union, UnionType):
        words = [str(k) if origin is Literal else _described(k) for k in inner]
        last = ", or " if origin is not Literal and len(_members(inner[0])) > 1 else " or "
        return last.join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    if origin in (tuple, Sequence):
        size = "" if origin is Sequence or inner[-1] is Ellipsis else f"{len(inner)} values: "
        parts = inner[:1] if not size else inner
        return f"a list of {size}{', '.join(map(_described, parts))}"
    named = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}
    return named.get(kind, f"a {kind.__name__}")
