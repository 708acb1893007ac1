"""Losses and scores with a leading task axis: one number a task, the mean over that task's examples."""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from innerloop.errors import InnerloopError

Loss = Callable[[Tensor, Tensor], Tensor]
"""(prediction [tasks, n, …], target [tasks, n, …]) -> loss [tasks]"""


def cross_entropy(logits: Float[Tensor, "tasks n way"], labels: Int[Tensor, "tasks n"]) -> Float[Tensor, " tasks"]:
    """Cross-entropy in nats, the mean over the examples of each task.

    The reference code of MAML divides by the shots and sums over the support set, so an inner rate r there stands for
    r × way here.
    """
    tasks, n, way = logits.shape
    flat = F.cross_entropy(logits.reshape(tasks * n, way), labels.reshape(tasks * n), reduction="none")
    return flat.view(tasks, n).mean(1)


def mean_squared_error(
    prediction: Float[Tensor, "tasks n out"], target: Float[Tensor, "tasks n out"]
) -> Float[Tensor, " tasks"]:
    """Squared error in squared units of the target, the mean over examples and outputs of each task."""
    if prediction.shape != target.shape:
        raise InnerloopError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
    return (prediction - target).square().flatten(1).mean(1)


def accuracy(logits: Float[Tensor, "tasks n way"], labels: Int[Tensor, "tasks n"]) -> Float[Tensor, " tasks"]:
    """Fraction of examples, 0 to 1, whose largest logit is the label's."""
    return (logits.argmax(-1) == labels).float().mean(1)
