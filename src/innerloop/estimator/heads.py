"""Heads that are made of a support set, for a body that has none that fits."""

from collections import OrderedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop, adapt
from innerloop.methods.metric import euclidean_means
from innerloop.models.head import Linear
from innerloop.models.head import features as read


class UnitLinear(Linear):
    """A linear layer on features of length 1, that starts at zero: all classes are equally likely.

    With the length taken away, the same inner rate suits any body. Weights that start at zero need no seed, and after
    one step each class's weights point to its mean.
    """

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:  # noqa: ARG002
        """Back to zero."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[n, …] -> [n, outputs]"""
        return F.linear(F.normalize(read(x, self.readout), dim=-1), self.weight, self.bias)


@torch.no_grad()
def adapt_head(
    support: Float[Tensor, "support features"], labels: Int[Tensor, " support"], inner: InnerLoop
) -> UnitLinear:
    """A head for these features after the inner loop: ANIL's, from zero."""
    head = UnitLinear(support.shape[1], int(labels.max()) + 1).to(support)
    model = nn.Sequential(OrderedDict(head=head))
    fast = adapt(model, slow_weights(model), support[None], labels[None], inner)
    head.load_state_dict({n.removeprefix("head."): w[0] for n, w in fast.items()})
    return head


def nearest_mean(
    query: Float[Tensor, "query features"],
    support: Float[Tensor, "support features"],
    labels: Int[Tensor, " support"],
    *,
    temperature: float,
) -> Float[Tensor, "query way"]:
    """Logits −t ‖q − μ_c‖² of features of length 1, μ_c the mean of class c (Snell et al. 2017; length 1 as in
    SimpleShot, Wang et al. 2019)."""
    q, s = F.normalize(query, dim=-1)[None], F.normalize(support, dim=-1)[None]
    return temperature * euclidean_means(q, s, labels[None])[0]
