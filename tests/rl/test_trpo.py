"""The trust-region step: Fisher products, conjugate gradients, the bound, and tasks that do not touch one another."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from innerloop.core.functional import forward
from innerloop.core.inner import InnerLoop
from innerloop.core.random import generator_for
from innerloop.rl.trpo import (
    Batch,
    FisherProduct,
    Learner,
    MetaBatch,
    Trpo,
    conjugate_gradient,
    judge,
    mean_divergence,
    ratio_loss,
    surrogate_gradient,
    trust_region_step,
)
from navigating import TASKS, learner, meta_batch
from planting import but, plants


def unflatten(v: Tensor, like: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    parts = v.split([p.numel() for p in like.values()])
    return {n: part.view(p.shape) for (n, p), part in zip(like.items(), parts, strict=True)}


@plants(
    "damping left out",
    "rl.trpo:FisherProduct",
    lambda right: lambda of, slow, data, chunk=0, damping=0.0: right(of, slow, data, chunk),
)
@pytest.mark.parametrize(("blocks", "steps"), [("all", 1), ("head", 1), ("all", 2)])
def test_fisher_product_equals_the_explicit_hessian_of_the_kl(blocks: str, steps: int) -> None:
    """The Hessian by two plain derivatives of the divergence itself, through the inner step."""
    of = learner(blocks, steps=steps)
    slow, data = meta_batch(of)
    flat = torch.cat([p.detach().flatten() for p in slow.values()])

    def kl(v: Tensor) -> Tensor:
        return mean_divergence(of.output(unflatten(v, slow), data.support, data.query.x), data.query).mean()

    hessian = torch.autograd.functional.hessian(kl, flat)
    product = FisherProduct(of, slow, data)
    assert isinstance(hessian, Tensor)
    columns = torch.stack([product(e) for e in torch.eye(len(flat), dtype=torch.float64)], 1)
    assert float((columns - hessian).norm() / hessian.norm()) < 1e-9
    assert float(torch.linalg.eigvalsh(columns).min()) > -1e-9
    # what the inner step adds is there: without it the matrix is another one
    plain = FisherProduct(Learner(of.policy, InnerLoop(blocks="none", steps=1)), slow, data)
    one = torch.ones_like(flat)
    assert float((plain(one) - product(one)).norm() / product(one).norm()) > 1e-3
    v = torch.linspace(-1, 1, len(flat), dtype=torch.float64)
    damped = FisherProduct(of, slow, data, chunk=2, damping=0.5)
    assert torch.allclose(damped(v), hessian @ v + 0.5 * v)


@plants(
    "one step of steepest descent",
    "rl.trpo:conjugate_gradient",
    lambda right: lambda product, b, *_: right(product, b, 1),
)
def test_conjugate_gradient_equals_solve() -> None:
    g = generator_for(0, "matrix")
    a = torch.randn(12, 12, generator=g, dtype=torch.float64)
    a = a @ a.T + torch.eye(12, dtype=torch.float64)
    b = torch.randn(12, generator=g, dtype=torch.float64)
    exact = torch.linalg.solve(a, b)
    assert torch.allclose(conjugate_gradient(lambda v: a @ v, b, 30, 1e-24), exact, atol=1e-9)
    # after k steps it is the best point of the Krylov space, in the norm of the matrix
    found = conjugate_gradient(lambda v: a @ v, b, 3)
    space = torch.stack([b, a @ b, a @ a @ b], 1)
    best = space @ torch.linalg.solve(space.T @ a @ space, space.T @ b)
    assert torch.allclose(found, best, atol=1e-8)
    assert not bool(conjugate_gradient(lambda v: a @ v, torch.zeros_like(b), 5).any())


@plants(
    "the bound on the divergence is not looked at",
    "rl.trpo:judge",
    lambda right: lambda *given: (right(*given)[0], 0.0),
)
@pytest.mark.parametrize("blocks", ["all", "head"])
def test_an_accepted_step_is_better_and_within_the_bound(blocks: str) -> None:
    of = learner(blocks)
    slow, data = meta_batch(of)
    before = {n: p.detach().clone() for n, p in slow.items()}
    loss0 = float(ratio_loss(of.output(slow, data.support, data.query.x), data.query.y).mean().detach())
    for bound in (0.01, 1e-4):
        with torch.no_grad():
            for n, p in slow.items():
                p.copy_(before[n])
        got = trust_region_step(of, slow, data, Trpo(max_kl=bound))
        assert got.accepted
        out = of.output(slow, data.support, data.query.x).detach()
        kl = float(mean_divergence(out, data.query).mean())
        assert kl == pytest.approx(got.kl, rel=1e-9)
        assert 0.05 * bound < kl <= bound
        assert float(ratio_loss(out, data.query.y).mean()) == pytest.approx(got.loss_after, rel=1e-9)
        assert got.loss_after < got.loss_before == pytest.approx(loss0, abs=1e-12)


def test_a_step_that_nothing_accepts_leaves_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import innerloop.rl.trpo as module

    of = learner()
    slow, data = meta_batch(of)
    before = {n: p.detach().clone() for n, p in slow.items()}
    monkeypatch.setattr(module, "judge", lambda *_: (-1.0, 0.0101))
    got = trust_region_step(of, slow, data, Trpo(tries=4))
    assert (got.accepted, got.tries, got.kl) == (False, 4, 0.0)
    assert all(torch.equal(before[n], p) for n, p in slow.items())
    monkeypatch.setattr(module, "judge", lambda *_: (float("nan"), 0.0))
    assert not trust_region_step(of, slow, data, Trpo()).accepted


def test_line_search_shrinks_by_the_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    import innerloop.rl.trpo as module

    of = learner()
    slow, data = meta_batch(of)
    before = {n: p.detach().clone() for n, p in slow.items()}
    seen: list[Tensor] = []

    def recorded(learner: Learner, candidate: dict, data: MetaBatch, chunk: int) -> tuple[float, float]:
        seen.append(torch.cat([(candidate[n] - before[n]).flatten() for n in before]))
        return (-1.0, 0.02) if len(seen) < 3 else (-1.0, 0.01)

    monkeypatch.setattr(module, "judge", recorded)
    assert trust_region_step(of, slow, data, Trpo()).tries == 3
    assert torch.allclose(seen[1], 0.8 * seen[0])
    assert torch.allclose(seen[2], 0.64 * seen[0])


@plants("the step is not scaled to the bound", "rl.trpo:math", lambda right: but(right, sqrt=lambda x: 1.0))
def test_the_first_candidate_is_the_bound_in_the_quadratic_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """s along F⁻¹ g with ½ sᵀ F s = δ, F from the curvature's data and damped, by as many iterations as are set."""
    import innerloop.rl.trpo as module

    of = learner()
    slow, data = meta_batch(of)
    before = torch.cat([p.detach().flatten() for p in slow.values()])
    few = MetaBatch([s.first(12) for s in data.support], data.query.first(12))
    product = FisherProduct(of, slow, few, damping=0.3)
    _, g = surrogate_gradient(of, slow, data)
    seen: list[Tensor] = []

    def recorded(_learner: Learner, candidate: dict, *_: object) -> tuple[float, float]:
        seen.append(before - torch.cat([w.flatten() for w in candidate.values()]))
        return -1.0, 1.0

    monkeypatch.setattr(module, "judge", recorded)
    for iterations in (1, 3, 60):
        seen.clear()
        trust_region_step(
            of, slow, data, Trpo(max_kl=0.02, damping=0.3, cg_iterations=iterations, tries=1), curvature=few
        )
        (s,) = seen
        assert float(0.5 * s @ product(s)) == pytest.approx(0.02, rel=1e-9)
        along = conjugate_gradient(product, g, iterations)
        assert torch.allclose(s / s.norm(), along / along.norm(), atol=1e-9)
    back = product(seen[0])
    assert torch.allclose(back / back.norm(), g / g.norm(), atol=1e-3)


