"""The inner loop: from slow weights to a task's fast weights, by gradient steps on its support set.

    θ_m = θ_{m−1} − α ∇L_support(θ_{m−1})            (Finn et al. 2017, equation 1; Raghu et al. 2020, section 3)

Every gradient-based method of this library is this one function with another answer to *which blocks adapt*: MAML all,
ANIL the head, BOIL the body, NIL none. Training, evaluation and analysis all call it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.bind import lacking
from innerloop.core.functional import (
    Blocks,
    Weights,
    block_of,
    check_sharing,
    forward,
    resolve_blocks,
    split_model,
)
from innerloop.core.linear_head import linear_head_path
from innerloop.core.losses import Loss, cross_entropy, per_task
from innerloop.errors import InnerloopError, did_you_mean
from innerloop.validated import Natural, NonNegative, Validated


@dataclass(frozen=True)
class InnerLoop(Validated, at="inner"):
    """How a task is learned."""

    blocks: Blocks = "all"
    """which blocks adapt: 'all', 'head', 'body', 'none', or block names"""
    steps: Natural = 5
    """gradient steps on the support set"""
    lr: NonNegative = 0.01
    """inner rate α, for a loss that is the mean over the support examples"""
    first_order: bool = False
    """drop the second derivatives from the meta-gradient (FOMAML)"""
    adapt_norm: bool = False
    """whether the scale and shift of normalisation layers adapt too (in MAML they do not)"""
    recompute: bool = False
    """meta-gradient with the activations of one inner step in memory at a time: each step is run again on the way
    back"""
    proximal: NonNegative = 0.0
    """λ of the term λ/2 ‖θ_m − θ‖² that each step's loss gains (iMAML: Rajeswaran et al. 2019, equation 3)"""


def adapted_parameters(model: nn.Sequential, inner: InnerLoop) -> tuple[str, ...]:
    """Names of the parameters that the inner loop changes, in the model's order."""
    if not isinstance(inner, InnerLoop):
        raise TypeError(f"inner must be an InnerLoop, got {type(inner).__name__}")
    check_sharing(model)
    blocks = resolve_blocks(model, inner.blocks)
    norms: set[str] = set()
    if not inner.adapt_norm:
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                norms.update(f"{name}.{p}" for p, _ in module.named_parameters(recurse=False))
    return tuple(n for n, _ in model.named_parameters() if block_of(n) in blocks and n not in norms)


def adapt(
    model: nn.Sequential,
    slow: Weights,
    support_x: Float[Tensor, "tasks support *shape"],
    support_y: Tensor,
    inner: InnerLoop,
    *,
    loss: Loss = cross_entropy,
    rates: Mapping[str, Tensor] | None = None,
    start: Weights | None = None,
    step_weights: Weights | None = None,
) -> dict[str, Tensor]:
    """The fast weights of each task after `inner.steps` steps: a dictionary with the adapted parameters only.

    Each has shape [tasks, *parameter]. Parameters that do not adapt are not in it: `forward(model, slow, fast, x)`
    takes them from `slow` itself. With gradients enabled the result is differentiable with respect to `slow` and
    `rates` (through the second derivatives unless `inner.first_order`); under `torch.no_grad()` it is detached.

    `rates` are learned inner rates that replace `inner.lr` where they name something: a parameter's name with a tensor
    of the parameter's shape (Meta-SGD), or a block's name with a number or one number per step (the last serves any
    further steps; MAML++). Rates of what does not adapt are not used, so that the freezing test can leave blocks out.

    `start` are weights [tasks, *shape] that the inner loop starts from instead of the slow ones (a head made of class
    means: ProtoMAML); their shape may be another than the model's own (a head of another way). `step_weights` are slow
    weights that differ from step to step, [steps, *parameter] (the per-step batch norm of MAML++; the last row
    serves any further steps); what adapts cannot be among them.
    """
    (last,) = adapt_path(
        model,
        slow,
        support_x,
        support_y,
        inner,
        loss=loss,
        rates=rates,
        start=start,
        step_weights=step_weights,
        each_step=False,
    )
    return last


