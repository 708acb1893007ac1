"""Where the head begins the inner loop: at its own slow weights, or at weights made for the task at hand."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.functional import Weights, head_of
from innerloop.errors import InnerloopError
from innerloop.models.head import CosineLinear

Start = Literal["own", "zero", "shared", "means"]


def class_means(
    features: Float[Tensor, "tasks support features"], labels: Int[Tensor, "tasks support"], way: int
) -> Float[Tensor, "tasks way features"]:
    """The mean feature of each class; zeros for a class without a support image."""
    member = F.one_hot(labels, way).to(features.dtype)  # [tasks, support, way]
    return torch.einsum("tsw,tsd->twd", member, features) / member.sum(1).clamp_min(1)[..., None]


def head_start(
    start: Start,
    model: nn.Sequential,
    slow: Weights,
    features: Float[Tensor, "tasks support features"],
    labels: Int[Tensor, "tasks support"],
    way: int,
) -> dict[str, Tensor]:
    """The head's weights [tasks, way, …] from which each task's inner loop begins, whatever way the model's head has.

    zero: no class is preferred (Chen et al. 2019 draw it at random). shared: one vector for all classes, the mean of
    the head's rows, so that all rows are trained alike (UNICORN-MAML: Ye & Chao 2022). means: the linear head equal to
    the squared Euclidean distance to the class means μ_c, w_c = 2 μ_c, b_c = −‖μ_c‖² (ProtoMAML: Triantafillou et al.
    2020, section 4); a cosine head takes the means' directions. own: nothing to start from but the slow weights.
    """
    if start == "own":
        return {}
    name, head = head_of(model)
    tasks = features.shape[0]
    weight = slow.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise InnerloopError(f"start {start!r} needs a linear head; block {name!r} is a {type(head).__name__}")
    bias = slow.get(f"{name}.bias")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InnerloopError(
            f"start {start!r} needs one bias a class, {len(weight)}; {name}.bias has the shape {tuple(bias.shape)}"
        )
    if start == "zero" and isinstance(head, CosineLinear):
        raise InnerloopError(
            "start 'zero' gives a cosine head no direction to begin in; start at the means (baseline++)"
        )
    if start == "zero":
        found = weight.new_zeros(tasks, way, weight.shape[1])
        shift = None if bias is None else bias.new_zeros(tasks, way)
    elif start == "shared":
        found = weight.mean(0).expand(tasks, way, -1)
        shift = None if bias is None else bias.mean().expand(tasks, way)
    elif start == "means":
        means = class_means(features, labels, way)
        cosine = isinstance(head, CosineLinear)
        found = F.normalize(means, dim=-1) if cosine else 2 * means
        shift = None if bias is None else -means.square().sum(-1)
    else:
        raise InnerloopError(f"there is no start {start!r}; there are {', '.join(get_args(Start))}")
    return {f"{name}.weight": found} | ({} if shift is None else {f"{name}.bias": shift})
