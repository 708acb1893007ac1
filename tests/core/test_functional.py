"""Running a model as a function of its weights: whose statistics, which blocks, what is refused."""

import inspect
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

import reference
from innerloop.core.functional import (
    Weights,
    batch_statistics,
    block_names,
    block_of,
    blocks_of,
    forward,
    resolve_blocks,
    slow_weights,
    split_model,
)
from innerloop.core.inner import InnerLoop, adapt
from innerloop.errors import InnerloopError
from naming import names
from planting import plants
from small import conv_model, each_task, images, stock_model


def run(model: nn.Sequential, slow: Weights, fast: Weights, x: Tensor, of: Tensor | None = None) -> Tensor:
    """A forward pass with the batch statistics of `of`, or of x itself."""
    return forward(model, slow, fast, x, statistics=None if of is None else batch_statistics(model, slow, fast, of))


@plants(
    "the fast weights of task 0 for all",
    "core.functional:forward",
    lambda right: (
        lambda model, slow, fast, *more, **options: right(
            model, slow, {n: w[:1].expand_as(w) for n, w in fast.items()}, *more, **options
        )
    ),
)
@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("blocks", ["all", "body", ["conv2", "conv4"]])
def test_each_task_runs_with_its_own_weights_and_statistics(blocks, tasks: int) -> None:
    """Catches: statistics over all tasks, the fast weights of another task, a slow weight where a fast one is."""
    model, e = conv_model(), images()[:tasks]
    slow = slow_weights(model)
    fast = adapt(model, slow, e.support_x, e.support_y, InnerLoop(blocks, 2, 0.3))
    for of in (None, e.support_x):
        out = run(model, slow, fast, e.query_x, of)
        for t, (sx, _, qx, _) in enumerate(each_task(e)):
            w = {n: fast[n][t] if n in fast else p for n, p in slow.items()}
            context = None if of is None else sx
            torch.testing.assert_close(out[t], reference.conv4(w, qx, statistics_of=context))


@plants(
    "the statistics given are not used",
    "core.functional:Normalise.__call__",
    lambda right: lambda self, x: type(self.norm).forward(self.norm, x),
)
@pytest.mark.parametrize("tasks", [1, 3])
def test_with_support_statistics_no_query_example_influences_another(tasks: int) -> None:
    """Non-transductive is what it says; with batch statistics the others do matter."""
    model, e = conv_model(), images()[:tasks]
    slow = slow_weights(model)
    fast = adapt(model, slow, e.support_x, e.support_y, InnerLoop("all", 1, 0.3))
    other = e.query_x.clone()
    other[:, 1:] += 2.0
    for of, independent in ((e.support_x, True), (None, False)):
        a = run(model, slow, fast, e.query_x, of)
        b = run(model, slow, fast, other, of)
        assert torch.allclose(a[:, 0], b[:, 0], atol=1e-12) == independent
        assert not torch.allclose(a[:, 1:], b[:, 1:])
        alone = run(model, slow, fast, e.query_x[:, :1], of)
        assert torch.allclose(a[:, :1], alone, atol=1e-12) == independent
    shifted = run(model, slow, fast, e.query_x, e.support_x * 2)
    assert not torch.allclose(shifted, run(model, slow, fast, e.query_x, e.support_x))


def test_support_statistics_end_with_the_call() -> None:
    """Also after an error: the next forward pass uses its own batch."""
    model, e = conv_model(), images()
    slow = slow_weights(model)
    own = forward(model, slow, {}, e.query_x)
    run(model, slow, {}, e.query_x, e.support_x[:, :3])
    torch.testing.assert_close(model(e.query_x[0]), own[0])  # the model as it is called outside the library
    assert torch.equal(own, forward(model, slow, {}, e.query_x))
    with pytest.raises(InnerloopError, match=r"float64.*\(3, 6, 1, 17, 17\)"):
        run(model, slow, {}, e.query_x[:, :, :1], e.support_x[:, :, :1])
    assert torch.equal(own, forward(model, slow, {}, e.query_x))


@plants("running statistics let through", "core.bind:_check_stateless", lambda right: lambda *given: None)
def test_batch_norm_with_running_statistics_is_refused_in_training_and_taken_in_evaluation() -> None:
    """It would carry one episode over into the next."""

    def build() -> nn.Sequential:
        layers = OrderedDict(conv=nn.Conv2d(2, 3, 3), norm=nn.BatchNorm2d(3), flat=nn.Flatten(), head=nn.Linear(675, 3))
        return nn.Sequential(layers).double()

    model, e = build(), images()
    inner = InnerLoop("all", 1, 0.1)
    with pytest.raises(InnerloopError, match=names("norm", "BatchNorm2d", "track_running_stats=False", "model.eval()")):
        adapt(model, slow_weights(model), e.support_x, e.support_y, inner)
    model.eval()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    fast = adapt(model, slow_weights(model), e.support_x, e.support_y, inner)
    out = run(model, slow_weights(model), fast, e.query_x, e.support_x)
    torch.testing.assert_close(out, forward(model, slow_weights(model), fast, e.query_x))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("tasks", [1, 3])
