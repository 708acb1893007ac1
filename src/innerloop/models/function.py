"""Autograd functions that are quick to call outside `torch.func` transforms.

A `torch.autograd.Function` with `setup_context` works under `vmap`, but each call binds its arguments through
`inspect`,
which takes longer than a small convolution. `eager(F)` is the same function in the form without `setup_context`; `call`
takes it unless a transform is active.
"""

from typing import Any

import torch


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