@pytest.mark.parametrize("blocks", ["all", "head"])
def test_chunks_and_single_tasks_give_the_same(blocks: str) -> None:
    of = learner(blocks)
    slow, data = meta_batch(of)
    value, g = surrogate_gradient(of, slow, data)
    for chunk in (1, 2):
        other_value, other = surrogate_gradient(of, slow, data, chunk)
        assert value == pytest.approx(other_value, abs=1e-12)
        assert torch.allclose(g, other, atol=1e-12)
        assert judge(of, slow, data, chunk) == pytest.approx(judge(of, slow, data), abs=1e-12)
    single = [surrogate_gradient(of, slow, part) for part in data.chunks(1)]
    assert torch.allclose(g, torch.stack([s[1] for s in single]).sum(0), atol=1e-12)


def test_anil_leaves_the_body_as_it_is_and_maml_does_not() -> None:
    for blocks in ("all", "head"):
        of = learner(blocks)
        slow, data = meta_batch(of)
        fast = of.adapt(slow, data.support)
        assert {n.split(".")[0] for n in fast} == ({"head"} if blocks == "head" else {"hidden1", "hidden2", "head"})
        x = data.query.x[:1].expand(TASKS, -1, -1)
        body = torch.nn.Sequential()
        for name, block in list(of.policy.named_children())[:-1]:
            body.add_module(name, block)
        h = forward(body, slow, {n: w for n, w in fast.items() if not n.startswith("head")}, x)
        same = all(torch.allclose(h[0], h[k], atol=1e-12) for k in range(1, TASKS))
        assert same is (blocks == "head")
        assert not torch.allclose(fast["head.weight"][0], fast["head.weight"][1])
        assert not torch.allclose(fast["head.log_std"][0], fast["head.log_std"][1])


