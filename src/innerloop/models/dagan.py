"""Another image of the same class: DAGAN's generator and its critic of pairs (Antoniou, Storkey & Edwards 2017).

Where these nets differ from the paper's (arXiv 1711.04340):

- Normalisation is group norm with one group (an image's own mean and variance over channels and pixels) in both nets.
  The paper's generator has batch renormalisation; here a sample depends on its own image and noise alone, so that it
  is the same in any batch. The WGAN penalty is on each example, which batch norm in the critic would mix.
- No dropout (paper: 0.5): the noise z is the only source of chance.
- Inner layers are residual; the paper's critic is densely connected.
- Images are 0..1 and the last layer a sigmoid, which is the paper's tanh on another scale.
- The default is small: widths 16-32-64, one inner layer a level, z of 32, against 64-64-128-128, 3 (critic: 5)
  and 100. `PAPER` holds those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.errors import InnerloopError
from innerloop.models.conv4 import reset_parameters
from innerloop.models.convolution import Conv2d
from innerloop.models.head import Linear
from innerloop.validated import Natural, Validated, Width, Widths

_NOISE_MAPS = 8


@dataclass(frozen=True)
class Sizes(Validated, at="sizes"):
    """How large both nets are."""

    widths: Widths = (16, 32, 64)
    """filters of each level; every level halves the image"""
    inner: Natural = 1
    """residual layers of each of the generator's levels"""
    critic_inner: Natural = 1
    """residual layers of each of the critic's levels"""
    noise: Width = 32
    """how many numbers z has"""


PAPER = Sizes(widths=(64, 64, 128, 128), inner=3, critic_inner=5, noise=100)
"""the widths and depths of the authors' code"""


class _Layer(nn.Module):
    """conv 3×3 → group norm of one group → leaky ReLU 0.2; with `residual` added to its input."""

    def __init__(self, channels: int, filters: int, *, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.conv = Conv2d(channels, filters, stride=stride)
        self.norm = nn.GroupNorm(1, filters)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(self.conv(x)), 0.2)
        return x + y if self.residual else y


def _level(channels: int, filters: int, inner: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        _Layer(channels, filters, stride=stride), *(_Layer(filters, filters, residual=True) for _ in range(inner))
    )


def _sides(image_shape: tuple[int, int, int], levels: int) -> list[tuple[int, int]]:
    """Height and width before each level and after the last."""
    _, h, w = image_shape
    if min(h, w) < 2**levels:
        raise InnerloopError(
            f"images of {h}×{w} pixels are too small for {levels} halvings; give fewer widths, or images of "
            f"{2**levels} or more"
        )
    out = [(h, w)]
    for _ in range(levels):
        h, w = (h + 1) // 2, (w + 1) // 2
        out.append((h, w))
    return out


