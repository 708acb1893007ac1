"""What the outer loop minimises, and where the head starts: MAML++, Reptile, iMAML, ProtoMAML, UNICORN, Meta-SGD
against closed forms, plain loops and finite differences."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import reference
from innerloop.core.episodes import Episodes
from innerloop.core.functional import forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt, adapted_parameters, with_steps
from innerloop.core.losses import cross_entropy, mean_squared_error
from innerloop.core.outer import Objective, objective_gradient
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.methods.gradient import body_features
from innerloop.methods.head_init import class_means, head_start
from innerloop.methods.method import predictor
from innerloop.methods.metric import euclidean_means
from innerloop.methods.objectives import batches, conjugate_gradients, implicit, multi_step, reptile, step_shares
from innerloop.models import BatchNorm2d, Conv2d, Linear
from innerloop.models.head import CosineLinear, PairHead
from naming import names
from planting import plants
from small import conv_model, each_task, images, jiggle, norm_names, pick, small_mlp, step_outputs, targets


def close(found: Tensor, wanted: Tensor, *, rtol: float = 1e-7, atol: float = 1e-7) -> None:
    """In float64, where torch's own tolerances are these."""
    torch.testing.assert_close(found, wanted.detach(), rtol=rtol, atol=atol)


def gradient(objective: Objective, parameters, e: Episodes, **options) -> dict[str, Tensor]:
    return objective_gradient(objective, parameters, e, **options).gradient


def query_loss(model: nn.Sequential, inner: InnerLoop, **options) -> Objective:
    """The usual objective: the loss after the last inner step."""
    predict = predictor(model, inner, **options)

    def objective(parameters, e: Episodes) -> tuple[Tensor, Tensor]:
        out = predict(parameters, e)
        return options.get("loss", cross_entropy)(out, e.query_y), out

    return objective


def tiny() -> nn.Sequential:
    """Smooth, with batch norm: small enough for finite differences."""
    body = nn.Sequential(Conv2d(2, 2, stride=2), BatchNorm2d(2), nn.Tanh())
    return jiggle(nn.Sequential(OrderedDict(body=body, head=Linear(2 * 9, 3))).double())


def tiny_images(tasks: int = 2) -> Episodes:
    return images(tasks=tasks, way=3, shot=1, query=2, size=5)


# ---- MAML++: the loss after each step


@plants(
    "the last step's share goes to all",
    "methods.objectives:step_shares",
    lambda right: lambda steps, anneal: [right(steps, anneal)[-1]] * steps,
)
@given(st.integers(1, 12), st.floats(0, 1))
def test_shares_sum_to_one_and_move_to_the_last(steps: int, anneal: float) -> None:
    shares = step_shares(steps, anneal)
    assert len(shares) == steps
    assert sum(shares) == pytest.approx(1)
    assert all(s >= 0 for s in shares)
    assert all(s == shares[0] for s in shares[:-1])
    assert shares[-1] >= shares[0] - 1e-12


def test_shares_at_both_ends_and_between() -> None:
    assert step_shares(4, 0.0) == pytest.approx([0.25] * 4)
    assert step_shares(4, 1.0) == [0, 0, 0, 1]
    assert step_shares(4, 0.6) == pytest.approx([0.1, 0.1, 0.1, 0.7])
    assert step_shares(1, 0.3) == pytest.approx([1.0])
    for anneal in (-0.1, 1.1, float("nan")):
        with pytest.raises(InnerloopError, match=names("anneal", 0, 1, anneal)):
            step_shares(3, anneal)


@plants(
    "the output before any step has a share",
    "methods.objectives:step_predictions",
    lambda right: lambda *given, **more: iter([None, *list(right(*given, **more))[:-1]]),
)
@pytest.mark.parametrize("statistics", ["batch", "support"])
@pytest.mark.parametrize("anneal", [0.0, 0.4])
def test_multi_step_is_the_weighted_sum_of_separate_adaptations(statistics, anneal: float) -> None:
    """Value, gradient and the prediction returned: Σ v_m L(θ_m), m = 1 … 3, each θ_m from a loop of its own."""
    model, e = conv_model(), images()
    slow, inner = slow_weights(model), InnerLoop("all", 3, 0.2)
    losses, out = multi_step(model, inner, anneal=anneal, statistics=statistics)(slow, e)
    parts = [predictor(model, with_steps(inner, k), statistics=statistics)(slow, e) for k in (1, 2, 3)]
    early = (1 - anneal) / 3
    wanted = sum(v * cross_entropy(p, e.query_y) for v, p in zip((early, early, 1 - 2 * early), parts, strict=True))
    assert isinstance(wanted, Tensor)
    close(losses, wanted)
    close(out, parts[-1])
    names = list(slow)
    mine = torch.autograd.grad(losses.sum(), [slow[n] for n in names])
    for n, a, b in zip(names, mine, torch.autograd.grad(wanted.sum(), [slow[n] for n in names]), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, n=n: f"{n}: {m}")