def test_two_inner_steps_are_two_gradient_steps() -> None:
    of = learner(steps=2)
    slow, data = meta_batch(of)
    fast = of.adapt(slow, data.support)
    for k in range(TASKS):
        weights = {n: p.detach().clone() for n, p in slow.items()}
        for b in data.support:
            leaves = {n: w.requires_grad_() for n, w in weights.items()}
            out = torch.func.functional_call(of.policy, leaves, (b.x[k],))
            grads = torch.autograd.grad(ratio_loss(out[None], b.y[k][None]).sum(), list(leaves.values()))
            weights = {n: (w - 0.3 * g).detach() for (n, w), g in zip(leaves.items(), grads, strict=True)}
        for n, w in weights.items():
            assert torch.allclose(fast[n][k], w, atol=1e-12)


@plants("steps behind an end count", "rl.trpo:_mean", lambda right: lambda values, weight: values.mean(1))
def test_what_lies_behind_an_end_counts_nowhere() -> None:
    of = learner()
    slow, data = meta_batch(of)
    value, g = surrogate_gradient(of, slow, data)
    (support,) = data.support
    dead = support.weight == 0
    assert bool(dead.any())
    x = torch.where(dead[..., None], 7.0, support.x)
    y = torch.cat([support.y[..., :-1] + 0.3 * dead[..., None], support.y[..., -1:]], -1)
    changed = MetaBatch([Batch(x, y, support.old)], data.query)
    other_value, other = surrogate_gradient(of, slow, changed)
    assert value == pytest.approx(other_value, abs=1e-12)
    assert torch.allclose(g, other, atol=1e-12)


@plants(
    "the trust region's KL the other way round",
    "rl.trpo:mean_divergence",
    lambda right: lambda output, data: right(data.old, replace(data, old=output)),
)
def test_the_judged_divergence_is_that_from_the_old_policy_to_the_new() -> None:
    """KL(π_old ‖ π), by torch's own formula, at weights where the other direction is another number."""
    of = learner()
    slow, data = meta_batch(of)
    g = generator_for(0, "elsewhere")
    moved = {n: p.detach() + 0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype) for n, p in slow.items()}
    new = of.output(moved, data.support, data.query.x).detach()

    def normal(output: Tensor) -> torch.distributions.Independent:
        mean, log_std = output.chunk(2, -1)
        return torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1)

    def mean_kl(p: Tensor, q: Tensor) -> float:
        each = torch.distributions.kl_divergence(normal(p), normal(q))
        weight = data.query.weight
        return float(((each * weight).sum(1) / weight.sum(1)).mean())

    data.query.y[1, -7:, -1] = 0.0  # behind an end
    for chunk in (0, 2):
        assert judge(of, moved, data, chunk)[1] == pytest.approx(mean_kl(data.query.old, new), rel=1e-9)
    assert mean_kl(new, data.query.old) != pytest.approx(mean_kl(data.query.old, new), rel=0.05)
