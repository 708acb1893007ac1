"""The four-block convolutional net of the MAML papers, in both its forms."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from innerloop.errors import InnerloopError
from innerloop.models.convolution import Conv2d
from innerloop.models.head import CosineLinear, FullContext, Linear, PairHead, Readout
from innerloop.models.kernel import norm_pool_relu
from innerloop.models.normalisation import BatchNorm2d
from innerloop.validated import checked

Downsample = Literal["stride", "max_pool"]


class ConvBlock(nn.Module):
    """conv 3×3 → batch norm → (2×2 max-pool) → ReLU.

    The convolution has no bias, since the normalisation would take it away.
    """

    def __init__(
        self, channels: int, filters: int, *, stride: int = 1, pool: bool = False, affine: bool = True
    ) -> None:
        super().__init__()
        self.conv = Conv2d(channels, filters, stride=stride)
        self.norm = BatchNorm2d(filters, affine=affine)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, filters, h', w']"""
        return norm_pool_relu(self.norm, self.conv(x), pool=self.pool)

    def forward_tasks(self, x: Tensor) -> Tensor:
        """[tasks, n, channels, h, w] -> [tasks, n, filters, h', w'], where the weights may have a task axis"""
        h = self.conv.forward_tasks(x).flatten(0, 1)
        return norm_pool_relu(self.norm, h, pool=self.pool, tasks=len(x)).unflatten(0, x.shape[:2])


def conv4(
    way: int,
    *,
    channels: int = 1,
    image_size: int = 28,
    filters: int = 64,
    downsample: Downsample = "stride",
    readout: Readout = "mean",
    affine: bool = True,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """`conv1 conv2 conv3 conv4 head`: Finn et al. 2017, section 5.2.

    Omniglot: 64 filters, stride 2, spatial mean. mini-ImageNet (84×84): 32 filters, max-pool, flatten to 800.
    CIFAR (32×32): max-pool and flatten too. Weights are drawn from `generator` (Xavier, bias 0).
    """
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    size, width = image_size, channels
    for i in range(1, 5):
        pooled = checked(Downsample, downsample, "downsample") == "max_pool"
        blocks[f"conv{i}"] = ConvBlock(width, filters, stride=1 if pooled else 2, pool=pooled, affine=affine)
        width = filters
        size = size // 2 if pooled else (size + 1) // 2
    if size < 1:
        raise InnerloopError(f"images of {image_size} pixels are too small for four halvings; use 16 or more")
    features = filters if readout == "mean" else filters * size * size
    blocks["head"] = Linear(features, way, readout=readout)
    model = nn.Sequential(blocks)
    reset_parameters(model, generator)
    return model


def reset_parameters(model: nn.Module, generator: torch.Generator | None) -> None:
    """Draw every weight of the model again, in the order of its modules."""
    for module in model.modules():
        if isinstance(module, Conv2d | Linear | CosineLinear | PairHead | FullContext):
            module.reset_parameters(generator)
