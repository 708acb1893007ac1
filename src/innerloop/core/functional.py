"""Run a model as a pure function of its weights, for a chunk of tasks at once.

A model is an `nn.Sequential` of named blocks. Its slow weights are a dictionary of parameters; the fast weights are a
dictionary of those parameters that the inner loop has changed, each with a leading task axis. A forward pass writes
nothing to the model (`innerloop.core.bind`), so that threads can share it.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from innerloop.core.bind import Bound, NotBindable
from innerloop.errors import InnerloopError, did_you_mean

Weights = Mapping[str, Tensor]
Statistics = Mapping[str, tuple[Tensor, Tensor]]
"""name of a batch normalisation -> (means, variances) [tasks, channels]"""
Blocks = Literal["all", "head", "body", "none"] | Sequence[str]

_one_derivative: ContextVar[bool] = ContextVar("one_derivative", default=False)
_patching = threading.RLock()


def one_derivative() -> bool:
    """Whether the running forward pass will be differentiated at most once, so that a fast second derivative is no use.

    It chooses between kernels that compute the same. False outside `forward`.
    """
    return _one_derivative.get()


class _PlainAttention(TorchFunctionMode):
    """Attention by plain products and a softmax: the fused kernels have no second derivative and no rule for `vmap`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_attention_math(*args, **kwargs)[0]
        if func is F.multi_head_attention_forward:
            output, weights = func(*args, **{**kwargs, "need_weights": True})  # the path that is not fused
            return output, weights if kwargs.get("need_weights", True) else None
        return func(*args, **kwargs)


@contextmanager
def _pass(create_graph: bool, plain_attention: bool = False) -> Iterator[None]:
    token = _one_derivative.set(not create_graph)
    try:
        with _PlainAttention() if plain_attention else nullcontext():
            yield
    finally:
        _one_derivative.reset(token)


def slow_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The model's own parameters by name: the slow weights that the outer loop trains."""
    return dict(model.named_parameters())


def blocks_of(model: nn.Sequential) -> dict[str, nn.Module]:
    """The blocks by name, first to last; the last one is the head. One module may stand at several places."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(
            f"a model is an nn.Sequential of named blocks, the last of which is the head; got {type(model).__name__}: "
            "give nn.Sequential(OrderedDict(body=…, head=…))"
        )
    if type(model).forward is not nn.Sequential.forward:
        raise InnerloopError(
            f"{type(model).__name__} has a forward of its own, but a model's blocks are run one after the other; "
            "put it into a block of an nn.Sequential"
        )
    if not model._modules:
        raise InnerloopError("the model is an nn.Sequential without blocks; its last block is the head")
    return dict(model._modules)  # pyright: ignore[reportReturnType]  named_children() leaves out what stands twice


def block_names(model: nn.Sequential) -> tuple[str, ...]:
    """Names of the blocks, first to last; the last one is the head."""
    return tuple(blocks_of(model))


def head_of(model: nn.Sequential) -> tuple[str, nn.Module]:
    """Name and module of the last block."""
    return list(blocks_of(model).items())[-1]


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def stands_for_forward(module: nn.Module, method: str) -> bool:
    """Whether `module` has a `method` that tells what its `forward` computes.

    Not where a subclass has a `forward` of its own and leaves the method as it was, nor if there are hooks.
    """
    maker = next(c for c in type(module).__mro__ if {"forward", "__call__", method} & set(vars(c)))
    return method in vars(maker) and not ("forward" in vars(module) or any(getattr(module, h) for h in _HOOKS))


def one_bias_each(layer: nn.Module) -> bool:
    """Whether a linear layer has one bias an output, or none. `F.linear` spreads one of another shape over them."""
    bias = getattr(layer, "bias", None)
    return bias is None or bias.shape == layer.weight.shape[:1]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue, reportIndexIssue]


def linear_of_tasks(
    x: Float[Tensor, "tasks n inputs"], weight: Tensor, bias: Tensor | None
) -> Float[Tensor, "tasks n outputs"]:
    """F.linear with weight and bias that all tasks share, or that have a leading task axis, each for itself."""
    shift = None if bias is None else bias if bias.ndim == 1 else bias.unsqueeze(1)
    if weight.ndim == 3:
        return x @ weight.mT if shift is None else torch.baddbmm(shift, x, weight.mT)
    return F.linear(x, weight, shift) if shift is None or shift.ndim == 1 else F.linear(x, weight) + shift


def as_images_lie(weight: Tensor) -> Tensor:
    """A convolution's kernels on a CPU in the memory layout of its images, or each call would convert them again."""
    kernels = weight.ndim == 4 and weight.device.type == "cpu"
    return weight.contiguous(memory_format=torch.channels_last) if kernels else weight


