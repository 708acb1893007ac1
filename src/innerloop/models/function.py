"""Autograd functions that are quick to call outside `torch.func` transforms.

A `torch.autograd.Function` with `setup_context` works under `vmap`, but each call binds its arguments through
`inspect`, which takes longer than a small convolution. `eager(F)` is the same function in the form without
`setup_context`; `call` takes it unless a transform is active.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def eager(function: type[torch.autograd.Function]) -> type[torch.autograd.Function]:
    """`function`, which has `forward(*args)` and `setup_context`, in the form ``forward(ctx, *args)``."""

    def forward(ctx: Any, *args: Any) -> Any:
        output = function.forward(*args)
        function.setup_context(ctx, args, output)
        return output

    members = {"forward": staticmethod(forward), "backward": function.__dict__["backward"]}
    return type(f"{function.__name__}Eager", (torch.autograd.Function,), members)


def transformed() -> bool:
    """Whether a `torch.func` transform is active."""
    return torch._C._are_functorch_transforms_active()


def call(function: type[torch.autograd.Function], quick: type[torch.autograd.Function], *args: Any) -> Any:
    """Apply `quick`; under a `torch.func` transform `function`; where no gradient is recorded, its forward alone."""
    if transformed():
        return function.apply(*args)
    return quick.apply(*args) if torch.is_grad_enabled() else function.forward(*args)


def each_task(function: Callable[..., Tensor], x: Tensor, *parameters: Tensor | None, axes: tuple[int, ...]) -> Tensor:
    """`function(x, *parameters)` of each task [tasks, …]; a parameter with more axes than in `axes` has a task axis."""
    own = [p is not None and p.ndim > n for p, n in zip(parameters, axes, strict=True)]
    if x.is_cuda:
        return torch.vmap(function, in_dims=(0, *(0 if o else None for o in own)))(x, *parameters)
    by_task: list[Any] = [p if o else [p] * len(x) for p, o in zip(parameters, own, strict=True)]
    return torch.stack([function(*of_task) for of_task in zip(x, *by_task, strict=True)])
