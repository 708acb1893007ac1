"""What one meta-iteration samples, from top to bottom: trajectories of many tasks at once, how much better each action
was than expected, and both as the examples of the inner step; before each inner step, and of the adapted policies."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.functional import Weights, forward
from innerloop.core.random import generator_for
from innerloop.core.ranks import ALONE, Ranks
from innerloop.errors import InnerloopError
from innerloop.rl.config import Config
from innerloop.rl.environment import Simulator
from innerloop.rl.policy import acting, log_probability, split_output
from innerloop.rl.trpo import Batch, Learner, MetaBatch

_CLIP = 10.0
_RIDGE = 1e-5


@dataclass(frozen=True)
class Trajectories:
    """Some trajectories of each task. What lies behind the end of one is not `alive`, and counts nowhere."""

    observations: Float[Tensor, "tasks rollouts time observation"]
    actions: Float[Tensor, "tasks rollouts time action"]
    """as the policy drew them, before scaling and cutting"""
    rewards: Float[Tensor, "tasks rollouts time"]
    """0 behind the end"""
    alive: Bool[Tensor, "tasks rollouts time"]

    @property
    def returns(self) -> Float[Tensor, "tasks rollouts"]:
        """Undiscounted sum of the rewards of each trajectory, which is what the papers report."""
        return self.rewards.sum(-1)


@torch.no_grad()
def sample(
    policy: nn.Sequential,
    slow: Weights,
    fast: Mapping[str, Tensor],
    simulator: Simulator,
    tasks: Float[Tensor, "tasks size"],
    rollouts: int,
    generator: torch.Generator,
    *,
    action_scale: float = 1.0,
    share: slice = slice(None),
) -> Trajectories:
    """Let each task's policy act in its environment. The result depends on the generator's state alone.

    Only the tasks in `share` act, and the fast weights are theirs; each does what it would do among all.

    `action_scale` multiplies the policy's action on its way to the environment (which cuts it to its bounds); the
    action that is kept, and whose probability counts, is the unscaled one.
    """
    kind = next(iter(slow.values()))
    horizon = simulator.horizon
    state = simulator.reset(tasks, rollouts, generator)[share]
    noise = torch.randn(
        horizon,
        len(tasks),
        rollouts,
        simulator.action_size,
        generator=generator,
        device=generator.device,
        dtype=kind.dtype,
    )[:, share].to(kind.device)
    tasks = tasks[share]
    parts = []
    with simulator.session() as env:
        for rows, columns in _parts(len(tasks), rollouts, simulator.at_once):
            act = acting(policy, slow, {n: w[rows] for n, w in fast.items()})
            own, here = tasks[rows], state[rows, columns]
            going = torch.ones(here.shape[:2], dtype=torch.bool, device=kind.device)
            seen, done, rewards, alive = [], [], [], []
            for drawn in noise[:, rows, columns]:
                observation = env.observe(own, here).to(kind.dtype)
                mean, log_std = split_output(act(observation))
                action = torch.addcmul(mean, torch.exp(log_std), drawn)
                step = env.step(own, here, action if action_scale == 1.0 else action * action_scale)
                seen.append(observation)
                done.append(action)
                rewards.append(step.reward)
                alive.append(going)
                going = going & ~step.ended
                here = step.state
                if not bool(going.any()):
                    break
            lived = torch.stack(alive, 2)
            earned = torch.where(lived, torch.stack(rewards, 2).to(kind.dtype), 0.0)
            parts.append(Trajectories(torch.stack(seen, 2), torch.stack(done, 2), earned, lived))
    return parts[0] if len(parts) == 1 else _joined(parts, rollouts)


def _parts(tasks: int, rollouts: int, at_once: int) -> Iterator[tuple[slice, slice]]:
    """Tasks and rollouts that fit into one call of the simulator: all (0), or whole tasks, or a part of one."""
    if not at_once or tasks * rollouts <= at_once:
        yield slice(None), slice(None)
        return
    rows, columns = max(1, at_once // rollouts), min(rollouts, at_once)
    for i in range(0, tasks, rows):
        for j in range(0, rollouts, columns):
            yield slice(i, i + rows), slice(j, j + columns)


def _joined(parts: list[Trajectories], rollouts: int) -> Trajectories:
    """The parts of `_parts`, filled up to the longest."""
    longest = max(p.alive.shape[2] for p in parts)

    def join(name: str) -> Tensor:
        filled = []
        for p in parts:
            value = getattr(p, name)
            lacking = longest - value.shape[2]
            filled.append(F.pad(value, (0, 0) * (value.dim() - 3) + (0, lacking)).flatten(0, 1))
        whole = torch.cat(filled)
        return whole.view(-1, rollouts, *whole.shape[1:])

    return Trajectories(*map(join, ("observations", "actions", "rewards", "alive")))


def discounted(rewards: Float[Tensor, "*n time"], gamma: float) -> Float[Tensor, "*n time"]:
    """Discounted sum of the rewards from each step on, in the tensor's own precision."""
    out = torch.empty_like(rewards)
    after = torch.zeros_like(rewards[..., 0])
    for t in range(rewards.shape[-1] - 1, -1, -1):
        after = rewards[..., t] + gamma * after
        out[..., t] = after
    return out


