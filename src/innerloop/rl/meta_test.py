"""Meta-test: what new tasks return after 0, 1, 2, … steps of adaptation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.functional import Blocks, Weights
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks
from innerloop.core.statistics import over_episodes
from innerloop.rl import build
from innerloop.rl.config import Config, MetaTest
from innerloop.rl.environment import Simulator
from innerloop.rl.sampling import Trajectories, examples, sample

_EACH = 4


@dataclass(frozen=True)
class Returns:
    """Undiscounted returns of a policy that continues to learn, the mean over each task's trajectories."""

    values: Float[Tensor, "steps tasks"]
    """row m: after m inner steps"""
    tasks: Float[Tensor, "tasks size"]

    def to_json(self) -> dict[str, Any]:
        """Mean and ci95 over the tasks after each step, and each task's own numbers."""
        steps = [over_episodes(v) for v in self.values]
        return {
            "metric": "return",
            "tasks": len(self.tasks),
            "steps": [{"mean": e.mean, "ci95": e.ci95} for e in steps],
            "task": self.tasks.tolist(),
            "returns": self.values.double().tolist(),
        }


def ignore(_step: int, _found: Trajectories, _fast: Mapping[str, Tensor]) -> None:
    """Look at nothing."""


@torch.no_grad()
def meta_test(
    policy: nn.Sequential,
    slow: Weights,
    environment: Simulator,
    config: Config,
    *,
    settings: MetaTest | None = None,
    blocks: Blocks | None = None,
    tasks: Float[Tensor, "tasks size"] | None = None,
    look: Callable[[int, Trajectories, Mapping[str, Tensor]], None] = ignore,
    ranks: Ranks = ALONE,
) -> Returns:
    """Let the policy learn new tasks, each from its own trajectories.

    The tasks and the noise of the actions depend on the settings' seed alone, so that methods compare in pairs.
    `blocks` adapt instead of the method's own (freezing; fine-tuning what was trained without adaptation). `look` sees
    each step's trajectories and the fast weights that made them. Several processes (`ranks`) split the tasks, and
    all get the result.
    """
    settings = settings or config.test
    kind = next(iter(slow.values())).dtype
    if tasks is None:
        tasks = environment.sample_tasks(settings.tasks, generator_for(settings.seed, "tasks"))
    first = build.learner(config, policy, blocks=blocks)
    later = build.learner(config, policy, blocks=blocks, lr=settings.later_lr or None)
    fast: dict[str, Tensor] = {}
    values: list[Tensor] = []
    share = ranks.share(len(tasks))
    for step in range(settings.steps + 1):
        if share.start == share.stop:  # more processes than tasks
            values.append(ranks.whole(torch.zeros(0, dtype=kind), len(tasks)))
            continue
        found = sample(
            policy,
            slow,
            fast,
            environment,
            tasks.to(kind),
            settings.rollouts,
            generator_for(settings.seed, "rollouts", step),
            action_scale=config.action_scale,
            share=share,
        )
        values.append(ranks.whole(found.returns.mean(1), len(tasks)))
        if not bool(values[-1].isfinite().all()):
            raise FloatingPointError(f"returns after {step} inner steps are not finite: lower the inner rate")
        look(step, found, fast)
        if step < settings.steps:
            how = later if step else first
            data = examples(how, slow, fast, found, config)
            fast = how.step(slow, fast, data)
    return Returns(torch.stack(values), tasks)


@torch.no_grad()
def random_search(
    policy: nn.Sequential,
    slow: Weights,
    environment: Simulator,
    config: Config,
    *,
    settings: MetaTest | None = None,
    spread: float = 0.1,
) -> Returns:
    """A baseline that learns without gradients.

    It searches with as many trajectories per step as `meta_test` learns from; those that measure the best one so far,
    which it compares with, come on top.

    Each step draws `rollouts` / 4 policies (rounded down; with fewer than four trajectories one) around the best one so
    far (every weight plus normal noise of standard deviation `spread`), lets each act four times, and takes the one of
    the largest mean return, if that is larger than the mean return of the best one so far. The first is `slow`.
    """
    settings = settings or config.test
    kind = next(iter(slow.values())).dtype
    tasks = environment.sample_tasks(settings.tasks, generator_for(settings.seed, "tasks")).to(kind)
    n, each = len(tasks), min(_EACH, settings.rollouts)
    many = settings.rollouts // each
    best = {name: w.detach().unsqueeze(0).expand(n, *w.shape) for name, w in slow.items()}

    def act(weights: Mapping[str, Tensor], where: Tensor, rollouts: int, *path: str | int) -> Tensor:
        noise = generator_for(settings.seed, *path)
        scale = config.action_scale
        return sample(policy, slow, weights, environment, where, rollouts, noise, action_scale=scale).returns.mean(1)

    values = [act(best, tasks, settings.rollouts, "rollouts", 0)]
    for step in range(1, settings.steps + 1):
        noise = generator_for(settings.seed, "search", step)
        tried = {
            name: (w[:, None] + spread * torch.randn(n, many, *w.shape[1:], generator=noise, dtype=w.dtype)).flatten(
                0, 1
            )
            for name, w in best.items()
        }
        found = act(tried, tasks.repeat_interleave(many, 0), each, "search rollouts", step).view(n, many)
        top, which = found.max(1)
        row = torch.arange(n) * many + which
        better = top > values[-1]
        best = {
            name: torch.where(better.view(-1, *[1] * (w.ndim - 1)), tried[name][row], w) for name, w in best.items()
        }
        values.append(act(best, tasks, settings.rollouts, "rollouts", step))
    return Returns(torch.stack(values), tasks)