def adapt_path(
    model: nn.Sequential,
    slow: Weights,
    support_x: Float[Tensor, "tasks support *shape"],
    support_y: Tensor,
    inner: InnerLoop,
    *,
    loss: Loss = cross_entropy,
    rates: Mapping[str, Tensor] | None = None,
    start: Weights | None = None,
    step_weights: Weights | None = None,
    each_step: bool = True,
) -> Iterator[dict[str, Tensor]]:
    """The fast weights after 0, 1, …, `inner.steps` steps, one after the other (arguments as for `adapt`).

    Without `each_step` those after the last step alone. Where a linear head alone adapts (`core.linear_head`), its
    steps are taken in closed form: the same to rounding, and faster.
    """
    track = torch.is_grad_enabled()
    names = adapted_parameters(model, inner)
    _check_support(slow, names if inner.steps else (), support_x, support_y)
    tasks = support_x.shape[0]
    _check_rates(slow, rates)
    _check_start(slow, start, names, tasks, steps=inner.steps)
    if unknown := [n for n in step_weights or {} if n not in slow]:
        raise InnerloopError(
            f"step_weights name {unknown[0]!r}, which is not a parameter{did_you_mean(unknown[0], slow)}"
        )
    if shared := [n for n in step_weights or {} if n in names]:
        raise InnerloopError(f"{shared[0]!r} adapts, so it cannot have one slow value per step as well")
    begin = {n: slow[n].unsqueeze(0).expand(tasks, *slow[n].shape) for n in names} | dict(start or {})
    fast = begin if track else {n: w.detach() for n, w in begin.items()}
    anchor = fast
    if each_step or not names or not inner.steps:
        yield fast
    if not names or not inner.steps:
        return

    # The blocks before the first adapted one do not change in the inner loop: they run once, not once a step.
    before, rest = split_model(model, resolve_blocks(model, inner.blocks))
    h = forward(before, slow, {}, support_x) if len(before) else support_x
    if not track or inner.first_order:
        h = h.detach()
    if not inner.proximal and not inner.recompute:
        path = linear_head_path(
            rest,
            {n: (start or {}).get(n, slow[n]) for n in names},
            h,
            support_y,
            loss,
            steps=inner.steps,
            lr=inner.lr,
            rates=rates or {},
            first_order=inner.first_order,
            each_step=each_step,
        )
        if path is not None:
            yield from path
            return
    own = {n: slow[n] for n, _ in rest.named_parameters() if n not in fast}

    for step in range(inner.steps):
        step_rates = {n: _rate(n, step, inner, rates) for n in names}
        if step_weights:
            own = at_step(own, step_weights, step)
        before_step = fast
        if not track:
            with torch.enable_grad():
                leaves = {n: w.detach().requires_grad_() for n, w in fast.items()}
                grads = _support_gradient(rest, own, leaves, h, support_y, loss, create_graph=False)
            fast = {n: fast[n] - step_rates[n] * g for n, g in grads.items()}
        elif inner.first_order:
            leaves = {n: w.detach().requires_grad_() for n, w in fast.items()}
            held = {n: w.detach() for n, w in own.items()}
            grads = _support_gradient(rest, held, leaves, h, support_y, loss, create_graph=False)
            fast = {n: fast[n] - step_rates[n] * g for n, g in grads.items()}
        elif inner.recompute:
            fast = _recomputed_step(rest, own, fast, step_rates, h, support_y, loss)
        else:
            fast = _second_order_step(rest, own, fast, step_rates, h, support_y, loss)
        if inner.proximal:
            # the gradient of λ/2 ‖θ_m − θ‖², with the rate of the step
            pull = {n: inner.proximal * (w - anchor[n]) for n, w in before_step.items()}
            fast = {n: w - step_rates[n] * pull[n] for n, w in fast.items()}
        if each_step or step + 1 == inner.steps:
            yield fast


def at_step(slow: Weights, step_weights: Weights | None, step: int) -> dict[str, Tensor]:
    """The slow weights as they are at inner step `step` (0 is the first): those of `step_weights` take its row."""
    own = {n: w[min(step, len(w) - 1)] for n, w in (step_weights or {}).items() if n in slow}
    return {**slow, **own}


def with_steps(inner: InnerLoop, steps: int) -> InnerLoop:
    """The same inner loop with another number of steps."""
    return replace(inner, steps=steps)


