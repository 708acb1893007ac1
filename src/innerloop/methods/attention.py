"""Classification by cosine attention over the support set: the head of NIL, and of matching networks."""

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


@torch.no_grad()
def nearest_neighbour(episodes: Episodes) -> Float[Tensor, " tasks"]:
    """Accuracy of each episode by the label of the support image that is nearest in raw pixels (Euclidean): no
    learning."""
    distance = torch.cdist(episodes.query_x.flatten(2), episodes.support_x.flatten(2))
    guess = episodes.support_y.gather(1, distance.argmin(-1))
    return (guess == episodes.query_y).float().mean(1)
