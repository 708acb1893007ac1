"""The outer step of MAML for reinforcement learning: a trust region around the adapted policies.

    minimise    Σ_b L_b(θ'_b)          the surrogate after adaptation, θ'_b = θ − α ∇L_b(θ)
    subject to  mean KL(π_θ'old ‖ π_θ') ≤ δ

(Schulman et al. 2015; Finn et al. 2017, section 5.3 and algorithm 3). The direction solves F x = g by conjugate
gradients, with F the Hessian of that KL at θ_old. There F = Jᵀ M J exactly: J is the derivative of the adapted policy's
output with respect to θ, second derivatives of the inner step included, and M the Fisher information of the Gaussian.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core.functional import Weights, forward
from innerloop.core.inner import InnerLoop, adapt
from innerloop.core.losses import Loss
from innerloop.core.ranks import ALONE, Ranks
from innerloop.errors import InnerloopError, did_you_mean
from innerloop.rl.policy import divergence, fisher_product, log_probability
from innerloop.validated import Count, Natural, NonNegative, Positive, Validated, above, below

Vector = Float[Tensor, " parameters"]
Form = Literal["ratio", "log_probability"]


@dataclass(frozen=True)
class Trpo(Validated, at="trpo"):
    """The trust-region step."""

    max_kl: Positive = 0.01
    """δ: the largest mean KL divergence (nats) between the adapted policies before and after the step"""
    cg_iterations: Count = 10
    """conjugate-gradient iterations"""
    damping: NonNegative = 1e-5
    """added to the diagonal of the Fisher matrix"""
    backtrack: Annotated[float, above(0), below(1)] = 0.8
    """the step is multiplied by this until it is accepted"""
    tries: Count = 15
    """after so many tries there is no step"""
    curvature_rollouts: Natural = 0
    """trajectories per task for the Fisher matrix (both sides of the inner step); 0: all. Fewer are faster; gradient
    and line search always take all"""


@dataclass(frozen=True)
class Batch:
    """Trajectories as the examples of a task: what went in, what was done, and how good it was."""

    x: Float[Tensor, "tasks n observation"]
    y: Float[Tensor, "tasks n target"]
    """side by side: the action, its log-probability when it was drawn, its advantage, and 1 (or 0 behind an end)"""
    old: Float[Tensor, "tasks n twice"]
    """the policy's output when the action was drawn"""

    @property
    def weight(self) -> Float[Tensor, "tasks n"]:
        """1 for a step, 0 behind an end."""
        return self.y[..., -1]

    def first(self, n: int) -> "Batch":
        """The first `n` examples of each task."""
        return Batch(self.x[:, :n], self.y[:, :n], self.old[:, :n])

    def of_tasks(self, tasks: slice) -> "Batch":
        """Some of the tasks."""
        return Batch(self.x[tasks], self.y[tasks], self.old[tasks])


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum(1) / weight.sum(1)


def ratio_loss(output: Float[Tensor, "tasks n twice"], y: Float[Tensor, "tasks n target"]) -> Float[Tensor, " tasks"]:
    """−mean of π(a) / π_old(a) · A over the steps of each task: REINFORCE in the likelihood-ratio form.

    Its first derivative at π_old equals that of −mean log π(a) · A, its second derivative is not: only this form has
    the curvature of the expected return (Rothfuss et al. 2019, section 5; the low-variance curvature estimator), and
    MAML's meta-gradient needs it.
    """
    size = output.shape[-1] // 2
    ratio = torch.exp(log_probability(output, y[..., :size]) - y[..., size])
    return -_mean(ratio * y[..., size + 1], y[..., -1])


def clipped_loss(clip: float) -> Loss:
    """`ratio_loss` without the reward for leaving 1 − `clip` … 1 + `clip`: −mean of min(r A, clamp(r) A).

    The objective of PPO (Schulman et al. 2017, equation 7).
    """

    def loss(output: Float[Tensor, "tasks n twice"], y: Float[Tensor, "tasks n target"]) -> Float[Tensor, " tasks"]:
        size = output.shape[-1] // 2
        ratio = torch.exp(log_probability(output, y[..., :size]) - y[..., size])
        gain = y[..., size + 1]
        return -_mean(torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain), y[..., -1])

    return loss


def log_probability_loss(
    output: Float[Tensor, "tasks n twice"], y: Float[Tensor, "tasks n target"]
) -> Float[Tensor, " tasks"]:
    """−mean of log π(a) · A, as most public code has it. For parity only: the meta-gradient through it is wrong."""
    size = output.shape[-1] // 2
    return -_mean(log_probability(output, y[..., :size]) * y[..., size + 1], y[..., -1])


