"""From the plain values of a JSON file back to a configuration."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from innerloop.errors import InnerloopError

T = TypeVar("T")


def from_plain(cls: type[T], value: object, at: str = "") -> T:
    """The frozen dataclass `cls` with the values of a JSON object; a field that lacks has its default.

    Raises ValueError, which names the field, for a value of another type and for a field that `cls` does not have.
    """
    if not isinstance(value, Mapping):
        raise InnerloopError(f"{at or 'the configuration'} must be an object of settings, got {value!r}")
    own = {f.name: f for f in fields(cast(Any, cls))}
    if unknown := [str(k) for k in value if k not in own]:
        raise InnerloopError(f"the configuration has {_list(at, unknown)}, which this version does not know")
    if lacking := [
        n for n, f in own.items() if n not in value and f.default is MISSING and f.default_factory is MISSING
    ]:
        raise InnerloopError(f"the configuration lacks {_list(at, lacking)}")
    kinds = get_type_hints(cls)
    return cls(**{k: _value(kinds[k], v, f"{at}.{k}" if at else k) for k, v in value.items()})


def _list(at: str, names: list[str]) -> str:
    return ", ".join(f"{at}.{n}" if at else n for n in names)


def _value(kind: Any, value: Any, at: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return from_plain(cast(Any, kind), value, at)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        errors = []
        for one in (k for k in inner if k is not type(None)):
            try:
                return _value(one, value, at)
            except ValueError as error:
                errors.append(str(error))
        raise InnerloopError("; or ".join(dict.fromkeys(errors)))
    if origin is Literal:
        if value in inner:
            return value
        raise InnerloopError(f"{at} must be one of {', '.join(map(str, inner))}; got {value!r}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InnerloopError(f"{at} must be a list, got {value!r}")
        parts = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(parts) != len(value):
            raise InnerloopError(f"{at} must have {len(parts)} values, got {value!r}")
        return tuple(_value(k, v, f"{at}[{i}]") for i, (k, v) in enumerate(zip(parts, value, strict=True)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise InnerloopError(f"{at} must be a number, got one of {len(str(value))} digits") from None
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    if kind in words and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise InnerloopError(f"{at} must be {words[kind]}, got {value!r}")
    return value