def check_sharing(model: nn.Sequential) -> None:
    """Raise if two blocks share a parameter: whether it adapts could not be said block by block."""
    owner: dict[int, str] = {}
    for name, block in blocks_of(model).items():
        for own, p in block.named_parameters():
            if owner.setdefault(id(p), name) != name:
                raise InnerloopError(
                    f"blocks {owner[id(p)]!r} and {name!r} share a parameter, {own!r} of {name!r}; put what shares "
                    "parameters into one block"
                )


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


def forward(
    model: nn.Sequential,
    slow: Weights,
    fast: Weights,
    x: Float[Tensor, "tasks examples *shape"],
    *,
    statistics: Statistics | None = None,
    create_graph: bool = False,
) -> Float[Tensor, "tasks examples *out"]:
    """The model's output for a chunk of tasks, each with its own fast weights where it has any.

    Batch normalisation takes its statistics from the examples at hand, task by task (the transductive setting of the
    MAML papers). With `statistics` it takes these instead: those of the support set, from `batch_statistics`, are the
    non-transductive setting, in which no query example influences another. A module that computes statistics in a way
    of its own, and is no `torch.nn` batch normalisation, is not reached. Statistics that lack a layer are an error.

    `create_graph` says that the gradient of this pass will be differentiated again, as in the inner loop of MAML: then
    the kernels that have a (fast) second derivative are taken.
    """
    if not isinstance(fast, Mapping):
        raise TypeError(f"fast weights are tensors by name, got {type(fast).__name__}")
    if unknown := fast.keys() - slow.keys():
        name = min(unknown)
        raise InnerloopError(f"there is no slow weight for the fast weight {name!r}{did_you_mean(name, slow)}")
    return _run(model, slow, fast, x, statistics or {}, create_graph, record=False)[0]


