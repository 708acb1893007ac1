"""Losses and scores with a leading task axis: one number per task, the mean over that task's examples."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InnerloopError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction [tasks, n, …], target [tasks, n, …]) -> loss [tasks]"""


def per_task(loss: Loss, prediction: Tensor, target: Tensor, *, differentiable: bool = False) -> Tensor:
    """`loss` of each task, after a check that it is one number per task.

    A mean over the tasks would make the inner step depend on how many tasks are computed at once.
    """
    return check_per_task(loss(prediction, target), len(prediction), loss, differentiable=differentiable)


def check_per_task(value: Tensor, tasks: int, of: Callable[..., object], *, differentiable: bool = False) -> Tensor:
    """`value`, which `of` returned, if it is one number for each of so many tasks (and has a gradient, if asked)."""
    name = getattr(of, "__name__", type(of).__name__)
    if not isinstance(value, Tensor) or value.shape != (tasks,):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InnerloopError(
            f"the loss {name!r} must return one number for each of the {tasks} tasks, shape ({tasks},), not "
            f"{got}. See innerloop.cross_entropy and innerloop.mean_squared_error (F.cross_entropy has no task axis)"
        )
    if differentiable and not value.requires_grad:
        raise InnerloopError(
            f"the loss {name!r} has no gradient (it returns {value.dtype}); compute it from the predictions without "
            "detach() or argmax()"
        )
    return value


def cross_entropy(logits: Float[Tensor, "tasks n way"], labels: Int[Tensor, "tasks n"]) -> Float[Tensor, " tasks"]:
    """Cross-entropy in nats, the mean over the examples of each task.

    The reference code of MAML divides by the shots and sums over the support set, so an inner rate r there stands for
    r × way here. Labels are int64, 0 to way − 1.
    """
    check_labels(logits, labels)
    tasks, n, way = logits.shape
    flat = F.cross_entropy(logits.reshape(tasks * n, way), labels.reshape(tasks * n), reduction="none")
    return flat.view(tasks, n).mean(1)


def check_labels(logits: Float[Tensor, "tasks n way"], labels: Tensor) -> None:
    """Raise unless `labels` are int64 [tasks, n], each 0 to way − 1 (on a GPU without waiting for it)."""
    if logits.ndim != 3 or not logits.is_floating_point():
        raise InnerloopError(f"logits are floats [tasks, examples, way]; got {logits.dtype} {tuple(logits.shape)}")
    tasks, n, way = logits.shape
    if labels.dtype != torch.int64 or labels.shape != (tasks, n):
        raise InnerloopError(
            f"labels must be int64 [{tasks} tasks, {n} examples] as the logits are; got {labels.dtype} "
            f"{tuple(labels.shape)}"
        )
    if labels.is_cuda:  # no wait for the device
        torch._assert_async(((labels >= 0) & (labels < way)).all())  # pyright: ignore[reportPrivateImportUsage]
    elif labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < way):
        raise InnerloopError(
            f"labels must be 0 to {way - 1}, since the model tells {way} classes apart; got {int(labels.min())} to "
            f"{int(labels.max())}"
        )


def mean_squared_error(
    prediction: Float[Tensor, "tasks n out"], target: Float[Tensor, "tasks n out"]
) -> Float[Tensor, " tasks"]:
    """Squared error in squared units of the target, the mean over examples and outputs of each task."""
    if prediction.shape != target.shape:
        raise InnerloopError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    return (prediction - target).square().flatten(1).mean(1)


def accuracy(logits: Float[Tensor, "tasks n way"], labels: Int[Tensor, "tasks n"]) -> Float[Tensor, " tasks"]:
    """Fraction of examples, 0 to 1, whose largest logit is the label's."""
    check_labels(logits, labels)
    return (logits.argmax(-1) == labels).float().mean(1)