def test_multi_step_annealed_is_maml() -> None:
    model, e, inner = conv_model(), images(), InnerLoop("all", 3, 0.2)
    slow = slow_weights(model)
    one = gradient(multi_step(model, inner, anneal=1.0), slow, e)
    for n, g in gradient(query_loss(model, inner), slow, e).items():
        close(one[n], g)
    with pytest.raises(InnerloopError, match=names("inner step")):
        multi_step(model, with_steps(inner, 0), anneal=0.5)


# ---- MAML++: batch norm's scale and shift for each step


def rows_of(model: nn.Sequential, rows: int) -> dict[str, Tensor]:
    slow = slow_weights(model)
    return {f"step:{n}": slow[n].detach().expand(rows, *slow[n].shape).clone() for n in sorted(norm_names(model))}


@pytest.mark.parametrize("recompute", [False, True])
def test_equal_rows_are_maml_and_their_gradients_sum_to_that_of_the_one(recompute: bool) -> None:
    model, e = conv_model(), images()
    slow, inner = slow_weights(model), InnerLoop("all", 2, 0.2, recompute=recompute)
    rows = {n: w.requires_grad_() for n, w in rows_of(model, 3).items()}
    for objective in (query_loss(model, inner), multi_step(model, inner, anneal=0.3)):
        plain = objective_gradient(objective, slow, e)
        steps = objective_gradient(objective, {**slow, **rows}, e)
        assert steps.loss == pytest.approx(plain.loss)
        for n, g in plain.gradient.items():
            if f"step:{n}" in rows:
                close(steps.gradient[f"step:{n}"].sum(0), g)
                assert bool(steps.gradient[f"step:{n}"].flatten(1).any(1).all()), "a row that is not used"
                assert not steps.gradient[n].any(), "the model's own scale and shift wait unused"
            else:
                close(steps.gradient[n], g)


@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_a_row_changes_what_comes_after_its_step_and_nothing_before(row: int) -> None:
    """Row m serves the support set of step m (0 is the first) and the query set after m steps: with three steps there
    are four rows, and outputs 0 … m−1 do not see row m."""
    model, e, inner = conv_model(), images(), InnerLoop("all", 3, 0.3)
    parameters = {**slow_weights(model), **rows_of(model, 4)}
    before = step_outputs(model, parameters, e, inner)
    changed = {n: w.clone() for n, w in parameters.items()}
    changed["step:conv2.norm.weight"][row] *= 1.5
    after = step_outputs(model, changed, e, inner)
    for k in range(4):
        assert torch.allclose(before[k], after[k]) == (k < row), k


@plants(
    "norms of the step before",
    "methods.gradient:at_step",
    lambda right: lambda slow, rows, step: right(slow, rows, max(0, step - 1)),
)
def test_rows_equal_a_loop_that_takes_each_step_s_scale_and_shift() -> None:
    """Plain autograd in the reference, one task after the other, the net told which row to take."""
    model, e = conv_model(), images()
    rows = rows_of(model, 3)
    g = generator_for(0, "rows")
    for n, w in list(rows.items()):
        rows[n] = (w + 0.3 * torch.randn(w.shape, generator=g, dtype=w.dtype)).requires_grad_()
    slow = slow_weights(model)
    inner = InnerLoop("all", 2, 0.2)
    names = adapted_parameters(model, inner)
    values = []
    for sx, sy, qx, qy in each_task(e):
        now: dict[str, Tensor] = dict(slow)
        for step in range(3):
            now |= {n.removeprefix("step:"): r[step] for n, r in rows.items()}
            if step < 2:
                value = reference.nll(reference.conv4(now, sx), sy)
                grads = torch.autograd.grad(value, [now[n] for n in names], create_graph=True)
                now |= {n: now[n] - 0.2 * d for n, d in zip(names, grads, strict=True)}
        values.append(reference.nll(reference.conv4(now, qx), qy))
    wanted = torch.autograd.grad(torch.stack(values).mean(), [slow["conv1.conv.weight"], *rows.values()])
    for recompute in (False, True):
        objective = query_loss(model, InnerLoop("all", 2, 0.2, recompute=recompute))
        found = gradient(objective, {**slow, **rows}, e)
        for n, d in zip(["conv1.conv.weight", *rows], wanted, strict=True):
            torch.testing.assert_close(found[n], d, msg=lambda m, n=n: f"{n}: {m}")