def _support_gradient(
    rest: nn.Sequential, own: Weights, fast: Weights, h: Tensor, y: Tensor, loss: Loss, *, create_graph: bool
) -> dict[str, Tensor]:
    """∇L_support with respect to the fast weights. Tasks do not interact, so the sum's gradient is each task's own."""
    output = forward(rest, {**own, **fast}, fast, h, create_graph=create_graph)
    value = per_task(loss, output, y, differentiable=True)
    grads = torch.autograd.grad(value.sum(), list(fast.values()), create_graph=create_graph, allow_unused=True)
    return {n: torch.zeros_like(w) if g is None else g for (n, w), g in zip(fast.items(), grads, strict=True)}


def _second_order_step(
    rest: nn.Sequential,
    own: Weights,
    fast: Mapping[str, Tensor],
    step_rates: Mapping[str, float | Tensor],
    h: Tensor,
    y: Tensor,
    loss: Loss,
) -> dict[str, Tensor]:
    """One step that can be differentiated: θ − α ∇L(θ) with the graph of ∇L kept."""
    # slow weights that the caller passes as plain tensors are constants: then only the inner gradient is needed
    fast = {n: w if w.requires_grad else w.detach().requires_grad_() for n, w in fast.items()}
    grads = _support_gradient(rest, own, fast, h, y, loss, create_graph=True)
    check_twice_differentiable(grads, (*fast.values(), h))
    return {n: fast[n] - step_rates[n] * g for n, g in grads.items()}


def check_twice_differentiable(grads: Mapping[str, Tensor], inputs: Iterable[Tensor]) -> None:
    """Raise if the `grads`, made with `create_graph` from `inputs`, pass something that has no second derivative.

    PyTorch would say so late, with a name of its own, or leave the derivative of a function that is marked as
    differentiable once out without a word.
    """
    nodes, seen = [g.grad_fn for g in grads.values()], {t.grad_fn for t in inputs}
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().endswith(("::Error", "::NotImplemented")):
            raise InnerloopError(
                "something in the model has no second derivative in PyTorch: set first_order=True in the inner loop, "
                "or use another layer"
            )
        nodes += [n for n, _ in node.next_functions]


