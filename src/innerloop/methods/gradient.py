"""The gradient-based methods as values: MAML, FOMAML, ANIL, BOIL and NIL differ in which blocks adapt, and in
nothing else. Beside them the two training regimes of the paper that have no inner loop."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Blocks, Weights, forward, resolve_blocks, split_model
from innerloop.core.inner import InnerLoop, adapt, adapt_path
from innerloop.core.losses import Loss, cross_entropy
from innerloop.core.outer import Predict
from innerloop.methods.attention import cosine_attention, euclidean_means

Head = Literal["model", "cosine", "euclidean"]


@dataclass(frozen=True)
class Method:
    """A gradient-based few-shot method."""

    name: str
    blocks: Blocks
    """which blocks the inner loop changes"""
    first_order: bool = False
    head: Head = "model"
    """the model's own head, or one made of the support features (the model's is then not used): cosine attention, or
    the Euclidean distance to class means"""
    test_head: Head | None = None
    """the head at validation and test; None: the same as in training"""
    source: str = ""

    def inner(self, loop: InnerLoop) -> InnerLoop:
        """`loop` (steps, rate) with this method's blocks and order."""
        return replace(loop, blocks=self.blocks, first_order=self.first_order or loop.first_order)


MAML = Method("maml", "all", source="Finn, Abbeel, Levine 2017, arXiv 1703.03400, algorithm 2")
FOMAML = Method(
    "fomaml",
    "all",
    first_order=True,
    source="Finn, Abbeel, Levine 2017, section 5.2 (first-order approximation)",
)
ANIL = Method("anil", "head", source="Raghu, Raghu, Bengio, Vinyals 2020, arXiv 1909.09157, section 4")
BOIL = Method("boil", "body", source="Oh, Yoo, Kim, Yun 2021, arXiv 2008.08882")
NIL = Method("nil", "none", head="cosine", source="Raghu, Raghu, Bengio, Vinyals 2020, section 5 (no inner loop)")
MULTITASK = Method(
    "multitask",
    "none",
    test_head="cosine",
    source="Raghu, Raghu, Bengio, Vinyals 2020, section 5.2: all tasks at once, one shared head, no inner loop",
)
MULTICLASS = Method(
    "multiclass",
    "none",
    test_head="cosine",
    source="Raghu, Raghu, Bengio, Vinyals 2020, section 5.2: one classifier of all training classes",
)

METHODS = (MAML, FOMAML, ANIL, BOIL, NIL, MULTITASK, MULTICLASS)
MethodName = Literal["maml", "fomaml", "anil", "boil", "nil", "multitask", "multiclass"]


def method(name: MethodName) -> Method:
    """The method of that name."""
    for m in METHODS:
        if m.name == name:
            return m
    raise ValueError(f"no method {name!r}; there are {', '.join(m.name for m in METHODS)}")


def predictor(
    model: nn.Sequential,
    inner: InnerLoop,
    *,
    head: Head = "model",
    loss: Loss = cross_entropy,
    statistics: Literal["batch", "support"] = "batch",
    temperature: float = 1.0,
) -> Predict:
    """A whole method in one function: (slow weights, episodes) -> outputs for the query set [tasks, query, out].

    Learned inner rates are part of the meta-parameters, under the key ``rate:NAME``.
    `statistics` says whose batch statistics normalise the query set: its own ("batch", transductive) or the support
    set's ("support", non-transductive). With the cosine head, `temperature` multiplies the cosines.
    """

    def predict(parameters: Weights, episodes: Episodes) -> Tensor:
        slow, learned = split_rates(parameters)
        of = episodes.support_x if statistics == "support" else None
        fast = adapt(
            model,
            slow,
            episodes.support_x,
            episodes.support_y,
            inner,
            loss=loss,
            rates=learned,
        )
        if head != "model":
            return _nil_logits(model, slow, fast, episodes, of, head, temperature)
        return forward(model, slow, fast, episodes.query_x, statistics_of=of)

    return predict


@torch.no_grad()
def step_outputs(
    model: nn.Sequential,
    parameters: Weights,
    episodes: Episodes,
    inner: InnerLoop,
    *,
    loss: Loss = cross_entropy,
    statistics: Literal["batch", "support"] = "batch",
) -> Float[Tensor, "steps tasks query out"]:
    """Query outputs after 0, 1, …, `inner.steps` inner steps; what does not adapt runs once."""
    slow, learned = split_rates(parameters)
    of = episodes.support_x if statistics == "support" else None
    before, rest = split_model(model, resolve_blocks(model, inner.blocks))
    if not len(rest):  # nothing adapts: all of it is "the rest", run once
        before, rest = rest, model
    support, query = episodes.support_x, episodes.query_x
    if len(before):
        query = forward(before, slow, {}, query, statistics_of=of)
        support = forward(before, slow, {}, support)
        of = None if of is None else support
    path = adapt_path(rest, slow, support, episodes.support_y, inner, loss=loss, rates=learned)
    return torch.stack([forward(rest, slow, fast, query, statistics_of=of) for fast in path])


def split_rates(parameters: Weights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split meta-parameters into slow weights and learned inner rates (keys ``rate:NAME``)."""
    slow = {n: p for n, p in parameters.items() if not n.startswith("rate:")}
    learned = {n.removeprefix("rate:"): p for n, p in parameters.items() if n.startswith("rate:")}
    return slow, learned


def body_features(
    model: nn.Sequential, slow: Weights, fast: Weights, x: Tensor, statistics_of: Tensor | None = None
) -> Float[Tensor, "tasks n features"]:
    """Penultimate features: what the head's linear layer would see (spatial mean or flattened, as the head reads
    them)."""
    name, head = list(model.named_children())[-1]
    body, _ = split_model(model, (name,))
    own = {n: w for n, w in fast.items() if not n.startswith(f"{name}.")}
    h = forward(body, slow, own, x, statistics_of=statistics_of)
    if h.ndim == 5 and getattr(head, "readout", "flatten") == "mean":
        return h.mean((3, 4))
    return h.flatten(2)


def _nil_logits(
    model: nn.Sequential,
    slow: Weights,
    fast: Weights,
    episodes: Episodes,
    of: Tensor | None,
    head: Literal["cosine", "euclidean"],
    temperature: float,
) -> Tensor:
    support = body_features(model, slow, fast, episodes.support_x)
    query = body_features(model, slow, fast, episodes.query_x, of)
    if head == "euclidean":
        return euclidean_means(query, support, episodes.support_y)
    return cosine_attention(query, support, episodes.support_y, temperature=temperature)