def test_instance_norm_with_running_statistics_is_refused_too(tasks: int) -> None:
    layers = OrderedDict(body=nn.InstanceNorm2d(2, track_running_stats=True), flat=nn.Flatten(), head=nn.Linear(578, 3))
    model, e = nn.Sequential(layers).double(), images()[:tasks]
    with pytest.raises(InnerloopError, match=names("body", "InstanceNorm2d", "track_running_stats=False")):
        forward(model, slow_weights(model), {}, e.query_x)
    forward(model.eval(), slow_weights(model), {}, e.query_x)


@pytest.mark.parametrize("tasks", [1, 3])
def test_support_statistics_reach_torch_s_own_batch_norm(tasks: int) -> None:
    """The same as stored statistics of the support set in evaluation mode; and they are differentiable."""
    model, e = stock_model(), images()[:tasks]
    slow = slow_weights(model)
    statistics = batch_statistics(model, slow, {}, e.support_x)
    out = forward(model, slow, {}, e.query_x, statistics=statistics)
    for t in range(tasks):
        twin = stock_model()
        seen = twin[0](e.support_x[t]).detach()
        norm = nn.BatchNorm2d(3).double()
        norm.running_mean, norm.running_var = seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0)
        twin.norm = norm.eval()
        torch.testing.assert_close(out[t], twin(e.query_x[t]))
    (gradient,) = torch.autograd.grad(statistics["norm"][1].sum(), slow["first.weight"])
    assert bool(gradient.any())


@plants(
    "the body is the first block",
    "core.functional:resolve_blocks",
    lambda right: lambda model, blocks: right(model, blocks)[:1] if blocks == "body" else right(model, blocks),
)
def test_blocks_by_name() -> None:
    model = conv_model()
    blocks = block_names(model)
    assert blocks == ("conv1", "conv2", "conv3", "conv4", "head")
    assert resolve_blocks(model, "all") == blocks
    assert resolve_blocks(model, "head") == ("head",)
    assert resolve_blocks(model, "body") == blocks[:-1]
    assert resolve_blocks(model, "none") == resolve_blocks(model, []) == ()
    assert resolve_blocks(model, ["head", "conv3"]) == ("conv3", "head")
    assert block_of("conv1.norm.weight") == "conv1"
    with pytest.raises(InnerloopError, match=names("conv9", *blocks)):
        resolve_blocks(model, ["conv9", "head"])
    with pytest.raises(InnerloopError, match=names("tail", "all", "head", "body", "none", *blocks)):
        resolve_blocks(model, "tail")


def test_a_model_that_is_no_sequential_is_refused() -> None:
    with pytest.raises(TypeError, match=names("Linear", "nn.Sequential")):
        inspect.unwrap(blocks_of)(nn.Linear(2, 2))  # without the signature check of the tests


def test_split_shares_the_modules() -> None:
    model = conv_model()
    before, rest = split_model(model, ("conv3", "head"))
    assert [n for n, _ in before.named_children()] == ["conv1", "conv2"]
    assert [n for n, _ in rest.named_children()] == ["conv3", "conv4", "head"]
    assert rest.get_submodule("conv3") is model.get_submodule("conv3")
    assert len(split_model(model, ())[1]) == 0


def test_statistics_need_no_pass_through_the_head() -> None:
    """A head may not take images: one that compares pairs, for instance."""

    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the head was run")

    model, e = conv_model(), images()
    slow = slow_weights(model)
    whole = batch_statistics(model, slow, {}, e.support_x)
    assert list(whole) == [f"conv{i}.norm" for i in range(1, 5)]
    model.head = Refuses()
    for name, (mean, variance) in batch_statistics(model, slow, {}, e.support_x).items():
        assert torch.equal(mean, whole[name][0])
        assert torch.equal(variance, whole[name][1])
    assert batch_statistics(nn.Sequential(OrderedDict(head=nn.Linear(2, 2))), {}, {}, e.support_x) == {}


@pytest.mark.parametrize("tasks", [1, 3])
def test_statistics_that_lack_a_layer_are_refused(tasks: int) -> None:
    """Catches a layer that silently takes the query set's own beside others that take the support set's."""
    model, e = conv_model(), images()[:tasks]
    slow = slow_weights(model)
    found = batch_statistics(model, slow, {}, e.support_x)
    del found["conv3.norm"]
    with pytest.raises(InnerloopError, match=names("conv3.norm", "conv1.norm", "conv2.norm", "conv4.norm")):
        forward(model, slow, {}, e.query_x, statistics=found)
