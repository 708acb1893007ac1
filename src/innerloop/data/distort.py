"""Random distortions of images, one of its own for every image: affine, elastic, crop, flip, and chains of them."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.episodes import Episodes, TaskFamily
from innerloop.errors import InnerloopError


@runtime_checkable
class Augmentation(Protocol):
    """Anything that gives another image of the same class for each image: a distortion, a generative model."""

    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """One new image in 0..1 for each of `x`; the result depends on `x` and the generator's state alone."""
        ...


@dataclass(frozen=True)
class Affine:
    """The ranges of a random affine map; the defaults are from Koch, Zemel & Salakhutdinov 2015, section 3.3.

    Each of the four parts is drawn for each image, uniformly, with probability `chance`, and is absent otherwise.
    """

    degrees: float = 10.0
    """rotation by up to this many degrees either way"""
    shear: float = 0.3
    """x grows by up to this many times y, either way, and y by up to this many times x"""
    scale: tuple[float, float] = (0.8, 1.2)
    """each axis is stretched by a factor of this range"""
    shift: float = 2.0 / 28
    """translation along each axis by up to this part of the side (2 of 28 pixels)"""
    chance: float = 0.5
    """probability of each part"""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= 1 <= high:
            raise InnerloopError(f"scale must be a range around 1 with a lower end above 0, got {self.scale}")
        if not 0 <= self.chance <= 1:
            raise InnerloopError(f"chance is a probability, got {self.chance}")
        if not (0 <= self.degrees <= 180 and 0 <= self.shear < 1 and 0 <= self.shift <= 1):
            raise InnerloopError(
                f"degrees must be 0 to 180, shear 0 to below 1, shift 0 to 1; got {self.degrees}, {self.shear}, "
                f"{self.shift}"
            )

    def maps(self, n: int, generator: torch.Generator) -> Float[Tensor, "n 2 3"]:
        """`n` random maps from points of the new image to points of the old one, both in -1..1 (x right, y down)."""

        def draw(width: float, parts: int) -> Tensor:
            u = 2 * torch.rand(n, parts, generator=generator, device=generator.device) - 1
            there = torch.rand(n, 1, generator=generator, device=generator.device) < self.chance
            return torch.where(there, width * u, torch.zeros_like(u))

        angle = draw(self.degrees * torch.pi / 180, 1)[:, 0]
        kx, ky = draw(self.shear, 2).unbind(1)
        stretch = draw(1.0, 2)
        low, high = self.scale
        sx, sy = torch.where(stretch > 0, 1 + stretch * (high - 1), 1 + stretch * (1 - low)).unbind(1)
        tx, ty = draw(2 * self.shift, 2).unbind(1)
        cos, sin = angle.cos(), angle.sin()
        # rotation · shear · scale, inverted: grid_sample asks where each new pixel comes from
        turn = torch.stack([cos, -sin, sin, cos], 1).reshape(n, 2, 2)
        skew = torch.stack([torch.ones_like(kx), kx, ky, torch.ones_like(ky)], 1).reshape(n, 2, 2)
        forward = turn @ skew @ torch.diag_embed(torch.stack([sx, sy], 1))
        back = torch.linalg.inv(forward)
        return torch.cat([back, -back @ torch.stack([tx, ty], 1)[..., None]], 2)

    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """Each image under a map of its own; what comes from outside the image is 0 (Omniglot's paper)."""
        if not len(x):
            return x
        maps = self.maps(len(x), generator).to(device=x.device, dtype=x.dtype)
        grid = F.affine_grid(maps, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Elastic:
    """Smooth random warps: Simard, Steinkraus & Platt 2003, section 2.

    Each pixel is moved by a field of uniform noise, convolved with a Gaussian of deviation `smooth`. Simard's numbers
    for 29×29 digits, σ = 4 and α = 34 (times noise of −1..1), are the defaults: α 34 there is a deviation of
    34 / (√3 · 2√π · 4) = 1.38 pixels. Lengths are parts of the longer side, so that they hold for images of any size.
    """

    strength: float = 1.38 / 29
    """standard deviation of a pixel's move along each axis"""
    smooth: float = 4.0 / 29
    """standard deviation of the Gaussian"""

    def __post_init__(self) -> None:
        if not (0 <= self.strength <= 1 and 0 < self.smooth <= 1):
            raise InnerloopError(
                f"strength must be 0 to 1 and smooth above 0 to 1, parts of the side; got {self.strength}, "
                f"{self.smooth}"
            )

    def fields(self, n: int, height: int, width: int, generator: torch.Generator) -> Float[Tensor, "n 2 height width"]:
        """`n` fields of moves in pixels, along x (right) and y (down)."""
        side = max(height, width)
        sigma = self.smooth * side
        reach = max(1, round(3 * sigma))
        kernel = torch.exp(-torch.arange(-reach, reach + 1, device=generator.device).square() / (2 * sigma**2))
        kernel = kernel / kernel.norm() * 3**0.25  # noise of −1..1 has deviation 1/√3; two passes bring it to 1
        # noise beyond the border, so that the field is as strong there as in the middle
        shape = (2 * n, 1, height + 2 * reach, width + 2 * reach)
        noise = 2 * torch.rand(shape, generator=generator, device=generator.device) - 1
        field = F.conv2d(F.conv2d(noise, kernel[None, None, None]), kernel[None, None, :, None])
        return self.strength * side * field.view(n, 2, height, width)

    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """Each image under a warp of its own; what comes from outside the image is 0."""
        if not len(x) or not self.strength:
            return x
        n, _, h, w = x.shape
        move = self.fields(n, h, w, generator).to(device=x.device, dtype=x.dtype)
        still = F.affine_grid(torch.eye(2, 3, device=x.device, dtype=x.dtype)[None], [1, 1, h, w], align_corners=False)
        half_sides = torch.tensor([w / 2, h / 2], device=x.device, dtype=x.dtype)
        grid = still + move.movedim(1, 3) / half_sides
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Crop:
    """A window of the image's size, anywhere in the image with a border of 0 around it (He et al. 2016: 4 of 32)."""

    border: float = 4.0 / 32
    """width of the border, as a part of each side, rounded to whole pixels"""

    def __post_init__(self) -> None:
        if not 0 <= self.border <= 1:
            raise InnerloopError(f"border must be 0 to 1, a part of the side; got {self.border}")

    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """Each image moved by whole pixels of its own, uniformly up to the border's width either way."""
        n, _, h, w = x.shape
        rows, columns = (self._places(n, side, generator).to(x.device) for side in (h, w))
        by, bx = round(self.border * h), round(self.border * w)
        wide = F.pad(x, (bx, bx, by, by))
        image = torch.arange(n, device=x.device)[:, None, None]
        return wide.movedim(1, 3)[image, rows[:, :, None], columns[:, None, :]].movedim(3, 1)

    def _places(self, n: int, side: int, generator: torch.Generator) -> Int[Tensor, "n side"]:
        border = round(self.border * side)
        start = torch.randint(2 * border + 1, (n, 1), generator=generator, device=generator.device)
        return start + torch.arange(side, device=generator.device)


@dataclass(frozen=True)
class Flip:
    """Left and right exchanged. For photographs; of a letter it makes another one."""

    chance: float = 0.5
    """probability for each image"""

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise InnerloopError(f"chance is a probability, got {self.chance}")

    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """Each image flipped with the chance."""
        there = torch.rand(len(x), generator=generator, device=generator.device) < self.chance
        return torch.where(there.to(x.device)[:, None, None, None], x.flip(3), x)


@dataclass(frozen=True)
class Chain:
    """Several augmentations, one after the other."""

    parts: tuple[Augmentation, ...]

    def __call__(
        self, x: Float[Tensor, "images channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "images channels height width"]:
        """Each image through all of them, in order."""
        for part in self.parts:
            x = part(x, generator)
        return x


@dataclass(frozen=True)
class Distorted:
    """The tasks of `tasks`, every image of their support and query sets distorted. For training: tests stay as is."""

    tasks: TaskFamily
    how: Augmentation

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` episodes; which images they hold is what `self.tasks` would have drawn."""
        e = self.tasks.sample(tasks, generator)
        support = self.how(e.support_x.flatten(0, 1), generator).view_as(e.support_x)
        query = self.how(e.query_x.flatten(0, 1), generator).view_as(e.query_x)
        return Episodes(support, e.support_y, query, e.query_y, e.classes)
