"""Small models and episodes in float64 for the tests of core, models and methods."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Weights
from innerloop.core.inner import InnerLoop
from innerloop.core.random import generator_for
from innerloop.methods.gradient import step_predictions
from innerloop.models import conv4, mlp


def images(
    tasks: int = 3,
    way: int = 3,
    shot: int = 2,
    query: int = 2,
    size: int = 17,
    channels: int = 2,
    seed: int = 0,
) -> Episodes:
    """Classes are smooth-ish random patterns with noise, so that losses and gradients are neither 0 nor huge."""
    g = generator_for(seed, "images")
    centre = torch.randn(tasks, way, 1, channels, size, size, generator=g, dtype=torch.float64)
    noise = torch.randn(tasks, way, shot + query, channels, size, size, generator=g, dtype=torch.float64)
    x = centre + noise
    y = torch.arange(way)[:, None].expand(tasks, way, shot + query)
    return Episodes(
        x[:, :, :shot].flatten(1, 2),
        y[..., :shot].flatten(1),
        x[:, :, shot:].flatten(1, 2),
        y[..., shot:].flatten(1),
    )


def targets(tasks: int = 3, support: int = 4, query: int = 5, seed: int = 0) -> Episodes:
    """Regression: sines with a phase a task."""
    g = generator_for(seed, "targets")
    x = torch.randn(tasks, support + query, 1, generator=g, dtype=torch.float64) * 2
    y = torch.sin(x + torch.rand(tasks, 1, 1, generator=g, dtype=torch.float64) * 3)
    return Episodes(x[:, :support], y[:, :support], x[:, support:], y[:, support:])


def each_task(e: Episodes) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The episodes as a plain list for the reference."""
    return [(e.support_x[t], e.support_y[t], e.query_x[t], e.query_y[t]) for t in range(len(e))]


def pick(e: Episodes, order: list[int]) -> Episodes:
    """The episodes with these numbers, in this order."""
    return Episodes(e.support_x[order], e.support_y[order], e.query_x[order], e.query_y[order])


def stock_model(seed: int = 0) -> nn.Sequential:
    """A user's own model of torch's layers, smooth everywhere; 17×17 images, 3 classes."""
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(2, 3, 3, stride=2, padding=1),
            norm=nn.BatchNorm2d(3, track_running_stats=False),
            bend=nn.Tanh(),
            second=nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh()),
            flat=nn.Flatten(),
            head=nn.Linear(2 * 49, 3),
        )
    ).double()


def conv_model(kind: str = "stride", *, way: int = 3, size: int = 17, filters: int = 4, seed: int = 0) -> nn.Sequential:
    """conv4 with scale and shift moved away from 1 and 0."""
    model = conv4(
        way,
        channels=2,
        image_size=size,
        filters=filters,
        downsample="max_pool" if kind == "max_pool" else "stride",
        readout="flatten" if kind == "max_pool" else "mean",
        generator=generator_for(seed, "init"),
    ).double()
    return jiggle(model, seed)


def small_mlp(seed: int = 0) -> nn.Sequential:
    """1 → 6 → 5 → 1."""
    return jiggle(mlp(1, 1, hidden=(6, 5), generator=generator_for(seed, "init")).double(), seed)


def jiggle(model: nn.Sequential, seed: int = 0) -> nn.Sequential:
    """Move every parameter a little, so that none is exactly 0 or 1."""
    g = generator_for(seed, "jiggle")
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return model


def norm_names(model: nn.Module) -> set[str]:
    """Scale and shift of the normalisation layers: they do not adapt by default."""
    kinds = (nn.modules.batchnorm._NormBase,)
    return {
        f"{m}.{p}"
        for m, layer in model.named_modules()
        if isinstance(layer, kinds)
        for p, _ in layer.named_parameters()
    }


@torch.no_grad()
def step_outputs(model: nn.Sequential, parameters: Weights, episodes: Episodes, inner: InnerLoop, **more) -> Tensor:
    """`step_predictions` in one tensor [steps, tasks, query, out], without gradients."""
    return torch.stack(list(step_predictions(model, parameters, episodes, inner, **more)))