def batch_statistics(
    model: nn.Sequential, slow: Weights, fast: Weights, x: Float[Tensor, "tasks examples *shape"]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and (biased) variance of each channel at each batch normalisation when the model is given `x`.

    By the layer's name, [tasks, channels] each; differentiable. Layers that use stored statistics are not in it. Blocks
    behind the last batch normalisation are not run.
    """
    blocks = list(blocks_of(model).items())
    normed = [any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in block.modules()) for _, block in blocks]
    if not any(normed):
        return {}
    while not normed.pop():
        blocks.pop()
    return _run(nn.Sequential(OrderedDict(blocks)), slow, fast, x, {}, False, record=True)[1]


def _run(
    model: nn.Sequential,
    slow: Weights,
    fast: Weights,
    x: Tensor,
    statistics: Statistics,
    create_graph: bool,
    *,
    record: bool,
) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
    blocks_of(model)

    _check_tasks(x, fast, statistics)

    def run(per_task: Weights, given: Statistics, h: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        found: dict[str, tuple[Tensor, Tensor]] = {}
        try:
            bound = Bound(model, slow, per_task)
        except NotBindable:
            if record or given:
                raise InnerloopError(
                    "the model holds modules where they cannot be reached (in a closure, or compiled), so its batch "
                    "statistics cannot be those of the support set; use statistics 'batch'"
                ) from None
            own = {n: per_task[n] if n in per_task else slow[n] for n, _ in model.named_parameters()}
            with _patching:  # the model itself is changed for the time of the call
                return functional_call(model, own, (h,)), found
        for name, norm in bound.norms.items():
            if given and name not in given:
                raise InnerloopError(f"the statistics given lack {name!r}; they have {', '.join(given)}")
            if record or given:
                norm.forward = Normalise(norm, name, given.get(name), found)  # pyright: ignore[reportAttributeAccessIssue]
        h = bound.module(h)
        bound.check_buffers()
        return h, found

    x = x.clone()  # a block may work in place
    # A block that takes all tasks at once has `forward_tasks`: [tasks, n, …] -> [tasks, n, …], its parameters with or
    # without a task axis. `vmap` gives the same, but costs more than the arithmetic of a small net.
    at_once = len(x) > 1 and not (record or statistics)
    if at_once and all(_takes_all_tasks(m) for m in model.modules() if m is not model):
        with suppress(NotBindable), _naming_input(x), _pass(create_graph):  # a module out of reach: `vmap` below
            h = x
            for block in Bound(model, slow, fast, task_axis=True).module._modules.values():
                h = block.forward_tasks(h)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
            return h, {}
    with _naming_input(x), _pass(create_graph, plain_attention=create_graph or len(x) > 1):
        if len(x) == 1:  # no vmap: its dispatch costs more than the arithmetic of a small net
            one = {n: w.squeeze(0) for n, w in fast.items()}
            given = {n: (m.squeeze(0), v.squeeze(0)) for n, (m, v) in statistics.items()}
            y, found = run(one, given, x.squeeze(0))
            return y.unsqueeze(0), {n: (m.unsqueeze(0), v.unsqueeze(0)) for n, (m, v) in found.items()}
        if any(isinstance(m, nn.RNNBase) for m in model.modules()):  # PyTorch cannot vmap them
            each = [
                run({n: w[t] for n, w in fast.items()}, {n: (m[t], v[t]) for n, (m, v) in statistics.items()}, x[t])
                for t in range(len(x))
            ]
            found = {n: tuple(torch.stack([f[n][i] for _, f in each]) for i in (0, 1)) for n in each[0][1]}
            return torch.stack([y for y, _ in each]), found  # pyright: ignore[reportReturnType]
        return torch.vmap(run, in_dims=(0, 0, 0), randomness="different")(dict(fast), dict(statistics), x)


def _takes_all_tasks(module: nn.Module) -> bool:
    return stands_for_forward(module, "forward_tasks") and (not isinstance(module, nn.Linear) or one_bias_each(module))


def _check_tasks(x: Tensor, fast: Weights, statistics: Statistics) -> None:
    if not isinstance(x, Tensor) or x.ndim < 2:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InnerloopError(
            f"a model's input is a tensor with the axes [tasks, examples, …] (one task: x[None]); got {got}"
        )
    tasks = x.shape[:1]
    for of, name, t in (
        *(("fast weight", n, w) for n, w in fast.items()),
        *(("statistics of", n, t) for n, pair in statistics.items() for t in pair),
    ):
        if t.shape[:1] != tasks:
            raise InnerloopError(
                f"the {of} {name!r} must have a leading axis of {len(x)} tasks as the input has; got {tuple(t.shape)}"
            )


@contextmanager
def _naming_input(x: Tensor) -> Iterator[None]:
    """An error of PyTorch inside names the model's input."""
    try:
        yield
    except RuntimeError as error:
        if type(error) not in (RuntimeError, NotImplementedError):  # out of memory, a device that failed
            raise
        said = str(error).split("\n")[0]
        raise InnerloopError(
            f"the model fails on {x.dtype} input [tasks, examples, …] of shape {tuple(x.shape)}: {said}"
        ) from error


class Normalise:
    """The forward pass of a batch normalisation by given statistics, or by its batch's own, which it notes down."""

    def __init__(
        self,
        norm: nn.modules.batchnorm._BatchNorm,
        name: str,
        given: tuple[Tensor, Tensor] | None,
        found: dict[str, tuple[Tensor, Tensor]],
    ) -> None:
        self.norm, self.name, self.given, self.found = norm, name, given, found

    def __call__(self, x: Tensor) -> Tensor:
        norm, wide = self.norm, (-1, *[1] * (x.ndim - 2))
        if self.given is None:
            dims = [0, *range(2, x.ndim)]
            self.found[self.name] = x.mean(dims), x.var(dims, correction=0)
            return type(norm).forward(norm, x)
        mean, variance = self._mean_and_variance()
        y = (x - mean.view(wide)) * (variance + norm.eps).rsqrt().view(wide)
        if norm.affine:
            y = y * norm.weight.view(wide) + norm.bias.view(wide)
        return y

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What normalising by the given statistics multiplies each channel by, and then adds to it."""
        mean, variance = self._mean_and_variance()
        scale = (variance + self.norm.eps).rsqrt()
        if self.norm.affine:
            scale = scale * self.norm.weight
        shift = -mean * scale
        return scale, shift + self.norm.bias if self.norm.affine else shift

    def _mean_and_variance(self) -> tuple[Tensor, Tensor]:
        assert self.given is not None
        mean, variance = self.given
        if mean.shape != (self.norm.num_features,):
            raise InnerloopError(
                f"the statistics of {self.name!r} must be [tasks, {self.norm.num_features} channels]; "
                f"got {mean.shape[-1]}"
            )
        return mean, variance


def split_model(model: nn.Sequential, adapted: Sequence[str]) -> tuple[nn.Sequential, nn.Sequential]:
    """The blocks before the first adapted one, and the rest. Both share the model's modules."""
    before, rest = nn.Sequential(), nn.Sequential()
    reached = False
    for name, block in blocks_of(model).items():
        reached = reached or name in adapted
        (rest if reached else before).add_module(name, block)
    return before, rest