def inner_loss(form: Form) -> Loss:
    """The inner loop's loss by name."""
    table: dict[str, Loss] = {"ratio": ratio_loss, "log_probability": log_probability_loss}
    if form not in table:
        raise InnerloopError(
            f"the inner loss must be one of {', '.join(table)}; got {form!r}{did_you_mean(form, table)}"
        )
    return table[form]


def mean_divergence(output: Tensor, data: Batch) -> Float[Tensor, " tasks"]:
    """Mean KL(π_old ‖ π) over the steps of each task (nats)."""
    return _mean(divergence(data.old, output), data.weight)


@dataclass(frozen=True)
class Learner:
    """How a policy is adapted and judged: everything of a meta-step but the data."""

    policy: nn.Sequential
    inner: InnerLoop
    loss: Loss = ratio_loss
    """of the inner loop"""
    rates: Mapping[str, Tensor] | None = None
    """of what adapts at another rate than the inner loop's (see `adapt`)"""
    one_step: InnerLoop = field(init=False)
    """the inner loop with one step"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "one_step", replace(self.inner, steps=1))

    def adapt(self, slow: Weights, support: Sequence[Batch]) -> dict[str, Tensor]:
        """The fast weights after one step on each of the batches, one after the other."""
        fast: dict[str, Tensor] = {}
        for data in support:
            fast = self.step(slow, fast, data)
        return fast

    def step(self, slow: Weights, fast: Weights, data: Batch) -> dict[str, Tensor]:
        """The fast weights after one more step, on `data`."""
        rates, start = self.rates, fast or None
        return adapt(self.policy, slow, data.x, data.y, self.one_step, loss=self.loss, rates=rates, start=start)

    def output(self, slow: Weights, support: Sequence[Batch], x: Tensor) -> Tensor:
        """The adapted policies' outputs for the observations `x`."""
        return forward(self.policy, slow, self.adapt(slow, support), x)


@dataclass(frozen=True)
class MetaBatch:
    """The trajectories of a meta-step: those that each inner step learns from, and those of the adapted policies.

    Of several processes (`ranks`), each holds its share of the `tasks`; means and gradients are those over all.
    """

    support: Sequence[Batch]
    query: Batch
    tasks: int = 0
    """of all processes; 0: as many as this one holds"""
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", self.tasks or len(self.query.x))

    def chunks(self, tasks: int) -> list["MetaBatch"]:
        """The same, `tasks` tasks at a time (0: all at once)."""
        n = len(self.query.x)
        step = tasks or n
        parts = [slice(i, i + step) for i in range(0, n, step)]
        return [
            replace(self, support=[s.of_tasks(p) for s in self.support], query=self.query.of_tasks(p)) for p in parts
        ]


def surrogate_gradient(
    learner: Learner, slow: Mapping[str, Tensor], data: MetaBatch, chunk: int = 0, loss: Loss = ratio_loss
) -> tuple[float, Vector]:
    """The outer surrogate, the mean over the tasks, and its gradient with respect to the slow weights (float64)."""
    leaves = list(slow.values())
    value, total = torch.zeros(1, dtype=torch.float64), [torch.zeros_like(p, dtype=torch.float64) for p in leaves]
    for part in data.chunks(chunk):
        outer = loss(learner.output(slow, part.support, part.query.x), part.query.y).sum() / data.tasks
        for sum_, g in zip(total, torch.autograd.grad(outer, leaves), strict=True):
            sum_ += g
        value += float(outer.detach())
    whole = data.ranks.sum(torch.cat([value, _flat(total)]))
    return float(whole[0]), whole[1:]


@torch.no_grad()
def judge(learner: Learner, slow: Weights, data: MetaBatch, chunk: int = 0) -> tuple[float, float]:
    """Outer surrogate and KL from the old adapted policies, both the mean over the tasks."""
    found = torch.zeros(2, dtype=torch.float64)
    for part in data.chunks(chunk):
        output = learner.output(slow, part.support, part.query.x)
        each = (ratio_loss(output, part.query.y), mean_divergence(output, part.query))
        found += torch.stack([v.double().sum() / data.tasks for v in each])
    loss, kl = data.ranks.sum(found).tolist()
    return loss, kl


