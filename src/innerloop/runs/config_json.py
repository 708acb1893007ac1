"""From the plain values of a JSON file back to a configuration."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.validated import field_types

T = TypeVar("T")


def config_from_json(cls: type[T], value: object, at: str = "") -> T:
    """The dataclass `cls` with the values of a JSON object; a field that lacks has its default.

    Raises InnerloopError for a field that `cls` does not have and for one that lacks; `cls` itself refuses values.
    """
    if not isinstance(value, Mapping):
        raise InnerloopError(f"{at or 'the configuration'} must be an object of settings, got {quoted(value)}")
    kinds, prefix = field_types(cls), f"{at}." if at else ""
    for name in value:
        if name not in kinds:
            near = did_you_mean(name, kinds)
            raise InnerloopError(f"the configuration has {prefix}{name}, which this version does not know{near}")
    for f in fields(cast(Any, cls)):
        if f.name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise InnerloopError(f"the configuration lacks {prefix}{f.name}")
    parts = {n: config_from_json(kinds[n], v, prefix + n) if is_dataclass(kinds[n]) else v for n, v in value.items()}
    return cls(**parts)
