"""Classification by the support set's features, without weights: cosine attention (NIL, matching networks) and the
nearest class mean (prototypical networks)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.episodes import Episodes


def cosine_attention(
    query: Float[Tensor, "tasks query features"],
    support: Float[Tensor, "tasks support features"],
    support_y: Int[Tensor, "tasks support"],
    *,
    way: int | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "tasks query way"]:
    """Log-probabilities log Σ_{i: y_i = c} softmax_i(t · cos(q, s_i)): Vinyals et al. 2016, equations 1-2.

    The attention of a class is the sum over its support images, not the nearest one. `temperature` t multiplies the
    cosines; 1 is what the citation in Raghu et al. 2020, section 5, implies. `way` is by default the largest label + 1.
    """
    way = int(support_y.max()) + 1 if way is None else way
    cosine = torch.einsum("tqd,tsd->tqs", F.normalize(query, dim=-1), F.normalize(support, dim=-1))
    attention = (temperature * cosine).log_softmax(-1)
    member = F.one_hot(support_y, way).bool()  # [tasks, support, way]
    return attention[..., None].masked_fill(~member[:, None], -torch.inf).logsumexp(2)


def euclidean_means(
    query: Float[Tensor, "tasks query features"],
    support: Float[Tensor, "tasks support features"],
    support_y: Int[Tensor, "tasks support"],
    *,
    way: int | None = None,
) -> Float[Tensor, "tasks query way"]:
    """Logits −‖q − μ_c‖², μ_c the mean of the class's support features: Snell et al. 2017, equations 1-2.

    The softmax over classes gives the probabilities; the unit is the square of the features'. −∞ for a class without
    support images. `way` is by default the largest label + 1.
    """
    way = int(support_y.max()) + 1 if way is None else way
    member = F.one_hot(support_y, way).to(support.dtype)  # [tasks, support, way]
    count = member.sum(1)
    mean = torch.einsum("tsw,tsd->twd", member, support) / count.clamp_min(1)[..., None]
    # differences, not the expanded square: that loses all digits where features are large and near one another
    distance = torch.cdist(query, mean, compute_mode="donot_use_mm_for_euclid_dist").square()
    return (-distance).masked_fill(count[:, None] == 0, -torch.inf)


def cosine_means(
    query: Float[Tensor, "tasks query features"],
    support: Float[Tensor, "tasks support features"],
    support_y: Int[Tensor, "tasks support"],
    *,
    way: int | None = None,
) -> Float[Tensor, "tasks query way"]:
    """Cosines with the class means, −1 to 1; −∞ for a class without support images."""
    way = int(support_y.max()) + 1 if way is None else way
    member = F.one_hot(support_y, way).to(support.dtype)
    mean = torch.einsum("tsw,tsd->twd", member, support)  # the sum has the mean's direction
    cosine = torch.einsum("tqd,twd->tqw", F.normalize(query, dim=-1), F.normalize(mean, dim=-1))
    return cosine.masked_fill(~member.any(1)[:, None], -torch.inf)


def nearest_pair(
    similarity: Float[Tensor, "tasks query support"], support_y: Int[Tensor, "tasks support"], *, way: int | None = None
) -> Float[Tensor, "tasks query way"]:
    """The largest similarity to any support image of each class: Koch et al. 2015, section 4.2, where the one-shot
    class is the score of its best match. −∞ for a class without support images."""
    way = int(support_y.max()) + 1 if way is None else way
    member = F.one_hot(support_y, way).bool()
    return similarity[..., None].masked_fill(~member[:, None], -torch.inf).amax(2)


@torch.no_grad()
def nearest_neighbour(episodes: Episodes) -> Float[Tensor, " tasks"]:
    """Accuracy of each episode by the label of the support image that is nearest in raw pixels (Euclidean): no
    learning."""
    distance = torch.cdist(episodes.query_x.flatten(2), episodes.support_x.flatten(2))
    guess = episodes.support_y.gather(1, distance.argmin(-1))
    return (guess == episodes.query_y).float().mean(1)
