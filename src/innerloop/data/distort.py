"""Random affine distortions of images: one of its own for every image of an episode."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.episodes import Episodes, TaskFamily


@dataclass(frozen=True)
class Affine:
    """The ranges of a random affine map; the defaults are those of Koch, Zemel & Salakhutdinov 2015, section 3.3.

    Each of the four parts is drawn anew, uniformly, with probability `chance`, and is absent otherwise.
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
            raise ValueError(f"scale must be a range around 1 with a lower end above 0, got {self.scale}")
        if not 0 <= self.chance <= 1:
            raise ValueError(f"chance is a probability, got {self.chance}")
        if not (0 <= self.degrees <= 180 and 0 <= self.shear < 1 and 0 <= self.shift <= 1):
            raise ValueError(
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
class Distorted:
    """The tasks of `tasks`, every image of their support and query sets distorted. For training: tests stay as is."""

    tasks: TaskFamily
    affine: Affine

    def sample(self, tasks: int, generator: torch.Generator) -> Episodes:
        """Draw `tasks` episodes; which images they hold is what `self.tasks` would have drawn."""
        e = self.tasks.sample(tasks, generator)
        support = self.affine(e.support_x.flatten(0, 1), generator).view_as(e.support_x)
        query = self.affine(e.query_x.flatten(0, 1), generator).view_as(e.query_x)
        return Episodes(support, e.support_y, query, e.query_y, e.classes)
