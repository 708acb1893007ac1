"""A network and its inner loop on one support set, with images that pass through it a few at a time."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Statistics, batch_statistics, blocks_of, forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt, at_step
from innerloop.estimator.bodies import Body, Trained
from innerloop.estimator.feature_cache import FeatureCache
from innerloop.estimator.heads import UnitLinear
from innerloop.estimator.inputs import Images
from innerloop.methods.gradient import body_features, started


@dataclass(frozen=True)
class Network:
    """A body and a head with the weights that a support set gave them."""

    model: nn.Sequential
    device: torch.device
    by_batch: bool
    """whether an image's features depend on the images it comes with, or on the support set"""
    fast: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)
    """slow weights that hold after the last inner step alone"""
    statistics: Statistics | None = None
    """those of the support set, where batch norm takes them from it"""
    cache: FeatureCache | None = None

    @property
    def slow(self) -> dict[str, Tensor]:
        """The weights that did not adapt (and the others, as they were before)."""
        return {n: w.detach() for n, w in slow_weights(self.model).items()} | self.last

    def features(self, given: Images, batch_size: int) -> Tensor:
        """Body features [n, d] of query images, float32 on the CPU."""
        if self.cache is None:
            return self._run(self._features, given, range(len(given)), batch_size, None)
        digests = [given.digest(i) for i in range(len(given))]
        found = {d: self.cache.read(d) for d in dict.fromkeys(digests)}
        if lacking := {d: i for i, d in enumerate(digests) if found[d] is None}:
            made = self._run(self._features, given, list(lacking.values()), batch_size, None).numpy()
            for d, row in zip(lacking, made, strict=True):
                self.cache.write(d, row)
                found[d] = row
        return torch.stack([torch.from_numpy(row) for d in digests if (row := found[d]) is not None])

    def logits(self, given: Images, batch_size: int) -> Tensor:
        """The model's own output [n, way] for query images, float32 on the CPU."""
        return self._run(self._logits, given, range(len(given)), batch_size, 1)

    @torch.no_grad()
    def support_features(self, given: Images, batch_size: int) -> Tensor:
        """Body features [n, d] of the support set itself, which is one batch where that matters."""
        if not self.by_batch:
            return self.features(given, batch_size)
        x = given.stack(range(len(given))).to(self.device)
        return body_features(self.model, self.slow, self.fast, x[None])[0].float().cpu()

    def _features(self, x: Tensor) -> Tensor:
        return body_features(self.model, self.slow, self.fast, x, self.statistics)

    def _logits(self, x: Tensor) -> Tensor:
        return forward(self.model, self.slow, self.fast, x, statistics=self.statistics)

    @torch.no_grad()
    def _run(
        self,
        run: Callable[[Tensor], Tensor],
        given: Images,
        rows: Any,
        batch_size: int,
        views: int | None,
    ) -> Tensor:
        """The mean of `run` over the (first) `views` of the images with these numbers, a batch at a time."""
        size = len(rows) if self.by_batch and self.statistics is None else batch_size
        found = []
        for i in range(0, len(rows), size):
            outputs = [run(x[None].to(self.device))[0] for x in given.views(rows[i : i + size], views)]
            found.append(torch.stack(outputs).mean(0).float().cpu())
        return torch.cat(found)


def without_adapting(body: Body, given: Images, statistics: str, cache: FeatureCache | None) -> Network:
    """The network as it is, to take features from."""
    return _by_support(unadapted(body, cache), given, statistics)


def unadapted(body: Body, cache: FeatureCache | None = None) -> Network:
    """The network as it is, without batch statistics of a support set."""
    model = body.model if body.has_head else with_head(body.model, _NoHead())
    return Network(model, body.device, body.by_batch, cache=None if body.by_batch else cache)


def with_fresh_head(body: Body, head: UnitLinear) -> Network:
    """The network with a copy of this head in the place of its own, if it has one."""
    head = copy.deepcopy(head).to(body.device, torch.float32)
    head.readout = getattr(body.model[-1], "readout", "flatten") if body.has_head else "mean"
    return Network(with_head(body.model, head, instead=body.has_head), body.device, body.by_batch)


@torch.no_grad()
def adapting(
    body: Body,
    given: Images,
    y: Int[Tensor, " support"],
    inner: InnerLoop,
    statistics: str,
    *,
    own: Trained | None = None,
    head: UnitLinear | None = None,
) -> Network:
    """The network after `inner` on the support set; `head` replaces the model's own.

    `own` brings a run's learned rates and the start of its head. Raises FloatingPointError if the adapted weights are
    not finite.
    """
    network = Network(body.model, body.device, body.by_batch) if head is None else with_fresh_head(body, head)
    model = network.model
    x = given.stack(range(len(given))).to(body.device)
    episode = Episodes(x[None], y[None].to(body.device), x[None, :0], y[None, :0].to(body.device))
    fast = adapt(
        model,
        network.slow,
        episode.support_x,
        episode.support_y,
        inner,
        rates=own.rates if own else None,
        start=started(model, network.slow, episode, own.start) if own else None,
        step_weights=own.step_weights if own else None,
    )
    if not all(bool(w.isfinite().all()) for w in fast.values()):
        raise FloatingPointError(f"the adapted weights are not finite: lower lr, which was {inner.lr:g}")
    after = (
        {} if own is None else at_step({n: network.slow[n] for n in own.step_weights}, own.step_weights, inner.steps)
    )
    return _by_support(replace(network, fast=fast, last=after), given, statistics)


class _NoHead(nn.Identity):
    """Stands behind a body without a head; a map of features is read by its spatial mean."""

    readout = "mean"


def with_head(model: nn.Sequential, head: nn.Module, *, instead: bool = False) -> nn.Sequential:
    """The same blocks (not copied) with a block more, or with another last block."""
    blocks = blocks_of(model)
    if instead:
        blocks.popitem()
    name = "head"
    while name in blocks:
        name += "_"
    out = nn.Sequential()
    for n, block in {**blocks, name: head}.items():
        out.add_module(n, block)
    return out.eval()


@torch.no_grad()
def _by_support(network: Network, given: Images, statistics: str) -> Network:
    """The network with batch statistics of the support set, where that is asked for and batch norm needs any."""
    if not network.by_batch or statistics != "support":
        return network
    x = given.stack(range(len(given))).to(network.device)
    return replace(network, statistics=batch_statistics(network.model, network.slow, network.fast, x[None]))
