"""A module with other tensors in the place of its own.

`Bound` copies the tree of modules, not the tensors: each copy shares its attributes with the original and holds the
tensors that it is given. The original is never written to, so that any number of threads can run one model at once
(`torch.func.functional_call` swaps the tensors of the model itself, which two threads must not do).
"""

import functools
import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.errors import InnerloopError

_STANDARD = frozenset(nn.Module().__dict__)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_PLAIN = (int, float, complex, bool, str, bytes, type(None), type, types.BuiltinFunctionType)
_ATOMS = {*_PLAIN, torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout}
"""types of attributes that hold no module and no tensor"""


class NotBindable(Exception):
    """The module reaches another module in a way that a copy cannot follow (a closure, a compiled function)."""


class Bound:
    """A copy of `module` that holds `slow` weights (by their full name) and copies of its buffers.

    `fast` weights come before the slow ones and may be of another size; so may a head's slow ones of another way.
    """

    module: nn.Module
    norms: dict[str, nn.modules.batchnorm._BatchNorm]
    """the batch normalisations of the copy that would take their statistics from the batch, by full name"""

    def __init__(
        self,
        module: nn.Module,
        slow: Mapping[str, Tensor],
        fast: Mapping[str, Tensor] | None = None,
        *,
        task_axis: bool = False,
    ) -> None:
        """`task_axis`: the `fast` ones have a leading axis of tasks, which the module takes at once."""
        self._root, self._slow, self._fast, self._axes = module, slow, fast or {}, int(task_axis)
        self._copies: dict[int, nn.Module] = {}
        self._bound: dict[int, Tensor] = {}
        self._buffers: list[tuple[str, Tensor, int]] = []
        self.norms = {}
        self.module = self._module(module, "")

    def check_buffers(self) -> None:
        """Raise if the forward pass wrote to a buffer: what it learned there would be lost."""
        for name, buffer, version in self._buffers:
            if buffer._version != version:
                raise InnerloopError(
                    f"the forward pass changes the buffer {name!r}, but meta-learning needs a model that is a function "
                    "of its weights: call model.eval(), or use a layer that keeps nothing from one pass to the next"
                )

    def _module(self, module: nn.Module, prefix: str) -> nn.Module:
        if id(module) in self._copies:
            return self._copies[id(module)]
        if isinstance(module, torch.jit.ScriptModule):
            raise NotBindable
        _check_stateless(module, prefix)
        state = module.__dict__.copy()
        copy = self._copies[id(module)] = object.__new__(type(module))
        state["_parameters"] = {n: self._parameter(p, prefix + n) for n, p in module._parameters.items()}
        state["_buffers"] = {n: self._buffer(b, prefix + n) for n, b in module._buffers.items()}
        state["_modules"] = {
            n: None if m is None else self._module(m, f"{prefix}{n}.") for n, m in module._modules.items()
        }
        for name, value in state.items():
            if name not in _STANDARD and type(value) not in _ATOMS:
                state[name] = self._value(value)
        for hooks in _HOOKS:
            for hook in state[hooks].values():
                _check_function(hook)
        copy.__dict__.update(state)
        if isinstance(copy, nn.modules.batchnorm._BatchNorm) and (copy.training or copy.running_mean is None):
            self.norms[prefix.removesuffix(".")] = copy
        return copy

    def _parameter(self, parameter: Tensor | None, name: str) -> Tensor | None:
        if parameter is None:
            return None
        if id(parameter) not in self._bound:  # a tied parameter has the name of its first place
            fast = name in self._fast
            if not fast and name not in self._slow:
                raise lacking(name)
            given = self._fast[name] if fast else self._slow[name]
            same = given.ndim == parameter.ndim + self._axes if fast else given.shape == parameter.shape
            if not same and (fast or not self._of_another_way(name, given, parameter)):
                kind = "fast weight of each task" if fast else "slow weight"
                raise InnerloopError(
                    f"the {kind} {name!r} must have the axes of the model's parameter, {tuple(parameter.shape)}; got "
                    f"{tuple(given.shape[self._axes if fast else 0 :])}"
                )
            self._bound[id(parameter)] = given
        return self._bound[id(parameter)]

    def _of_another_way(self, name: str, given: Tensor, parameter: Tensor) -> bool:
        """Whether a weight of the last block differs from the model's in its first axis alone: in the outputs."""
        head = next(reversed(self._root._modules), None)
        return name.split(".")[0] == head and given.ndim == parameter.ndim and given.shape[1:] == parameter.shape[1:]

    def _buffer(self, buffer: Tensor | None, name: str) -> Tensor | None:
        if buffer is None:
            return None
        copy = self._bound[id(buffer)] = buffer.clone()
        if not copy.is_inference():
            self._buffers.append((name, copy, copy._version))
        return copy

    def _value(self, value: Any) -> Any:
        """An attribute as the copy must see it: with copies of the modules and tensors that it reaches."""
        if isinstance(value, Tensor):
            return self._bound.get(id(value), value)
        if isinstance(value, nn.Module):  # held, but not registered here: a part of the model, or a constant
            prefix = next((n for n, m in self._root.named_modules() if m is value), None)
            return value if prefix is None else self._module(value, f"{prefix}.")
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(self._value(v) for v in value)
        if type(value) in (dict, OrderedDict):
            return type(value)((k, self._value(v)) for k, v in value.items())
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self._value(value.__self__))
        if isinstance(value, functools.partial):
            return functools.partial(
                self._value(value.func),
                *(self._value(v) for v in value.args),
                **{k: self._value(v) for k, v in value.keywords.items()},
            )
        _check_function(value)
        return value


def lacking(parameter: str) -> InnerloopError:
    """The error for weights that leave a parameter of the model out."""
    return InnerloopError(f"the model has a parameter {parameter!r}, but the slow weights given do not")


def _check_stateless(module: nn.Module, prefix: str) -> None:
    if isinstance(module, nn.modules.batchnorm._NormBase) and module.training and module.track_running_stats:
        raise InnerloopError(
            f"block {prefix.split('.')[0]!r} has a {type(module).__name__} that would update its running statistics in "
            "the forward pass. Use track_running_stats=False (statistics of each task's own batch), or call "
            "model.eval() to normalise by the stored statistics"
        )


def _check_function(value: Any, depth: int = 3) -> None:
    """Raise NotBindable if a function or another object holds a module or a parameter that cannot be replaced."""
    held: list[Any] = []
    if isinstance(value, types.FunctionType):
        held = [*(c.cell_contents for c in value.__closure__ or ()), *(value.__defaults__ or ())]
    elif isinstance(value, functools.partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif hasattr(value, "__dict__") and not isinstance(value, type | types.MethodType):
        held = [*vars(value).values(), *(value.values() if isinstance(value, Mapping) else ())]
    for v in held:
        if isinstance(getattr(v, "__self__", v), nn.Module | nn.Parameter):
            raise NotBindable
        if depth and isinstance(v, types.FunctionType | functools.partial):
            _check_function(v, depth - 1)