def test_further_steps_take_the_last_row() -> None:
    model, e, inner = conv_model(), images(), InnerLoop("all", 5, 0.2)
    short, long = rows_of(model, 2), rows_of(model, 6)
    for n in short:
        short[n][1] *= 1.3
        long[n][1:] *= 1.3
    a = step_outputs(model, {**slow_weights(model), **short}, e, inner)
    close(a, step_outputs(model, {**slow_weights(model), **long}, e, inner))


def test_what_adapts_cannot_have_rows() -> None:
    model, e = conv_model(), images()
    parameters = {**slow_weights(model), **rows_of(model, 3)}
    with pytest.raises(InnerloopError, match=names("conv1.norm")):
        predictor(model, InnerLoop("all", 2, adapt_norm=True))(parameters, e)


# ---- Meta-SGD


@pytest.mark.parametrize("first_order", [False, True])
def test_constant_rates_are_maml(first_order: bool) -> None:
    model, e = conv_model(), images()
    slow = slow_weights(model)
    names = adapted_parameters(model, InnerLoop())
    rates = {f"rate:{n}": torch.full_like(slow[n], 0.2) for n in names}
    one = gradient(query_loss(model, InnerLoop("all", 2, 9.0, first_order=first_order)), {**slow, **rates}, e)
    for n, g in gradient(query_loss(model, InnerLoop("all", 2, 0.2, first_order=first_order)), slow, e).items():
        close(one[n], g)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_gradient_of_a_rate_by_finite_differences(recompute: bool) -> None:
    """Two elements of each parameter's rate: (L(r + ε) − L(r − ε)) / 2ε in float64."""
    model, e = tiny(), tiny_images()
    slow = slow_weights(model)
    objective = query_loss(model, InnerLoop("all", 2, 0.3, recompute=recompute))
    names = adapted_parameters(model, InnerLoop())
    rates = {f"rate:{n}": torch.full_like(slow[n], 0.3).detach().requires_grad_() for n in names}
    found = gradient(objective, {**slow, **rates}, e)
    for n, r in rates.items():
        for at in (0, r.numel() - 1):
            sides = []
            for by in (1e-5, -1e-5):
                moved = r.detach().clone()
                moved.view(-1)[at] += by
                sides.append(float(objective({**slow, **rates, n: moved}, e)[0].mean().detach()))
            wanted = (sides[0] - sides[1]) / 2e-5
            assert float(found[n].view(-1)[at]) == pytest.approx(wanted, rel=1e-5, abs=1e-9)


def test_one_step_s_rate_has_the_gradient_of_the_paper() -> None:
    """∂L_query(θ − r ∘ g)/∂r = −g ∘ ∇L_query(θ'): Li et al. 2017, equation 1 differentiated by hand."""
    model, e = tiny(), tiny_images(tasks=1)
    slow = slow_weights(model)
    names = adapted_parameters(model, InnerLoop())
    rates = {f"rate:{n}": torch.full_like(slow[n], 0.3).detach().requires_grad_() for n in names}
    found = gradient(query_loss(model, InnerLoop("all", 1)), {**slow, **rates}, e)
    value = cross_entropy(forward(model, slow, {}, e.support_x), e.support_y).sum()
    g = dict(zip(names, torch.autograd.grad(value, [slow[n] for n in names]), strict=True))
    moved = {n: (slow[n] - 0.3 * g.get(n, torch.zeros(()))).detach().requires_grad_() for n in slow}
    after = cross_entropy(forward(model, moved, {}, e.query_x), e.query_y).sum()
    for n, d in zip(names, torch.autograd.grad(after, [moved[n] for n in names]), strict=True):
        close(found[f"rate:{n}"], -g[n] * d)


# ---- where the head starts


@plants(
    "ProtoMAML's bias with the wrong sign",
    "methods.head_init:head_start",
    lambda right: lambda *given: {n: -w if "bias" in n else w for n, w in right(*given).items()},
)
@plants(
    "ProtoMAML without the factor 2",
    "methods.head_init:head_start",
    lambda right: lambda *given: {n: w / 2 if "weight" in n else w for n, w in right(*given).items()},
)
@pytest.mark.parametrize("way", [3, 5])
def test_class_means_start_is_the_prototypical_network(way: int) -> None:
    """w_c = 2 μ_c, b_c = −‖μ_c‖² gives −‖f − μ_c‖² + ‖f‖²: a constant a query apart, so the same softmax; whatever
    way the model's own head has."""
    model, e = conv_model(way=3), images(way=way)
    slow = slow_weights(model)
    out = predictor(model, InnerLoop("all", 0), start="means")(slow, e)
    q, s = (body_features(model, slow, {}, x) for x in (e.query_x, e.support_x))
    wanted = euclidean_means(q, s, e.support_y)
    assert out.shape == (3, 2 * way, way)
    close(out, wanted + q.square().sum(-1, keepdim=True))
    close(out.softmax(-1), wanted.softmax(-1))


