"""How much better an action was than expected: linear baseline and generalised advantage estimation."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from innerloop.rl.trajectories import Trajectories

_CLIP = 10.0
_RIDGE = 1e-5


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