class Generator(nn.Module):
    """Image and noise → another image of its class: a U-Net of residual levels; z joins the two deepest levels."""

    def __init__(
        self, image_shape: tuple[int, int, int], sizes: Sizes | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.image_shape, self.sizes = image_shape, sizes or Sizes()
        widths, inner = self.sizes.widths, self.sizes.inner
        channels = image_shape[0]
        sides = _sides(image_shape, len(widths))
        before = [channels, *widths]
        self.down = nn.ModuleList(_level(before[i], w, inner, stride=2) for i, w in enumerate(widths))
        # up[0] works at the deepest resolution; the last one at the image's own
        at = [*reversed(range(len(widths) + 1))]  # of `sides`
        self._places = [sides[i] for i in at[:2]]
        self.noise = nn.ModuleList(Linear(self.sizes.noise, _NOISE_MAPS * h * w) for h, w in self._places)
        self.up = nn.ModuleList()
        width = 0
        for k, i in enumerate(at):
            filters = widths[max(i - 1, 0)]
            self.up.append(_level(width + before[i] + (_NOISE_MAPS if k < 2 else 0), filters, inner))
            width = filters
        self.last = Conv2d(width, channels, bias=True)
        reset_parameters(self, generator)
        for layer in self.noise:  # of variance 1 at the start, as loud as the image's own features beside them
            nn.init.normal_(layer.weight, std=self.sizes.noise**-0.5, generator=generator)  # pyright: ignore

    def forward(
        self, x: Float[Tensor, "images channels height width"], z: Float[Tensor, "images noise"]
    ) -> Float[Tensor, "images channels height width"]:
        """Images in 0..1, one for each of `x` (0..1); z is standard normal."""
        _check_images("the generator", self.image_shape, x)
        if z.shape != (len(x), self.sizes.noise):
            raise InnerloopError(f"z must be [{len(x)}, {self.sizes.noise}], a row per image, got {list(z.shape)}")
        seen = [2 * x - 1]
        for level in self.down:
            seen.append(level(seen[-1]))
        y: Tensor | None = None
        for k, level in enumerate(self.up):
            skip = seen[-1 - k]
            parts = [skip]
            if y is not None:
                parts.append(F.interpolate(y, size=skip.shape[-2:], mode="nearest"))
            if k < len(self.noise):
                parts.append(self.noise[k](z).view(len(x), _NOISE_MAPS, *self._places[k]))
            y = level(torch.cat(parts, 1))
        assert y is not None
        return torch.sigmoid(self.last(y))


class Critic(nn.Module):
    """A pair of images → one number, high where both look like two real images of one class (a Wasserstein critic)."""

    def __init__(
        self, image_shape: tuple[int, int, int], sizes: Sizes | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.image_shape, sizes = image_shape, sizes or Sizes()
        width = 2 * image_shape[0]
        levels: list[nn.Module] = []
        for filters in sizes.widths:
            levels.append(_level(width, filters, sizes.critic_inner, stride=2))
            width = filters
        h, w = _sides(image_shape, len(sizes.widths))[-1]
        self.levels = nn.Sequential(*levels)
        self.head = Linear(width * h * w, 1, readout="flatten")
        reset_parameters(self, generator)

    def forward(
        self, x: Float[Tensor, "images channels height width"], other: Float[Tensor, "images channels height width"]
    ) -> Float[Tensor, " images"]:
        """The value of each pair: `x` a real image, `other` another one of its class, real or generated (0..1)."""
        for images in (x, other):
            _check_images("the critic", self.image_shape, images)
        if len(x) != len(other):
            raise InnerloopError(f"pairs need as many first as second images, got {len(x)} and {len(other)}")
        return self.head(self.levels(2 * torch.cat([x, other], 1) - 1))[:, 0]


def gradient_penalty(
    critic: nn.Module,
    x: Float[Tensor, "images channels height width"],
    real: Float[Tensor, "images channels height width"],
    made: Float[Tensor, "images channels height width"],
    part: Float[Tensor, " images"],
) -> Float[Tensor, ""]:
    """Mean of (‖∇_o critic(x, o)‖₂ − 1)², o = part · real + (1 − part) · made (Gulrajani et al. 2017, equation 3, who
    draw `part` uniformly from 0..1).

    `critic` takes (x, o) and gives a number a pair. The gradient is by the second image, in units of 0..1 pixels; the
    first image is the condition. The result can be differentiated by the critic's weights.
    """
    part = part.view(-1, 1, 1, 1)
    between = (part * real + (1 - part) * made).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(x, between).sum(), between, create_graph=True)
    norm = (slope.flatten(1).square().sum(1) + 1e-12).sqrt()
    return (norm - 1).square().mean()


@dataclass(frozen=True)
class Dagan:
    """A trained generator as an augmentation: called with images, it gives another one for each."""

    network: Generator
    batch: int = 256
    """images at once"""

    @torch.no_grad()
    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """One new image in 0..1 for each of `x`, on its device; z is drawn from `generator`."""
        _check_images("this DAGAN", self.network.image_shape, x)
        z = torch.randn(len(x), self.network.sizes.noise, generator=generator, device=generator.device)
        weight = self.network.last.weight
        parts = [
            self.network(a.to(weight), b.to(weight)).to(x)
            for a, b in zip(x.split(self.batch), z.split(self.batch), strict=True)
        ]
        return torch.cat(parts) if parts else x


def _check_images(who: str, shape: Sequence[int], x: Tensor) -> None:
    if tuple(x.shape[1:]) != tuple(shape):
        c, h, w = shape
        raise InnerloopError(
            f"{who} is for images [{c}, {h}, {w}] (channels, height, width), got {list(x.shape[1:])}; train one on "
            "images of that shape"
        )
