"""Heads of the metric and transfer families: the weighted L1 distance, scaled cosines, full-context embeddings."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from innerloop.core.random import generator_for
from innerloop.models.head import CosineLinear, FullContext, PairHead, features


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator_for(seed, "metric heads"), dtype=torch.float64)


# ---- cosines


@given(st.integers(0, 10**6), st.sampled_from([0.5, 2.0, 10.0]))
def test_cosine_logits_equal_a_loop_and_stay_within_the_scale(seed: int, scale: float) -> None:
    head = CosineLinear(5, 3, scale=scale).double()
    head.reset_parameters(generator_for(seed, "w"))
    x = 100 * drawn(4, 5, seed=seed)
    out = head(x)
    for i in range(4):
        for c in range(3):
            w = head.weight[c]
            torch.testing.assert_close(out[i, c], scale * (w @ x[i]) / (w.norm() * x[i].norm()))
    assert float(out.detach().abs().max()) <= scale + 1e-12
    own = head(head.weight.detach())
    torch.testing.assert_close(own.diagonal().detach(), torch.full((3,), scale, dtype=torch.float64))


def test_cosine_logits_forget_lengths() -> None:
    """Of the features and of the vectors: what Baseline++ is for. No bias that could prefer a class."""
    torch.manual_seed(0)
    head = CosineLinear(5, 3).double()
    x, out = drawn(4, 5), head(drawn(4, 5)).detach()
    torch.testing.assert_close(head(7 * x).detach(), out)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[2.0], [0.1], [30.0]], dtype=torch.float64))
    torch.testing.assert_close(head(x).detach(), out)
    assert [n for n, _ in head.named_parameters()] == ["weight"]


@pytest.mark.parametrize("readout", ["mean", "flatten"])
def test_cosine_head_reads_maps_as_the_linear_one(readout) -> None:
    x = drawn(2, 3, 2, 2)
    torch.manual_seed(0)
    head = CosineLinear(3 if readout == "mean" else 12, 4, readout=readout).double()
    flat = x.mean((2, 3)) if readout == "mean" else x.reshape(2, 12)
    torch.testing.assert_close(features(x, readout), flat)
    torch.testing.assert_close(head(x), head(flat))


# ---- pairs


def test_the_logit_of_a_pair_by_hand() -> None:
    head = PairHead(3).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        head.bias.fill_(0.25)
    distance = torch.tensor([[[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    # 0.25 − (1 − 2 + 1) and 0.25 − 0
    torch.testing.assert_close(head(distance), torch.tensor([[0.25, 0.25]], dtype=torch.float64))
    distance[0, 0, 0] = 3.0
    torch.testing.assert_close(head(distance), torch.tensor([[-1.75, 0.25]], dtype=torch.float64))


def test_a_pair_head_begins_by_calling_near_images_alike() -> None:
    """Larger distance, smaller logit; the same beginning whatever generator is given."""
    head = PairHead(16)
    torch.testing.assert_close(head.weight.detach(), torch.full((16,), 0.25))
    assert float(head.bias.detach()) == 0
    assert float(head(torch.ones(16)).detach()) == pytest.approx(-4)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(3.0)
    head.reset_parameters(generator_for(7, "x"))
    torch.testing.assert_close(head.weight.detach(), torch.full((16,), 0.25))
    assert float(head.bias.detach()) == 0


# ---- full context


def lstm(w: Tensor, u: Tensor, b: Tensor, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The textbook cell, gates in PyTorch's order: input, forget, cell, output."""
    i, f, g, o = (w @ x + u @ h + b).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def by_the_paper(net: FullContext, query: Tensor, support: Tensor, reads: int) -> tuple[Tensor, Tensor]:
    """One task, one image after the other, in the letters of Vinyals et al. 2016, appendices A.1 and A.2.

    A.1 gives the cell [h_{k−1}, r_{k−1}] as its hidden state: the columns of `read.weight_ih` after the first d are
    those for r.
    """
    d = support.shape[1]
    zero = torch.zeros(d, dtype=support.dtype)
    h, c, forth = zero, zero, []
    b = net.forth.bias_ih + net.forth.bias_hh
    for x in support:
        h, c = lstm(net.forth.weight_ih, net.forth.weight_hh, b, x, h, c)
        forth.append(h)
    h, c, back = zero, zero, []
    b = net.back.bias_ih + net.back.bias_hh
    for x in support.flip(0):
        h, c = lstm(net.back.weight_ih, net.back.weight_hh, b, x, h, c)
        back.insert(0, h)
    g = [f + k + x for f, k, x in zip(forth, back, support, strict=True)]
    w, v = net.read.weight_ih[:, :d], net.read.weight_ih[:, d:]
    u, b = torch.cat([net.read.weight_hh, v], 1), net.read.bias_ih + net.read.bias_hh
    found = []
    for x in query:
        h, r, c = zero, zero, zero
        for _ in range(reads):
            hat, c = lstm(w, u, b, x, torch.cat([h, r]), c)
            h = hat + x
            e = torch.stack([(h @ gi).exp() for gi in g])
            a = e / e.sum()
            r = sum((ai * gi for ai, gi in zip(a, g, strict=True)), zero)
        found.append(h)
    return torch.stack(found), torch.stack(g)


@pytest.mark.parametrize("reads", [1, 2, 5])
def test_full_context_equals_the_equations_of_the_paper(reads: int) -> None:
    torch.manual_seed(0)
    net = FullContext(3, reads=reads).double()
    query, support = drawn(2, 4, 3), drawn(2, 5, 3, seed=1)
    f, g = net(query, support)
    assert f.shape == query.shape
    assert g.shape == support.shape
    for t in range(2):
        one, context = by_the_paper(net, query[t], support[t], reads)
        torch.testing.assert_close(f[t], one)
        torch.testing.assert_close(g[t], context)


def test_the_support_is_torch_s_bidirectional_lstm_with_a_skip() -> None:
    torch.manual_seed(0)
    net = FullContext(3).double()
    other = torch.nn.LSTM(3, 3, bidirectional=True, batch_first=True).double()
    for cell, end in ((net.forth, ""), (net.back, "_reverse")):
        for p in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            other.get_parameter(f"{p}_l0{end}").data.copy_(cell.get_parameter(p))
    support = drawn(2, 5, 3)
    out = other(support)[0]
    torch.testing.assert_close(net(drawn(2, 1, 3), support)[1], support + out[..., :3] + out[..., 3:])


def test_what_the_context_depends_on() -> None:
    """The order of the support set matters; a query sees the support but no other query, a task no other task."""
    torch.manual_seed(0)
    net = FullContext(3).double()
    query, support = drawn(2, 4, 3), drawn(2, 5, 3, seed=1)
    f, g = net(query, support)
    other, turned = net(query, support.flip(1))
    assert not torch.allclose(turned.flip(1), g)
    assert not torch.allclose(other, f)
    torch.testing.assert_close(net(query[:, 1:2], support)[0], f[:, 1:2])
    torch.testing.assert_close(net(query[1:], support[1:])[0], f[1:])
    assert not torch.allclose(net(query, 2 * support)[0], f)


def test_full_context_is_drawn_from_its_generator_within_its_bound() -> None:
    a, b, c = FullContext(16), FullContext(16), FullContext(16)
    for net, seed in ((a, 1), (b, 1), (c, 2)):
        net.reset_parameters(generator_for(seed, "fce"))
    for (n, x), y, z in zip(a.named_parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(x, y), n
        assert not torch.equal(x, z), n
        assert 0.2 < float(x.detach().abs().max()) <= 0.25, n