class FisherProduct:
    """v -> F v, with F the Hessian of the mean KL after adaptation, in the slow weights at which the data was drawn.

    The graph of the outputs and that of u ↦ Jᵀu are made once; a product is then two backward passes: J v as the
    derivative of ⟨Jᵀu, v⟩ in u, and Jᵀ(M J v). No third derivatives are formed. With `first_order` (FOMAML) J leaves
    out the inner step's second derivatives, and F is that approximation; the line search judges the true divergence.
    """

    def __init__(
        self,
        learner: Learner,
        slow: Mapping[str, Tensor],
        data: MetaBatch,
        chunk: int = 0,
        damping: float = 0.0,
    ) -> None:
        self._leaves = list(slow.values())
        self._damping = damping
        self._ranks = data.ranks
        self._parts: list[tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor]] = []
        for part in data.chunks(chunk):
            output = learner.output(slow, part.support, part.query.x)
            u = torch.zeros_like(output, requires_grad=True)
            pulled = torch.autograd.grad(output, self._leaves, u, create_graph=True)
            weight = part.query.weight / (part.query.weight.sum(1, keepdim=True) * data.tasks)
            self._parts.append((output, u, pulled, weight[..., None]))

    def __call__(self, v: Vector) -> Vector:
        """F v + damping · v, in float64."""
        parts = like(v, self._leaves)
        total = [torch.zeros_like(p, dtype=torch.float64) for p in self._leaves]
        for output, u, pulled, weight in self._parts:
            (push,) = torch.autograd.grad(pulled, u, parts, retain_graph=True)
            metric = fisher_product(output.detach(), push) * weight
            for sum_, g in zip(
                total, torch.autograd.grad(output, self._leaves, metric, retain_graph=True), strict=True
            ):
                sum_ += g
        return self._ranks.sum(_flat(total)) + self._damping * v


def conjugate_gradient(
    product: Callable[[Vector], Vector], b: Vector, iterations: int, tolerance: float = 1e-10
) -> Vector:
    """x with product(x) ≈ b, from x = 0, until the squared residual is below `tolerance`; in the precision of `b`."""
    x = torch.zeros_like(b)
    r, p = b.clone(), b.clone()
    square = r @ r
    for _ in range(iterations):
        if float(square) < tolerance:
            break
        z = product(p)
        step = square / (p @ z)
        x = x + step * p
        r = r - step * z
        following = r @ r
        p = r + (following / square) * p
        square = following
    return x


@dataclass(frozen=True)
class Outcome:
    """What an outer step did."""

    accepted: bool
    """whether the weights changed"""
    loss_before: float
    """outer surrogate at the old weights"""
    loss_after: float
    kl: float
    """mean KL between the adapted policies before and after (nats); 0 where no step was taken"""
    tries: int
    """candidates of the line search; with PPO its epochs"""
    gradient_norm: float
    """of the outer surrogate at the old weights"""


def trust_region_step(
    learner: Learner,
    slow: Mapping[str, Tensor],
    data: MetaBatch,
    settings: Trpo,
    *,
    curvature: MetaBatch | None = None,
    chunk: int = 0,
) -> Outcome:
    """Change the slow weights in place by one step; if no candidate is better and near enough, leave them as they are.

    `curvature` is the data for the Fisher matrix (default: `data`), `chunk` the number of tasks in memory at once for
    gradient and line search (0: all).
    """
    before, g = surrogate_gradient(learner, slow, data, chunk)
    norm = float(g.norm())
    if not (math.isfinite(before) and math.isfinite(norm)):
        raise FloatingPointError(
            f"the outer surrogate is {before} and the norm of its gradient {norm}; lower the inner rate"
        )
    product = FisherProduct(learner, slow, curvature or data, chunk, settings.damping)
    direction = conjugate_gradient(product, g, settings.cg_iterations)
    curved = float(direction @ product(direction))
    del product
    if not (math.isfinite(curved) and curved > 0):
        return Outcome(False, before, before, 0.0, 0, norm)
    step = direction * math.sqrt(2 * settings.max_kl / curved)
    old = {n: p.detach() for n, p in slow.items()}
    for i in range(settings.tries):
        parts = like(step * settings.backtrack**i, list(old.values()))
        candidate = {n: p - d for (n, p), d in zip(old.items(), parts, strict=True)}
        after, kl = judge(learner, candidate, data, chunk)
        if after < before and kl <= settings.max_kl:
            with torch.no_grad():
                for n, p in slow.items():
                    p.copy_(candidate[n])
            return Outcome(True, before, after, kl, i + 1, norm)
    return Outcome(False, before, before, 0.0, settings.tries, norm)


def _flat(parts: Sequence[Tensor]) -> Vector:
    return torch.cat([p.flatten() for p in parts]).double()


def like(v: Vector, parts: Sequence[Tensor]) -> list[Tensor]:
    """The vector cut into tensors of the shapes and precisions of `parts`."""
    out, start = [], 0
    for p in parts:
        out.append(v[start : start + p.numel()].view(p.shape).to(p.dtype))
        start += p.numel()
    return out