def features(observations: Float[Tensor, "tasks rollouts time observation"]) -> Tensor:
    """[o, o², t, t², t³, 1] of each step, o cut to ±10 and t in hundreds of steps (Duan et al. 2016, section 6.1)."""
    o = observations.double().clamp(-_CLIP, _CLIP)
    t = torch.arange(o.shape[2], dtype=o.dtype, device=o.device)[:, None] / 100.0
    time = torch.cat([t, t**2, t**3, torch.ones_like(t)], -1)
    return torch.cat([o, o.square(), time.expand(*o.shape[:2], *time.shape)], -1)


def linear_baseline(
    trajectories: Trajectories, gamma: float, ridge: float = _RIDGE
) -> Float[Tensor, "tasks rollouts time"]:
    """Expected discounted return of each step, by a linear fit to these very trajectories, one fit a task.

    Least squares with a ridge, by the normal equations in float64; 0 behind a trajectory's end. The ridge is multiplied
    by 10, up to 5 times, if the solution is not finite.
    """
    x = features(trajectories.observations)
    alive = trajectories.alive
    target = discounted(trajectories.rewards.double(), gamma).flatten(1)
    seen = (x * alive[..., None]).flatten(1, 2)  # a row of zeros does not change the fit
    gram = seen.mT @ seen
    moment = seen.mT @ (target * alive.flatten(1))[..., None]
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for _ in range(6):
        weights, problem = torch.linalg.solve_ex(gram + ridge * eye, moment)
        if not bool(problem.any()) and bool(weights.isfinite().all()):
            return torch.where(alive, (seen @ weights).view(alive.shape), 0.0)
        ridge *= 10
    raise FloatingPointError(
        "the linear baseline has no finite fit: rewards or observations are not finite, or too large; where the policy "
        "was adapted, lower the inner rate (--inner.lr, in a test --later-lr), with PPO --ppo.lr, else its "
        "standard deviation (--policy.log-std)"
    )


def generalised_advantages(
    rewards: Float[Tensor, "*n time"],
    values: Float[Tensor, "*n time"],
    alive: Bool[Tensor, "*n time"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "*n time"]:
    """Σ_k (γλ)^k δ_{t+k} with δ_t = r_t + γ V_{t+1} − V_t (Schulman et al. 2016, equation 16).

    The value behind a trajectory's end is 0, also where the horizon cut it: the baseline knows the time, and was fitted
    to returns that end there too.
    """
    values = torch.where(alive, values, 0.0)
    rewards = torch.where(alive, rewards, 0.0)
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], -1)
    return torch.where(alive, discounted(rewards + gamma * following - values, gamma * lam), 0.0)


def normalised(advantages: Tensor, alive: Tensor) -> Tensor:
    """Centred and scaled to standard deviation 1 over the steps of each task; 0 behind an end."""
    count = alive.sum((1, 2), keepdim=True)
    mean = (advantages * alive).sum((1, 2), keepdim=True) / count
    centred = (advantages - mean) * alive
    return centred / ((centred.square().sum((1, 2), keepdim=True) / count).sqrt() + 1e-8)