def test_class_means_start_is_differentiated() -> None:
    """ProtoMAML's gradient reaches the body through the prototypes too: finite differences after an inner step."""
    model, e = tiny(), tiny_images()
    slow = slow_weights(model)
    objective = query_loss(model, InnerLoop("all", 1, 0.1), start="means")
    found = gradient(objective, slow, e)
    assert not found["head.weight"].any(), "the model's own head is not used"
    name = "body.0.weight"
    for at in (0, 7):
        sides = []
        for by in (1e-5, -1e-5):
            moved = slow[name].detach().clone()
            moved.view(-1)[at] += by
            sides.append(float(objective({**slow, name: moved}, e)[0].mean().detach()))
        assert float(found[name].view(-1)[at]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5)


@plants(
    "class means summed",
    "methods.head_init:class_means",
    lambda right: lambda f, y, way: right(f, y, way) * F.one_hot(y, way).sum(1)[..., None],
)
def test_class_means_of_unequal_classes() -> None:
    f = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]]])
    found = class_means(f, torch.tensor([[2, 2, 0]]), 3)
    assert found.tolist() == [[[0.0, 5.0], [0.0, 0.0], [2.0, 0.0]]]


def test_a_cosine_head_starts_in_the_directions_of_the_means() -> None:
    """Baseline++ at 0 steps: the scaled cosine with the class mean."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(2 * 17 * 17, 4), nn.Tanh())
    model = nn.Sequential(OrderedDict(body=body, head=CosineLinear(4, 7, scale=5.0))).double()
    e = images()
    out = predictor(model, InnerLoop("head", 0), start="means")(slow_weights(model), e)
    for t in range(3):
        f, g = model[0](e.query_x[t]), model[0](e.support_x[t])
        for c in range(3):
            mean = g[e.support_y[t] == c].mean(0)
            close(out[t, :, c], 5 * F.cosine_similarity(f, mean[None]))


def test_zero_start_prefers_no_class() -> None:
    model, e = conv_model(way=7), images()
    out = predictor(model, InnerLoop("head", 0), start="zero")(slow_weights(model), e)
    assert out.shape == (3, 6, 3)
    assert not out.any()
    moved = predictor(model, InnerLoop("head", 1, 0.5), start="zero")(slow_weights(model), e)
    assert moved.any()


def test_zero_start_is_no_direction_for_a_cosine_head() -> None:
    """Its gradient there is divided by the ε of the normalisation: one step would be of length 10¹²."""
    model = nn.Sequential(OrderedDict(body=nn.Flatten(), head=CosineLinear(4, 3)))
    x, y = torch.randn(1, 3, 4), torch.arange(3)[None]
    with pytest.raises(InnerloopError, match=names("start", "'zero'", "cosine")):
        head_start("zero", model, slow_weights(model), x, y, 3)


def test_shared_start_has_equal_rows_and_trains_their_mean_alone() -> None:
    """UNICORN-MAML: at 0 steps all classes equal; the gradient of every row is the same, after inner steps too."""
    model, e = conv_model(way=4), images()
    slow = slow_weights(model)
    out = predictor(model, InnerLoop("all", 0), start="shared")(slow, e)
    f = body_features(model, slow, {}, e.query_x)
    wanted = f @ slow["head.weight"].mean(0) + slow["head.bias"].mean()
    close(out, wanted[..., None].expand(3, 6, 3))
    found = gradient(query_loss(model, InnerLoop("all", 2, 0.2), start="shared"), slow, e)
    for n in ("head.weight", "head.bias"):
        assert bool(found[n].any())
        close(found[n], found[n][:1].expand_as(found[n]))
    permuted = {n: (w[[2, 0, 3, 1]] if n.startswith("head") else w) for n, w in slow.items()}
    after = predictor(model, InnerLoop("all", 2, 0.2), start="shared")
    close(after(permuted, e), after(slow, e))


@pytest.mark.parametrize("start", ["zero", "shared", "means"])
def test_with_such_a_start_the_labels_are_only_names(start) -> None:
    """Renaming the classes of an episode renames the outputs, after inner steps too (Ye & Chao 2022)."""
    model, e = conv_model(), images()
    slow, rename = slow_weights(model), torch.tensor([2, 0, 1])
    other = Episodes(e.support_x, rename[e.support_y], e.query_x, rename[e.query_y])
    predict = predictor(model, InnerLoop("all", 2, 0.2), start=start)
    close(predict(slow, other)[..., rename], predict(slow, e))
    own = predictor(model, InnerLoop("all", 2, 0.2))
    assert not torch.allclose(own(slow, other)[..., rename], own(slow, e))


@pytest.mark.parametrize("start", ["zero", "shared", "means"])
@pytest.mark.parametrize("statistics", ["batch", "support"])
def test_step_outputs_with_a_start_are_those_of_k_steps(start, statistics) -> None:
    model, e = conv_model(way=5), images()
    slow = slow_weights(model)
    for blocks in ("all", "head"):
        inner = InnerLoop(blocks, 2, 0.2)
        found = step_outputs(model, slow, e, inner, start=start, statistics=statistics)
        for k, out in enumerate(found):
            close(out, predictor(model, with_steps(inner, k), start=start, statistics=statistics)(slow, e))


def test_a_start_needs_a_linear_head() -> None:
    model = nn.Sequential(OrderedDict(body=nn.Flatten(), head=PairHead(4)))
    x, y = torch.randn(1, 3, 4), torch.arange(3)[None]
    with pytest.raises(InnerloopError, match=names("start", "'means'", "'head'", "PairHead")):
        head_start("means", model, slow_weights(model), x, y, 3)
    assert head_start("own", model, slow_weights(model), x, y, 3) == {}


@pytest.mark.parametrize("start", ["zero", "shared", "means"])
def test_a_start_needs_one_bias_a_class(start) -> None:
    model = nn.Sequential(OrderedDict(body=nn.Flatten(), head=nn.Linear(4, 3)))
    slow = slow_weights(model) | {"head.bias": torch.zeros(1)}
    with pytest.raises(InnerloopError, match=names(f"'{start}'", "head.bias", "(1,)", "3")):
        head_start(start, model, slow, torch.randn(1, 3, 4), torch.arange(3)[None], 3)


# ---- Reptile


def plain_descent(model: nn.Sequential, e: Episodes, t: int, steps: int, rate: float, loss) -> dict[str, Tensor]:
    """θ_m of task t by torch's own optimizer on support and query together, each step on every so many-th image in the
    order of the classes; the model ends as it began."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    names = adapted_parameters(model, InnerLoop())
    optimizer = torch.optim.SGD([model.get_parameter(n) for n in names], lr=rate)
    x, y = torch.cat([e.support_x[t], e.query_x[t]]), torch.cat([e.support_y[t], e.query_y[t]])
    order = list(range(len(y))) if y.is_floating_point() else sorted(range(len(y)), key=lambda i: int(y[i]))
    for step in range(steps):
        mine = [i for place, i in enumerate(order) if place % steps == step]
        optimizer.zero_grad()
        loss(model(x[mine]), y[mine]).backward()
        optimizer.step()
    after = {n: model.get_parameter(n).detach().clone() for n in names}
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(before[n])
            p.grad = None
    return after


