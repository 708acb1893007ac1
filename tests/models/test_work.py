"""The work of a meta-step, counted: a change that makes it slower by an order shows here without a clock."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from innerloop.core.episodes import Episodes
from innerloop.core.functional import slow_weights
from innerloop.core.inner import InnerLoop
from innerloop.core.losses import cross_entropy
from innerloop.core.outer import meta_gradient
from innerloop.methods.method import predictor
from innerloop.models import conv4, kernel
from planting import plants

STEPS = 3
VIEWS = ("view", "expand", "detach", "t", "transpose", "permute", "squeeze", "unsqueeze", "slice", "select", "alias")


class Work(TorchDispatchMode):
    """Counts convolutions, and the numbers that all other operators write."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        if name not in ("convolution", "convolution_backward", *VIEWS):
            outputs = found if isinstance(found, tuple | list) else (found,)
            self.written += sum(t.numel() for t in outputs if isinstance(t, torch.Tensor))
        return found


def work(blocks: str) -> Work:
    """One task, 5-way 1-shot, images of 32 pixels, 16 filters, max-pool."""
    model = conv4(5, channels=3, image_size=32, filters=16, downsample="max_pool", readout="flatten")
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(1, 5, 3, 32, 32, generator=g), torch.arange(5)[None]
    predict = predictor(model, InnerLoop(blocks=blocks, steps=STEPS, lr=0.01))
    with Work() as found:
        meta_gradient(predict, slow_weights(model), Episodes(x, y, x.flip(1), y.flip(1)), cross_entropy)
    return found


@pytest.fixture(params=["kernel", "operators"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "operators":
        monkeypatch.setattr(kernel, "_found", (None, kernel.KernelStatus("off", "")))
    elif kernel.kernel_status().state != "compiled":
        pytest.skip(kernel.kernel_status().reason)
    return request.param


@plants("the kernel is never taken", "models.kernel:_suits", lambda right: lambda *given: False)
@plants(
    "blocks that do not adapt run in each step",
    "core.inner:split_model",
    lambda right: lambda m, _: (nn.Sequential(), m),
)
@pytest.mark.parametrize(
    ("blocks", "convolutions", "passes"),
    [("all", 4 + (4 + 7) * STEPS, {"kernel": 30, "operators": 85}), ("head", 8, {"kernel": 7, "operators": 12})],
)
def test_convolutions_and_numbers_written(way: str, blocks: str, convolutions: int, passes: dict[str, int]) -> None:
    """Four layers; the second derivative of each is two convolutions, of the first one, whose images are given.

    As many calls again are backward. The others may write `passes` times the numbers of the four outputs.
    """
    done = work(blocks)
    assert done.calls["convolution"] == done.calls["convolution_backward"] == convolutions
    assert done.written <= passes[way] * 5 * 16 * (32**2 + 16**2 + 8**2 + 4**2)
