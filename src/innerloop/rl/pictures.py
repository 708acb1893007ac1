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
from innerloop.rl.config import Config
from innerloop.rl.environment import AFTER, BEFORE, GOAL, Environment
from innerloop.rl.methods import method
from innerloop.rl.policy import split_output
from innerloop.rl.sampling import Trajectories


def learning_curve(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns over the meta-iterations, before and after adaptation, and on the validation tasks."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    step = [r["step"] for r in rows]
    axes.plot(step, [r["return_before"] for r in rows], color=BEFORE, linewidth=1, label="before adaptation")
    axes.plot(step, [r["return_after"] for r in rows], color=AFTER, linewidth=1, label="after adaptation")
    val = [r for r in rows if r.get("validation") is not None]
    axes.plot(
        [r["step"] for r in val], [r["validation"] for r in val], "o", color=GOAL, markersize=3, label="validation"
    )
    axes.set_xlabel("meta-iteration")
    axes.set_ylabel("return")
    axes.legend(frameon=False)
    return figure


def paths(environment: Environment, found: Sequence[Trajectories], tasks: Float[Tensor, "tasks size"]) -> Figure:
    """One panel a task: its trajectories before the first inner step (grey) and after the last (blue); `found` holds
    those of each step. Where the environment does not say how it is drawn, the rewards so far."""
    figure, grid = _panels(len(tasks), 3 if len(tasks) <= 6 else 6, 2.2)
    for k, axes in enumerate(grid):
        before, after = found[0], found[-1]
        axes.set_title(" → ".join(f"{float(t.returns[k].mean()):.0f}" for t in (before, after)), fontsize=9)
        if environment.draw is not None:
            seen = (
                t.observations[k].double().masked_fill(~t.alive[k, ..., None], float("nan")) for t in (before, after)
            )
            environment.draw(axes, tasks[k], *seen)
            continue
        for t, colour in ((before, BEFORE), (after, AFTER)):
            axes.plot(t.rewards[k].double().cumsum(-1).T.numpy(), color=colour, linewidth=0.7, alpha=0.7)
        axes.set_xlabel("step")
        axes.set_ylabel("rewards so far")
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
    env: Any, task: Tensor, policy: nn.Sequential, slow: Weights, fast: Weights, config: Config, *, pictures: int = 100
) -> list[np.ndarray]:
    """RGB pictures, about so many a whole trajectory, of a policy at its mean action in a Gymnasium environment which
    has that task; `fast` are the weights of this one task ([1, …] each, empty for none)."""
    every = max(1, config.horizon // pictures)
    kind = next(iter(slow.values())).dtype
    seen, _ = env.reset(seed=0)
    out = [env.render()]
    for t in range(config.horizon):
        x = torch.as_tensor(seen, dtype=kind).flatten()
        if method(config.method).observes_task:
            x = torch.cat([x, task.to(kind).flatten()])
        mean, _ = split_output(forward(policy, slow, fast, x[None, None])[0, 0])
        seen, _, over, cut, _ = env.step((mean * config.action_scale).float().numpy())
        if over or cut or (t + 1) % every == 0:
            out.append(env.render())
        if over or cut:
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