@plants(
    "Reptile begins each step anew",
    "methods.objectives:adapt",
    lambda right: lambda *given, start=None, **more: right(*given, **more),
)
@plants(
    "Reptile walks away",
    "methods.objectives:_with_gradient",
    lambda right: lambda value, slow, way: right(value, slow, {n: -d for n, d in way.items()}),
)
@pytest.mark.parametrize(("kind", "chunk"), [("conv", None), ("conv", 2), ("mlp", 1)])
def test_reptile_s_gradient_is_the_mean_way_back(kind: str, chunk: int | None) -> None:
    """θ − θ_m, the mean over tasks, against torch's SGD on one task after the other."""
    model, e = (small_mlp(), targets()) if kind == "mlp" else (conv_model(), images())
    losses = (mean_squared_error, reference.squares) if kind == "mlp" else (cross_entropy, F.cross_entropy)
    inner = InnerLoop("all", 3, 0.1)
    slow = slow_weights(model)
    objective = reptile(model, inner, loss=losses[0])
    found = objective_gradient(objective, slow, e, task_chunk=chunk)
    ends = [plain_descent(model, e, t, 3, 0.1, losses[1]) for t in range(3)]
    for n, w in slow.items():
        if n in ends[0]:
            close(found.gradient[n], torch.stack([w.detach() - end[n] for end in ends]).mean(0))
        else:
            assert not found.gradient[n].any()
    wanted = []
    for t, end in enumerate(ends):
        out = forward(model, slow, {n: w[None] for n, w in end.items()}, e.query_x[t : t + 1])
        wanted.append(losses[0](out, e.query_y[t : t + 1])[0])
    assert found.loss == pytest.approx(float(torch.stack(wanted).mean().detach()))