class _RecomputedStep(torch.autograd.Function):
    """One inner step whose backward pass runs the step again: a vector-Jacobian product that keeps no activations."""

    @staticmethod
    def forward(ctx, step, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.step = step
        ctx.gpus = sorted({t.device.index for t in tensors if t.is_cuda})
        ctx.random = torch.get_rng_state(), [torch.cuda.get_rng_state(d) for d in ctx.gpus]
        ctx.save_for_backward(*tensors)
        with torch.enable_grad():
            out = step(*(t.detach() for t in tensors))
        return tuple(t.detach() for t in out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        wanted = ctx.needs_input_grad[1:]
        inputs = [t.detach().requires_grad_(w) for t, w in zip(ctx.saved_tensors, wanted, strict=True)]
        with torch.random.fork_rng(ctx.gpus), torch.enable_grad():  # the same dropout masks as on the way there
            torch.set_rng_state(ctx.random[0])
            for gpu, state in zip(ctx.gpus, ctx.random[1], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            out = ctx.step(*inputs)
        leaves = [t for t, w in zip(inputs, wanted, strict=True) if w]
        found = iter(torch.autograd.grad(out, leaves, grads, allow_unused=True))
        return None, *(next(found) if w else None for w in wanted)


def _recomputed_step(
    rest: nn.Sequential,
    own: Weights,
    fast: Mapping[str, Tensor],
    step_rates: Mapping[str, float | Tensor],
    h: Tensor,
    y: Tensor,
    loss: Loss,
) -> dict[str, Tensor]:
    """`_second_order_step`, equal in value and gradient, holding one step's activations at a time.

    What grows with the steps is one copy of the adapted weights a step.
    """
    learned = {n: r for n, r in step_rates.items() if isinstance(r, Tensor)}
    sizes = (len(fast), len(own), len(learned))

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        f, o, r = (
            tensors[: sizes[0]],
            tensors[sizes[0] : sizes[0] + sizes[1]],
            tensors[sizes[0] + sizes[1] : -1],
        )
        rates = {**step_rates, **dict(zip(learned, r, strict=True))}
        out = _second_order_step(
            rest,
            dict(zip(own, o, strict=True)),
            dict(zip(fast, f, strict=True)),
            rates,
            tensors[-1],
            y,
            loss,
        )
        return tuple(out.values())

    out = _RecomputedStep.apply(step, *fast.values(), *own.values(), *learned.values(), h)
    return dict(zip(fast, out, strict=True))


def _rate(name: str, step: int, inner: InnerLoop, rates: Mapping[str, Tensor] | None) -> float | Tensor:
    if rates:
        if name in rates:
            return rates[name]
        if block_of(name) in rates:
            rate = rates[block_of(name)]
            return rate if rate.ndim == 0 else rate[min(step, len(rate) - 1)]
    return inner.lr


def _check_support(slow: Weights, names: tuple[str, ...], x: Tensor, y: Tensor) -> None:
    if torch.is_inference_mode_enabled():
        raise InnerloopError("the inner loop takes gradients: use torch.no_grad() in place of torch.inference_mode()")
    if torch._C._are_functorch_transforms_active():
        raise InnerloopError(
            "adapt has a task axis of its own: call it with all tasks, outside of torch.func transforms"
        )
    for name, given in (("support_x", x), ("support_y", y)):
        if not isinstance(given, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(given).__name__}")
    if x.device != y.device:
        raise InnerloopError(f"support_x is on {x.device}, support_y on {y.device}; move one of them")
    if x.ndim < 2 or x.shape[:2] != y.shape[:2]:
        raise InnerloopError(
            "support_x and support_y need the same leading axes [tasks, examples] (one task: x[None], y[None]); got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if names and 0 in x.shape[:2]:
        raise InnerloopError(f"a support set needs at least one example of one task; got {tuple(x.shape)}")
    of_numbers = x.is_floating_point() and not torch.is_autocast_enabled(x.device.type)
    for n in names:
        if n not in slow:
            raise lacking(n)
        w = slow[n]
        if x.dtype == torch.uint8 or (of_numbers and w.is_floating_point() and x.dtype != w.dtype):
            raise InnerloopError(
                f"support_x is {x.dtype}, the weights are {w.dtype}; convert one of them (images of bytes: "
                "x.float() / 255)"
            )
        if w.is_inference():
            raise InnerloopError(
                f"the slow weight {n!r} was made under torch.inference_mode() and can have no gradient; use "
                "torch.no_grad(), or give a clone"
            )
        if x.device != w.device:
            raise InnerloopError(f"support_x is on {x.device}, the weights on {w.device}; move one of them")


def _check_start(slow: Weights, start: Weights | None, names: tuple[str, ...], tasks: int, *, steps: int) -> None:
    for name, w in (start or {}).items():
        if name not in slow:
            raise InnerloopError(f"start names {name!r}, which is not a parameter; there are {', '.join(slow)}")
        if steps and name not in names:
            raise InnerloopError(
                f"start names {name!r}, which does not adapt; there adapt {', '.join(names) or 'none'}"
            )
        if w.ndim != slow[name].ndim + 1 or len(w) != tasks:
            raise InnerloopError(
                f"start {name!r} needs a leading axis of {tasks} tasks before the parameter's {slow[name].ndim} axes; "
                f"got {tuple(w.shape)}"
            )
        if w.dtype != slow[name].dtype:
            raise InnerloopError(f"start {name!r} is {w.dtype}, its parameter {slow[name].dtype}; convert one of them")


def _check_rates(slow: Weights, rates: Mapping[str, Tensor] | None) -> None:
    if rates is not None and not isinstance(rates, Mapping):
        raise TypeError(f"rates must be tensors by name, got {type(rates).__name__}")
    for key, rate in (rates or {}).items():
        if not isinstance(rate, Tensor):
            raise TypeError(f"learned rate {key!r} must be a tensor, got {type(rate).__name__}")
        if key in slow:
            if rate.shape != slow[key].shape:
                raise InnerloopError(
                    f"learned rate {key!r} has shape {tuple(rate.shape)}, its parameter {tuple(slow[key].shape)}"
                )
        elif key not in {block_of(n) for n in slow}:
            raise InnerloopError(
                f"learned rate {key!r} names neither a parameter nor a block; "
                f"blocks: {', '.join(dict.fromkeys(block_of(n) for n in slow))}"
            )
        elif rate.ndim > 1 or not rate.numel():
            raise InnerloopError(
                f"learned rate {key!r} must be a number or one number per step, got {tuple(rate.shape)}"
            )
