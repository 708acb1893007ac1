"""A name that is not known is an error that says so, wherever it decides between cases; never another name's case."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import nn

from innerloop.core.functional import slow_weights
from innerloop.errors import InnerloopError
from innerloop.methods.gradient import query_statistics
from innerloop.methods.head_init import head_start
from innerloop.methods.heads import normalised, support_logits
from innerloop.models import conv4, mlp
from innerloop.models.head import CosineLinear, FullContext, Linear, PairHead
from innerloop.rl import build as rl_build
from innerloop.rl import presets as rl_presets
from innerloop.rl.config import Config as RlConfig
from innerloop.rl.policy import Layer
from innerloop.rl.trpo import inner_loss
from innerloop.studies.budget import budget_config
from innerloop.studies.shift import find_target
from innerloop.training import build, presets
from innerloop.training.config import Arch, Model
from naming import names
from tiny import CONFIG, blobs, made_images  # noqa: F401

X, Y = torch.rand(1, 3, 4), torch.tensor([[0, 1, 2]])
MLP = mlp(4, 3)


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without the signature check of the tests."""
    return inspect.unwrap(function)


def with_name(config: Any, **values: str) -> Any:
    """`config` with a name that its own check would refuse: as if a later version knew it, and this place did not."""
    config = replace(config)
    for name, value in values.items():
        object.__setattr__(config, name, value)
    return config


def of_environment(name: str) -> RlConfig:
    return with_name(RlConfig(), env=name)


def block(kind: type[nn.Module], *args: Any, **options: Any) -> None:
    bare(kind.__init__)(kind.__new__(kind), *args, **options)


@pytest.mark.parametrize(
    ("make", "given", "known"),
    [
        (lambda: bare(conv4)(5, downsample="pool"), "pool", ("stride", "max_pool")),
        (lambda: block(Linear, 3, 2, readout="meen"), "meen", ("mean", "flatten")),
        (lambda: block(CosineLinear, 3, 2, readout="meen"), "meen", ("mean", "flatten")),
        (lambda: block(Layer, 3, 2, "gelu", None), "gelu", ("relu", "tanh")),
        (lambda: bare(normalised)(X, X, "l1"), "l1", ("none", "l2", "centre")),
        (
            lambda: bare(support_logits)("ridge", X, X, Y, block=Linear(4, 3), weights={}),
            "ridge",
            ("cosine", "euclidean", "pairs"),
        ),
        (
            lambda: bare(head_start)("ones", MLP, slow_weights(MLP), torch.rand(1, 3, 40), Y, 3),
            "ones",
            ("own", "zero", "shared", "means"),
        ),
        (lambda: bare(query_statistics)("running", MLP, {}, {}, X), "running", ("batch", "support")),
        (lambda: bare(inner_loss)("ratios"), "ratios", ("ratio", "log_probability")),
        (lambda: bare(budget_config)("glyphs", "gpu", 5, 1, "maml", 0), "gpu", ("smoke", "cpu", "paper")),
        (lambda: find_target("cifar"), "cifar", ("glyphs", "caltech101", "omniglot-lake", "'cifar_fs'")),
        (
            lambda: bare(build.build_model)(with_name(CONFIG, model=with_name(Model(), arch="vit")), blobs()),
            "vit",
            get_args(Arch),
        ),
        (lambda: rl_build.simulator(of_environment("reacher")), "reacher", ("navigation", "cheetah-direction")),
        (lambda: build.choose_device("meta"), "meta", ("auto", "cpu")),
        (lambda: build.choose_device("privateuseone"), "privateuseone", ("auto", "cpu")),
        (lambda: presets.preset("quik"), "quik", ("'quick'", "sinusoid-10shot")),
        (lambda: rl_presets.preset("navigation-gpu"), "navigation-gpu", ("'navigation-cpu'",)),
    ],
)
def test_a_name_that_is_not_known_is_named(make: Callable[[], Any], given: str, known: tuple[str, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(repr(given), *known)):
        make()


def test_heads_of_pairs_and_contexts_read_features_too() -> None:
    for kind in (PairHead, FullContext):
        with pytest.raises(InnerloopError, match=names("'meen'")):
            block(kind, 3, readout="meen")