def test_an_outer_step_of_rate_1_on_one_task_ends_at_its_fast_weights() -> None:
    model, e = conv_model(), images(tasks=1)
    inner = InnerLoop("all", 3, 0.1, adapt_norm=True)
    end = plain_descent(model, e, 0, 0, 0.1, F.cross_entropy)
    slow = slow_weights(model)
    x, y = torch.cat([e.support_x, e.query_x], 1), torch.cat([e.support_y, e.query_y], 1)
    with torch.no_grad():
        end = {}
        for own_x, own_y in batches(x, y, 3):
            end = adapt(model, slow, own_x, own_y, replace(inner, steps=1), start=end)
    found = gradient(reptile(model, inner), slow, e)
    optimizer = torch.optim.SGD(list(slow.values()), lr=1.0)
    for n, p in slow.items():
        p.grad = found[n]
    optimizer.step()
    assert set(end) == set(slow)
    for n, p in slow.items():
        close(end[n][0], p)


@plants(
    "Reptile's steps see the same images",
    "methods.objectives:batches",
    lambda right: lambda x, y, steps: iter([next(iter(right(x, y, steps)))] * steps),
)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 40])
def test_each_inner_step_of_reptile_has_other_images_of_all_classes(steps: int) -> None:
    """Without replacement: the same images in every step leave nothing but joint training."""
    g = torch.Generator().manual_seed(0)
    labels = torch.stack([torch.arange(3).repeat(5)[torch.randperm(15, generator=g)] for _ in range(2)])
    x = (torch.arange(15) + 100 * labels + 1000 * torch.arange(2)[:, None])[..., None].double()
    found = list(batches(x, labels, steps))
    assert len(found) == steps
    for t in range(2):
        first = [int(v) for own, _ in found[:5] for v in own[t, :, 0]]
        assert sorted(first) == sorted(int(v) for v in x[t, :, 0])
        for step, (own, own_labels) in enumerate(found):
            assert torch.equal((own[t, :, 0] % 1000 // 100).long(), own_labels[t])
            assert set(own_labels[t].tolist()) == {0, 1, 2}
            assert torch.equal(own, found[step % 5][0])


# ---- iMAML


def quadratic(tasks: int = 3, d: int = 4, n: int = 6) -> tuple[nn.Sequential, Episodes]:
    """Linear regression: the support loss is a quadratic of the weights, so that all is known in closed form."""
    g = generator_for(0, "quadratic")
    x = torch.randn(tasks, 2 * n, d, generator=g, dtype=torch.float64)
    y = torch.randn(tasks, 2 * n, 1, generator=g, dtype=torch.float64)
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(head=nn.Linear(d, 1, bias=False))).double()
    return jiggle(model), Episodes(x[:, :n], y[:, :n], x[:, n:], y[:, n:])


def curvature(x: Tensor) -> Tensor:
    """Of the mean squared error: A = 2 XᵀX / n."""
    return 2 * x.T @ x / len(x)


def proximal_minimum(theta: Tensor, x: Tensor, y: Tensor, pull: float) -> Tensor:
    """Of mean (Xw − y)² + λ/2 ‖w − θ‖²: (A + λ I)⁻¹ (2 Xᵀy / n + λ θ)."""
    a = curvature(x)
    return torch.linalg.solve(a + pull * torch.eye(len(a), dtype=a.dtype), 2 * x.T @ y[:, 0] / len(x) + pull * theta)


@pytest.mark.parametrize("pull", [0.5, 2.0])
@pytest.mark.parametrize("track", [True, False])
def test_the_proximal_inner_loop_ends_at_the_proximal_minimum(pull: float, track: bool) -> None:
    model, e = quadratic()
    slow = slow_weights(model)
    inner = InnerLoop("all", 400, 0.1, proximal=pull, first_order=True)
    with torch.set_grad_enabled(track):
        fast = adapt(model, slow, e.support_x, e.support_y, inner, loss=mean_squared_error)
    theta = slow["head.weight"].detach()[0]
    for t in range(3):
        close(
            fast["head.weight"].detach()[t, 0],
            proximal_minimum(theta, e.support_x[t], e.support_y[t], pull),
        )


@plants(
    "iMAML leaves out the curvature",
    "methods.objectives:conjugate_gradients",
    lambda right: lambda apply, b, iterations: b,
)
@pytest.mark.parametrize("pull", [0.5, 2.0])
def test_the_implicit_gradient_is_that_of_the_closed_form_minimum(pull: float) -> None:
    """autograd through (A + λ I)⁻¹ (b + λ θ) against (I + H/λ)⁻¹ ∇L_query at the inner loop's end."""
    model, e = quadratic()
    slow = slow_weights(model)
    inner = InnerLoop("all", 400, 0.1, proximal=pull)
    objective = implicit(model, inner, iterations=10, loss=mean_squared_error)
    for chunk in (1, None):
        found = objective_gradient(objective, slow, e, task_chunk=chunk)
        theta = slow["head.weight"].detach()[0].clone().requires_grad_()
        values = []
        for t in range(3):
            w = proximal_minimum(theta, e.support_x[t], e.support_y[t], pull)
            values.append((e.query_x[t] @ w - e.query_y[t, :, 0]).square().mean())
        value = torch.stack(values).mean()
        assert found.loss == pytest.approx(float(value.detach()))
        close(found.gradient["head.weight"][0], torch.autograd.grad(value, theta)[0])


def test_the_implicit_gradient_of_a_net_equals_the_solved_system() -> None:
    """The whole matrix I + H/λ of each task written out and solved; wherever the inner loop stopped."""
    model, e = small_mlp(), targets(tasks=2)
    slow = slow_weights(model)
    inner = InnerLoop("all", 3, 0.05, proximal=8.0)
    found = gradient(implicit(model, inner, iterations=200, loss=mean_squared_error), slow, e)
    names, shapes = list(slow), [p.shape for p in slow.values()]

    def unflat(v: Tensor) -> dict[str, Tensor]:
        parts = v.split([s.numel() for s in shapes])
        return {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}

    total = torch.zeros(sum(s.numel() for s in shapes), dtype=torch.float64)
    for t, (sx, sy, qx, qy) in enumerate(each_task(e)):
        with torch.no_grad():
            x, y = e.support_x[t : t + 1], e.support_y[t : t + 1]
            fast = adapt(model, slow, x, y, inner, loss=mean_squared_error)
        phi = torch.cat([fast[n][0].flatten() for n in names])
        h = torch.autograd.functional.hessian(
            lambda v, x=sx, y=sy: reference.squares(reference.mlp(unflat(v), x), y), phi
        )
        phi = phi.requires_grad_()
        (g,) = torch.autograd.grad(reference.squares(reference.mlp(unflat(phi), qx), qy), phi)
        assert isinstance(h, Tensor)
        assert float(torch.linalg.eigvalsh(h).min()) > -8, "else the system is not definite"
        total += torch.linalg.solve(torch.eye(len(g), dtype=torch.float64) + h / 8.0, g) / 2
    close(torch.cat([found[n].flatten() for n in names]), total, rtol=1e-5, atol=1e-8)


def test_a_strong_pull_is_plain_training_and_more_iterations_come_nearer() -> None:
    """λ → ∞: φ = θ and the gradient is that of the query loss; and 1, 3, 10 iterations approach the solution."""
    model, e = quadratic()
    slow = slow_weights(model)

    def by(pull: float, iterations: int, rate: float = 0.1) -> Tensor:
        inner = InnerLoop("all", 400, rate, proximal=pull)
        return gradient(implicit(model, inner, iterations=iterations, loss=mean_squared_error), slow, e)["head.weight"]

    plain = gradient(query_loss(model, InnerLoop("none"), loss=mean_squared_error), slow, e)["head.weight"]
    close(by(1e7, 5, 1e-8), plain, rtol=1e-5, atol=1e-6)
    solved = by(0.5, 30)
    errors = [float((by(0.5, k) - solved).norm()) for k in (1, 2, 3, 10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-8 < errors[0]


def test_the_implicit_gradient_needs_all_parameters_and_a_pull() -> None:
    model = conv_model()
    with pytest.raises(InnerloopError, match=names("'conv1.norm.weight'")):
        implicit(model, InnerLoop("all", 3, proximal=2.0))
    with pytest.raises(InnerloopError, match=names("inner.proximal", 0)):
        implicit(model, InnerLoop("all", 3, adapt_norm=True))


def test_the_proximal_term_is_differentiated_and_recomputed_alike() -> None:
    """The gradient through an inner loop with a pull: plain and recomputed agree with finite differences."""
    model, e = small_mlp(), targets()
    slow = slow_weights(model)
    found = {
        r: gradient(
            query_loss(model, InnerLoop("all", 3, 0.1, proximal=0.7, recompute=r), loss=mean_squared_error), slow, e
        )
        for r in (False, True)
    }
    objective = query_loss(model, InnerLoop("all", 3, 0.1, proximal=0.7), loss=mean_squared_error)
    for n in slow:
        close(found[True][n], found[False][n])
    moved, sides = slow["hidden2.linear.weight"].detach(), []
    for by in (1e-6, -1e-6):
        other = moved.clone()
        other[1, 2] += by
        sides.append(float(objective({**slow, "hidden2.linear.weight": other}, e)[0].mean().detach()))
    assert float(found[False]["hidden2.linear.weight"][1, 2]) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5)


# ---- conjugate gradients


def systems(
    seed: int, tasks: int = 3, shapes: tuple[tuple[int, ...], ...] = ((2, 3), (4,), ())
) -> tuple[Tensor, list[Tensor], Callable[[list[Tensor]], list[Tensor]]]:
    """A definite matrix a task over parameters of several shapes, a right side, and the product."""
    g = generator_for(seed, "systems")
    sizes = [torch.Size(s).numel() for s in shapes]
    d = sum(sizes)
    m = torch.randn(tasks, d, d, generator=g, dtype=torch.float64)
    a = m @ m.mT / d + torch.eye(d, dtype=torch.float64)
    right = [torch.randn(tasks, *s, generator=g, dtype=torch.float64) for s in shapes]

    def apply(v: list[Tensor]) -> list[Tensor]:
        flat = torch.cat([x.reshape(tasks, -1) for x in v], 1)
        out = torch.einsum("tij,tj->ti", a, flat).split(sizes, 1)
        return [o.reshape(tasks, *s) for o, s in zip(out, shapes, strict=True)]

    return a, right, apply


@given(st.integers(0, 10**6))
def test_conjugate_gradients_equal_the_solved_systems(seed: int) -> None:
    """As many iterations as unknowns, each task its own system; parameters of any shape, numbers too."""
    a, right, apply = systems(seed)
    found = torch.cat([x.reshape(3, -1) for x in conjugate_gradients(apply, right, 14)], 1)
    b = torch.cat([x.reshape(3, -1) for x in right], 1)
    torch.testing.assert_close(found, torch.linalg.solve(a, b), rtol=1e-7, atol=1e-9)


@plants(
    "one iteration too few",
    "methods.objectives:conjugate_gradients",
    lambda right: lambda apply, b, iterations: right(apply, b, max(0, iterations - 1)),
)
def test_iterations_are_counted_none_is_the_first_order_gradient_and_tasks_do_not_meet() -> None:
    a, right, apply = systems(1, shapes=((5,),))
    assert torch.equal(conjugate_gradients(apply, right, 0)[0], right[0])
    torch.testing.assert_close(conjugate_gradients(lambda v: [4 * v[0]], right, 1)[0], right[0] / 4)
    found = conjugate_gradients(apply, right, 2)[0]
    for t in range(3):
        alone = conjugate_gradients(lambda v, t=t: [v[0] @ a[t]], [right[0][t : t + 1]], 2)[0]
        torch.testing.assert_close(found[t], alone[0])


def test_a_task_without_a_minimum_stops_and_leaves_the_others_alone() -> None:
    """Negative curvature in task 0: its answer stays at b; an exact task stays exact, without 0 / 0."""
    d = torch.tensor([[-1.0, -2.0], [3.0, 5.0], [1.0, 1.0]], dtype=torch.float64)
    b = torch.ones(3, 2, dtype=torch.float64)
    (found,) = conjugate_gradients(lambda v: [d * v[0]], [b], 20)
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0], [1 / 3, 1 / 5], [1.0, 1.0]], dtype=torch.float64))


