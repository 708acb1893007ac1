"""The check of signatures while tests run: shapes where a signature has arrays, beartype alone elsewhere.

jaxtyping's wrapper binds the arguments and keeps a table of axis sizes at every call. Only signatures with shapes need
it; on the many small functions without, it cost more than what they do.
"""

import dataclasses
import inspect
from functools import partial, update_wrapper
from types import CodeType, FunctionType
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype

_with_shapes = jaxtyping.jaxtyped
_without = beartype(conf=BeartypeConf(violation_type=TypeError))  # what jaxtyping raises is a TypeError, too
_made: dict[CodeType, tuple[dict[str, Any], Any]] = {}


def has_shapes(annotation: Any) -> bool:
    """Whether an array of jaxtyping's stands anywhere in it: `Float[Tensor, "n d"]`, `dict[str, …] | None`."""
    if isinstance(annotation, list | tuple):  # the parameters of a Callable
        return any(map(has_shapes, annotation))
    is_array = inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray)
    return is_array or any(map(has_shapes, get_args(annotation)))


def _in_quotes(annotation: Any) -> bool:
    """Whether a class is named in quotes: it may be there for type checkers only, so it is not looked up."""
    if get_origin(annotation) is Literal:
        return False
    return isinstance(annotation, str | ForwardRef) or any(map(_in_quotes, get_args(annotation)))


def _constant_time(function: Any) -> Any:
    annotations = function.__annotations__
    before, found = _made.get(function.__code__, (None, None))
    if before == annotations:
        return _made_again(found, function)
    function.__annotations__ = {n: Any if _in_quotes(a) else a for n, a in annotations.items()}
    found = _without(function)
    function.__annotations__ = found.__annotations__ = annotations
    _made[function.__code__] = annotations, found
    return found


def _made_again(found: Any, function: Any) -> Any:
    """The same check around a function defined again, as one within a function is at every call of that."""
    if not hasattr(found, "__wrapped__"):  # nothing to check
        return function
    new = FunctionType(found.__code__, found.__globals__)
    new.__kwdefaults__ = {**found.__kwdefaults__, "__beartype_func": function}
    return update_wrapper(new, function)


def checked(target: Any = None, *, typechecker: Any) -> Any:
    """Takes the place of `jaxtyping.jaxtyped` in the code that the import hook writes."""
    if target is None:
        return partial(checked, typechecker=typechecker)
    if inspect.isclass(target):
        # A configuration checks its own fields, which is what is to be tested.
        validated = any(base.__name__ == "Validated" for base in target.__mro__)
        if dataclasses.is_dataclass(target) and not validated and "__init__" in vars(target):
            target.__init__ = checked(target.__init__, typechecker=typechecker)
        return target
    if inspect.isfunction(target) and not has_shapes(list(target.__annotations__.values())):
        return _constant_time(target)
    return _with_shapes(target, typechecker=typechecker)


def check_signatures(package: str) -> None:
    """Check those of all modules of the package that are imported from now on."""
    jaxtyping.jaxtyped = checked
    jaxtyping.install_import_hook(package, "beartype.beartype")
