"""Run a model as a pure function of its weights, for a chunk of tasks at once.

A model is an `nn.Sequential` of named blocks. Its slow weights are a dictionary of parameters; the fast weights are a
dictionary of those parameters that the inner loop has changed, each with a leading task axis. Modules are never cloned
or patched, and a forward pass mutates nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.errors import InnerloopError, did_you_mean

Weights = Mapping[str, Tensor]
Blocks = Literal["all", "head", "body", "none"] | Sequence[str]

_statistics_rows: ContextVar[int | None] = ContextVar("statistics_rows", default=None)
_one_derivative: ContextVar[bool] = ContextVar("one_derivative", default=False)


def statistics_rows() -> int | None:
    """How many leading examples of the running forward pass make the batch statistics; None for all of them."""
    return _statistics_rows.get()


def one_derivative() -> bool:
    """Whether the running forward pass will be differentiated at most once, so that a fast second derivative is no use.

    False outside `forward`.
    """
    return _one_derivative.get()


@contextmanager
def _pass(rows: int | None, twice: bool) -> Iterator[None]:
    tokens = _statistics_rows.set(rows), _one_derivative.set(not twice)
    try:
        yield
    finally:
        _statistics_rows.reset(tokens[0])
        _one_derivative.reset(tokens[1])


def slow_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The model's own parameters by name: the slow weights that the outer loop trains."""
    return dict(model.named_parameters())


def block_names(model: nn.Sequential) -> tuple[str, ...]:
    """Names of the blocks, first to last; the last one is the head."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"a model is an nn.Sequential of named blocks, got {type(model).__name__}; wrap it in one")
    return tuple(name for name, _ in model.named_children())


def resolve_blocks(model: nn.Sequential, blocks: Blocks) -> tuple[str, ...]:
    """Turn 'all', 'head', 'body', 'none' or a list of block names into block names in the model's order."""
    names = block_names(model)
    if isinstance(blocks, str):
        table = {"all": names, "head": names[-1:], "body": names[:-1], "none": ()}
        if blocks not in table:
            raise InnerloopError(
                f"blocks must be one of {', '.join(table)} or a list of {', '.join(names)}; got {blocks!r}"
                f"{did_you_mean(blocks, table)}"
            )
        return table[blocks]
    unknown = [b for b in blocks if b not in names]
    if unknown:
        near = did_you_mean(unknown[0], (*names, "all", "head", "body", "none"))
        raise InnerloopError(f"the model has no block {', '.join(map(repr, unknown))}; it has {', '.join(names)}{near}")
    return tuple(name for name in names if name in blocks)


def block_of(parameter: str) -> str:
    """The block that a parameter belongs to: ``block_of("conv1.weight") == "conv1"``."""
    return parameter.split(".", 1)[0]


def _check_stateless(name: str, block: nn.Module) -> None:
    for module in block.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.training and module.track_running_stats:
            raise InnerloopError(
                f"block {name!r} has a {type(module).__name__} that would update its running statistics in the forward "
                "pass. Use track_running_stats=False (statistics of each task's own batch), or call model.eval() to "
                "normalise by the stored statistics"
            )


def _segments(model: nn.Sequential, fast: Weights) -> Iterator[dict[str, nn.Module]]:
    """Runs of neighbouring blocks that all have, or all have not, fast weights."""
    adapted = {block_of(name) for name in fast}
    group: dict[str, nn.Module] = {}
    state = False
    for name, block in model.named_children():
        _check_stateless(name, block)
        if group and (name in adapted) != state:
            yield group
            group = {}
        state = name in adapted
        group[name] = block
    if group:
        yield group


def forward(
    model: nn.Sequential,
    slow: Weights,
    fast: Weights,
    x: Float[Tensor, "tasks examples *shape"],
    *,
    statistics_of: Float[Tensor, "tasks context *shape"] | None = None,
    twice: bool = False,
) -> Float[Tensor, "tasks examples *out"]:
    """The model's output for a chunk of tasks, each with its own fast weights where it has any.

    Batch normalisation takes its statistics from the examples at hand, task by task (the transductive setting of the
    MAML papers). With `statistics_of`, it takes them from those other examples instead (the support set: the
    non-transductive setting, in which no query example influences another). This reaches the `BatchNorm2d` of
    `innerloop.models`; a module that computes statistics in its own way would see both sets as one batch, so with
    `statistics_of` any other batch-norm module that is not in evaluation mode is refused.

    `twice` says that the gradient of this pass will be differentiated again, as in the inner loop of MAML: then the
    kernels with a fast second derivative are taken. It changes speed only; every derivative exists either way.
    """
    tasks = x.shape[0]
    rows = None
    if statistics_of is not None:
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
                module.training or not module.track_running_stats
            ):
                raise InnerloopError(
                    f"statistics from the support set need innerloop.models.BatchNorm2d; {name!r} is a "
                    f"{type(module).__name__}, which would mix support and query in its statistics"
                )
        rows = statistics_of.shape[1]
        x = torch.cat([statistics_of, x], dim=1)
    with _pass(rows, twice):
        for group in _segments(model, fast):
            part = nn.Sequential()
            for name, block in group.items():
                part.add_module(name, block)
            names = [n for n, _ in part.named_parameters()]
            own = {n: slow[n] for n in names if n not in fast}
            per_task = {n: fast[n] for n in names if n in fast}
            if tasks == 1:  # no vmap: its dispatch costs more than the arithmetic of a small net
                weights = {**own, **{n: w.squeeze(0) for n, w in per_task.items()}}
                x = functional_call(part, weights, (x.squeeze(0),)).unsqueeze(0)
            else:

                def run(weights: dict[str, Tensor], h: Tensor, part=part, own=own) -> Tensor:
                    return functional_call(part, {**own, **weights}, (h,))

                x = torch.vmap(run, in_dims=(0, 0), randomness="different")(per_task, x)
    return x if rows is None else x[:, rows:]


def split_model(model: nn.Sequential, adapted: Sequence[str]) -> tuple[nn.Sequential, nn.Sequential]:
    """The blocks before the first adapted one, and the rest. Both share the model's modules."""
    before, rest = nn.Sequential(), nn.Sequential()
    reached = False
    for name, block in model.named_children():
        reached = reached or name in adapted
        (rest if reached else before).add_module(name, block)
    return before, rest