def advantages(trajectories: Trajectories, gamma: float, lam: float) -> Float[Tensor, "tasks rollouts time"]:
    """Normalised advantages with a baseline refitted to these trajectories; float64."""
    values = linear_baseline(trajectories, gamma)
    alive = trajectories.alive
    return normalised(generalised_advantages(trajectories.rewards.double(), values, alive, gamma, lam), alive)


@torch.no_grad()
def examples(learner: Learner, slow: Weights, fast: Mapping[str, Tensor], found: Trajectories, config: Config) -> Batch:
    """Trajectories as examples, with advantages from a baseline fitted to them."""
    output = forward(learner.policy, slow, fast, found.observations.flatten(1, 2))
    return batch(found, output, advantages(found, config.gamma, config.lam))


def batch(trajectories: Trajectories, output: Tensor, advantages: Tensor) -> Batch:
    """The examples of an inner step. `output` is the sampling policy's for the observations, [tasks, n, 2 × action]."""
    x = trajectories.observations.flatten(1, 2)
    action = trajectories.actions.flatten(1, 2)
    old = output.detach()
    columns = (
        action,
        log_probability(old, action)[..., None],
        advantages.flatten(1)[..., None].to(x.dtype),
        trajectories.alive.flatten(1)[..., None].to(x.dtype),
    )
    return Batch(x, torch.cat(columns, -1), old)


@dataclass(frozen=True)
class Collected:
    """The data of a meta-iteration."""

    data: MetaBatch
    curvature: MetaBatch
    """the trajectories that the Fisher matrix is made from"""
    returns: list[Float[Tensor, " tasks"]]
    """mean return of each task before the first inner step, after it, …"""
    steps: int
    """environment steps taken, those behind an end not counted"""
    seconds_adapting: float
    """of the time that this took (wall clock), what baselines, advantages and inner steps did, not the sampling"""


def noise_of(config: Config, iteration: int) -> list[torch.Generator]:
    """The generators of a meta-iteration's trajectories: before each inner step and after the last."""
    return [generator_for(config.seed, "rollouts", iteration, phase) for phase in range(config.inner_loop.steps + 1)]


@torch.no_grad()
def collect(
    learner: Learner,
    slow: Weights,
    environment: Simulator,
    tasks: Float[Tensor, "tasks size"],
    config: Config,
    noise: Sequence[torch.Generator],
    ranks: Ranks = ALONE,
) -> Collected:
    """Sample, adapt, sample again, … It depends on the weights, the tasks and the `noise` (see `noise_of`) alone.

    Of several processes (`ranks`), each is given all tasks and takes its share; returns and steps are of all tasks.
    """
    if len(tasks) < ranks.size:
        raise InnerloopError(
            f"{len(tasks)} tasks do not suffice for {ranks.size} processes; raise --meta-batch, or start fewer"
        )
    share = ranks.share(len(tasks))
    fast: dict[str, Tensor] = {}
    found: list[Batch] = []
    few: list[Batch] = []
    returns: list[Tensor] = []
    steps = 0
    adapting = 0.0
    rollouts = min(config.trpo.curvature_rollouts or config.rollouts, config.rollouts)
    for phase in range(learner.inner.steps + 1):
        trajectories = sample(
            learner.policy,
            slow,
            fast,
            environment,
            tasks,
            config.rollouts,
            noise[phase],
            action_scale=config.action_scale,
            share=share,
        )
        sampled = time.perf_counter()
        found.append(examples(learner, slow, fast, trajectories, config))
        few.append(found[-1].first(rollouts * trajectories.alive.shape[-1]))
        returns.append(ranks.whole(trajectories.returns.mean(1), len(tasks)))
        steps += int(trajectories.alive.sum())
        if phase < learner.inner.steps:
            fast = learner.adapt(slow, found)
        adapting += time.perf_counter() - sampled
    steps = int(ranks.sum(torch.tensor(steps)))
    data, curvature = (MetaBatch(own[:-1], own[-1], len(tasks), ranks) for own in (found, few))
    return Collected(data, curvature, returns, steps, adapting)