# ---- tasks


@pytest.mark.parametrize("kind", ["multi_step", "reptile", "implicit", "means", "shared"])
def test_the_chunk_changes_nothing_and_tasks_do_not_meet(kind: str) -> None:
    model, e = conv_model(), images(tasks=4)
    slow = slow_weights(model)
    inner = InnerLoop("all", 2, 0.1, adapt_norm=kind == "implicit", proximal=2.0 if kind == "implicit" else 0.0)
    objective = {
        "multi_step": lambda: multi_step(model, inner, anneal=0.5),
        "reptile": lambda: reptile(model, inner),
        "implicit": lambda: implicit(model, inner),
        "means": lambda: query_loss(model, inner, start="means"),
        "shared": lambda: query_loss(model, inner, start="shared"),
    }[kind]()
    whole = objective_gradient(objective, slow, e)
    order = [2, 0, 3, 1]
    for chunk, episodes, at in ((1, e, [0, 1, 2, 3]), (3, pick(e, order), order)):
        found = objective_gradient(objective, slow, episodes, task_chunk=chunk)
        assert found.loss == pytest.approx(whole.loss)
        torch.testing.assert_close(found.score, whole.score[at])
        for n, g in whole.gradient.items():
            torch.testing.assert_close(found.gradient[n], g, msg=lambda m, n=n: f"{n}: {m}")
