"""Pictures of a run: the learning curve, the trajectories before and after adaptation, and a film."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from innerloop.core.functional import Weights, forward
from innerloop.errors import InnerloopError
from innerloop.rl.cheetah import SECONDS
from innerloop.rl.config import Config
from innerloop.rl.policy import split_output
from innerloop.rl.trajectories import Trajectories

_BEFORE, _AFTER, _GOAL = "#8a8a8a", "#0072b2", "#d55e00"


def learning_curve(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns over the meta-iterations, before and after adaptation, and on the validation tasks."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    step = [r["step"] for r in rows]
    axes.plot(step, [r["return_before"] for r in rows], color=_BEFORE, linewidth=1, label="before adaptation")
    axes.plot(step, [r["return_after"] for r in rows], color=_AFTER, linewidth=1, label="after adaptation")
    val = [r for r in rows if r.get("validation") is not None]
    axes.plot(
        [r["step"] for r in val], [r["validation"] for r in val], "o", color=_GOAL, markersize=3, label="validation"
    )
    axes.set_xlabel("meta-iteration")
    axes.set_ylabel("return")
    axes.legend(frameon=False)
    return figure


def paths(config: Config, found: Sequence[Trajectories], tasks: Float[Tensor, "tasks size"]) -> Figure:
    """The trajectories before the first inner step and after the last; `found` holds those of each step."""
    match config.env.name:
        case "navigation":
            return navigation_paths(found, tasks)
        case "cheetah-direction" | "cheetah-velocity":
            return cheetah_paths(found, tasks, 17 if config.env.torso else None)
        case name:
            raise InnerloopError(f"there is no picture of trajectories in environment {name!r}")


def navigation_paths(found: Sequence[Trajectories], tasks: Float[Tensor, "tasks 2"], rollouts: int = 5) -> Figure:
    """One panel a task: the walks before adaptation (grey) and after the last step (blue), the goal a cross."""
    figure, grid = _panels(len(tasks), 3, 1.9)
    for k, axes in enumerate(grid):
        for data, colour in ((found[0], _BEFORE), (found[-1], _AFTER)):
            for j in range(min(rollouts, data.alive.shape[1])):
                path = data.observations[k, j][data.alive[k, j]].double().numpy()
                axes.plot(path[:, 0], path[:, 1], color=colour, linewidth=0.8, alpha=0.8)
        axes.plot(*tasks[k].tolist(), "x", color=_GOAL, markersize=8, markeredgewidth=2)
        axes.set_xlim(-0.8, 0.8)
        axes.set_ylim(-0.8, 0.8)
        axes.set_aspect("equal")
        axes.set_xticks([-0.5, 0, 0.5])
        axes.set_yticks([-0.5, 0, 0.5])
        before, after = (float(d.returns[k].mean()) for d in (found[0], found[-1]))
        axes.set_title(f"{before:.0f} → {after:.0f}", fontsize=9)
    return figure


def cheetah_paths(found: Sequence[Trajectories], tasks: Float[Tensor, "tasks 1"], x: int | None) -> Figure:
    """How far each task's cheetahs have run over time, before adaptation (grey) and after the last step (blue).

    `x` is the place of the torso's x in the observation; where it is not seen, the sum of the velocities takes its
    place.
    """
    figure, grid = _panels(len(tasks), 6, 2.2)
    for k, axes in enumerate(grid):
        for data, colour in ((found[0], _BEFORE), (found[-1], _AFTER)):
            seen = data.observations[k].double()
            way = seen[..., x] if x is not None else seen[..., 8].cumsum(-1) * SECONDS
            axes.plot(way.numpy().T, color=colour, linewidth=0.7, alpha=0.7)
        axes.set_title(f"task {float(tasks[k, 0]):.2g}", fontsize=9)
        axes.set_xlabel("step")
    figure.axes[0].set_ylabel("distance (m)")
    return figure


def _panels(n: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels, at most so many side by side."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(1.9 * columns, height * rows), layout="constrained")
    grid: list[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in grid[n:]:
        axes.set_axis_off()
    return figure, grid[:n]


@torch.no_grad()
def film(
    env: Any,
    task: np.ndarray,
    policy: nn.Sequential,
    slow: Weights,
    fast: Weights,
    config: Config,
    *,
    pictures: int = 100,
) -> list[np.ndarray]:
    """RGB pictures, about so many a whole episode, of a policy at its mean action in a Gymnasium environment; `fast`
    are the weights of this one task ([1, …] each, empty for none)."""
    every = max(1, config.env.horizon // pictures)
    kind = next(iter(slow.values())).dtype
    seen, _ = env.reset(seed=0, options={"task": task})
    out = [env.render()]
    for t in range(config.env.horizon):
        x = torch.as_tensor(seen, dtype=kind)
        if config.method == "oracle":
            x = torch.cat([x, torch.as_tensor(task, dtype=kind).flatten()])
        mean, _ = split_output(forward(policy, slow, fast, x[None, None])[0, 0])
        seen, _, over, _, _ = env.step((mean * config.env.action_scale).float().numpy())
        if over or (t + 1) % every == 0:
            out.append(env.render())
        if over:
            break
    return out


def gif(left: Sequence[np.ndarray], right: Sequence[np.ndarray], milliseconds: int = 100) -> bytes:
    """Two films beside each other as an animated GIF; the shorter one stands still at its end."""
    length = max(len(left), len(right))
    pictures = []
    for t in range(length):
        pair = [film[min(t, len(film) - 1)] for film in (left, right)]
        gap = np.full((pair[0].shape[0], 4, 3), 255, np.uint8)
        pictures.append(Image.fromarray(np.concatenate([pair[0], gap, pair[1]], 1)).quantize(64))
    durations = [milliseconds] * (length - 1) + [milliseconds * 10]
    out = io.BytesIO()
    pictures[0].save(out, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return out.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()
