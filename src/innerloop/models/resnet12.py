"""ResNet-12, the larger body of few-shot learning."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.errors import InnerloopError
from innerloop.models.conv4 import reset_parameters
from innerloop.models.convolution import Conv2d
from innerloop.models.head import Linear
from innerloop.models.normalisation import BatchNorm2d


class ResidualBlock(nn.Module):
    """Three 3×3 convolutions with a 1×1 short cut, a 2×2 max-pool and LeakyReLU(0.1)."""

    def __init__(self, channels: int, filters: int, *, affine: bool = True) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, filters)
        self.norm1 = BatchNorm2d(filters, affine=affine)
        self.conv2 = Conv2d(filters, filters)
        self.norm2 = BatchNorm2d(filters, affine=affine)
        self.conv3 = Conv2d(filters, filters)
        self.norm3 = BatchNorm2d(filters, affine=affine)
        self.short_cut = Conv2d(channels, filters, kernel=1, padding=0)
        self.short_norm = BatchNorm2d(filters, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, h, w] -> [n, filters, h // 2, w // 2]"""
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.1)
        y = F.leaky_relu(self.norm2(self.conv2(y)), 0.1)
        y = self.norm3(self.conv3(y)) + self.short_norm(self.short_cut(x))
        return F.leaky_relu(F.max_pool2d(y, 2), 0.1)  # pooling first: both are monotone, so the function is the same


def resnet12(
    way: int,
    *,
    channels: int = 3,
    image_size: int = 84,
    filters: Sequence[int] = (64, 160, 320, 640),
    affine: bool = True,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """`block1 block2 block3 block4 head` with a spatial mean before the head: Lee et al. 2019 (MetaOptNet), without
    DropBlock.

    Widths 64-160-320-640 as there; (64, 128, 256, 512) is the narrower form of Oreshkin et al. 2018.
    """
    if image_size < 2 ** len(filters):
        raise InnerloopError(
            f"images of {image_size} pixels are too small for {len(filters)} halvings; use {2 ** len(filters)} or more"
        )
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    width = channels
    for i, units in enumerate(filters, start=1):
        blocks[f"block{i}"] = ResidualBlock(width, units, affine=affine)
        width = units
    blocks["head"] = Linear(width, way, readout="mean")
    model = nn.Sequential(blocks)
    reset_parameters(model, generator)
    return model
