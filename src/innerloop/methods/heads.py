"""Heads made of the support set's features: which one, its distance, and how features are normalised before it."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.bind import Bound
from innerloop.core.functional import Weights
from innerloop.errors import InnerloopError
from innerloop.methods.metric import cosine_attention, cosine_means, euclidean_means, nearest_pair
from innerloop.models.head import FullContext, PairHead
from innerloop.validated import Positive, Validated

Head = Literal["model", "cosine", "euclidean", "cosine_means", "pairs"]
"""model: the model's last block; cosine: attention over the support images; euclidean, cosine_means: the nearest class
mean; pairs: the best match among the support images by the model's last block, a `PairHead`"""

Normalise = Literal["none", "l2", "centre"]


@dataclass(frozen=True)
class Metric(Validated, at="metric"):
    """What a head of support features may vary."""

    distance: Literal["euclidean", "cosine"] = "euclidean"
    """proto, centroid: squared Euclidean distance to the class means, or the cosine with them"""
    normalise: Normalise = "none"
    """features before the head: as they are; l2: of length 1; centre: minus the support set's mean, then of length 1"""
    full_context: bool = False
    """matching: embed each image in the context of the support set (FCE)"""
    scale: Positive = 10.0
    """baseline++: of the cosine head"""

    def head(self, head: Head) -> Head:
        """`head`, with the distance asked for."""
        return "cosine_means" if head == "euclidean" and self.distance == "cosine" else head


def normalised(
    query: Float[Tensor, "tasks query features"], support: Float[Tensor, "tasks support features"], how: Normalise
) -> tuple[Tensor, Tensor]:
    """Both sets of features, normalised; centring takes the mean of each task's support set alone."""
    if how not in get_args(Normalise):
        raise InnerloopError(f"features cannot be normalised by {how!r}; there are {', '.join(get_args(Normalise))}")
    if how == "centre":
        mean = support.mean(1, keepdim=True)
        query, support = query - mean, support - mean
    if how == "none":
        return query, support
    return F.normalize(query, dim=-1), F.normalize(support, dim=-1)


def support_logits(
    head: Head,
    query: Float[Tensor, "tasks query features"],
    support: Float[Tensor, "tasks support features"],
    support_y: Int[Tensor, "tasks support"],
    *,
    block: nn.Module,
    weights: Weights,
    normalise: Normalise = "none",
    temperature: float = 1.0,
    way: int | None = None,
) -> Float[Tensor, "tasks query way"]:
    """Logits of the query images by the support set's features.

    `temperature` multiplies cosines and distances. `block` is the model's last block, `weights` its parameters: the
    distance of the "pairs" head, or a `FullContext` that features pass first.
    """
    if isinstance(block, FullContext):
        query, support = Bound(block, weights).module(query, support)
    query, support = normalised(query, support, normalise)
    if head == "cosine":
        return cosine_attention(query, support, support_y, way=way, temperature=temperature)
    if head == "euclidean":
        return temperature * euclidean_means(query, support, support_y, way=way)
    if head == "cosine_means":
        return temperature * cosine_means(query, support, support_y, way=way)
    if head != "pairs":
        raise InnerloopError(f"there is no head {head!r} of support features; there are {', '.join(get_args(Head))}")
    if not isinstance(block, PairHead):
        raise InnerloopError(f"head 'pairs' needs a model whose last block is a PairHead, not a {type(block).__name__}")
    z = Bound(block, weights).module((query[:, :, None] - support[:, None]).abs())
    return nearest_pair(z, support_y, way=way)


def pair_logits(
    a: Float[Tensor, "tasks pairs features"],
    b: Float[Tensor, "tasks pairs features"],
    *,
    block: nn.Module,
    weights: Weights,
    normalise: Normalise = "none",
) -> Float[Tensor, "tasks pairs 2"]:
    """Logits of (different, same) for each pair: 0 and the head's own, so that cross-entropy is the binary one."""
    if normalise == "centre":
        raise InnerloopError("pairs have no support set to centre by; metric.normalise l2 or none")
    a, b = normalised(a, b, normalise)
    z = Bound(block, weights).module((a - b).abs())
    return F.pad(z[..., None], (1, 0))
