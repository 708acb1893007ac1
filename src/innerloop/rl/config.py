"""The whole of a meta-RL run as one frozen value; it is written to config.json, and made again from there."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from innerloop.core.functional import Blocks
from innerloop.core.inner import InnerLoop
from innerloop.errors import InnerloopError
from innerloop.rl.policy import Activation
from innerloop.rl.ppo import Ppo
from innerloop.rl.surrogate import Form
from innerloop.rl.trpo import Trpo
from innerloop.runs.plain import from_plain

EnvironmentName = Literal["navigation", "cheetah-direction", "cheetah-velocity"]
OuterName = Literal["trpo", "ppo"]
MethodName = Literal["maml", "fomaml", "anil", "boil", "multitask", "oracle"]
BLOCKS: dict[MethodName, Blocks] = {
    "maml": "all",
    "fomaml": "all",
    "anil": "head",
    "boil": "body",
    "multitask": "none",
    "oracle": "none",
}
"""which blocks of the policy the inner step changes"""


@dataclass(frozen=True)
class Environment:
    """The family of tasks."""

    name: EnvironmentName = "navigation"
    """navigation: a point and a hidden goal; cheetah-direction, cheetah-velocity: MuJoCo's half-cheetah, told by the
    reward alone which way, or how fast, to run"""
    horizon: int = 100
    """steps after which a trajectory is cut"""
    action_scale: float = 1.0
    """the policy's action times this goes to the environment, which cuts it to its bounds"""
    torso: bool = True
    """half-cheetah: observe the torso's position too (20 numbers, as the 2019 code bases; without it 17)"""

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise InnerloopError(f"env.horizon must be at least 1, got {self.horizon}")
        if not 0 < self.action_scale < math.inf:
            raise InnerloopError(f"env.action_scale must be above 0 and finite, got {self.action_scale}")


@dataclass(frozen=True)
class Policy:
    """The Gaussian policy."""

    hidden: tuple[int, ...] = (100, 100)
    """widths of the hidden layers"""
    activation: Activation = "relu"
    log_std: float = 0.0
    """logarithm of the standard deviation at the start"""

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise InnerloopError(f"policy.hidden needs widths of at least 1, got {self.hidden}")
        if self.activation not in get_args(Activation):
            raise InnerloopError(
                f"policy.activation must be one of {', '.join(get_args(Activation))}; got {self.activation!r}"
            )
        if not math.isfinite(self.log_std):
            raise InnerloopError(f"policy.log_std must be finite, got {self.log_std}")


@dataclass(frozen=True)
class Inner:
    """The inner loop: policy-gradient steps on a task's own trajectories."""

    steps: int = 1
    """steps in training; each samples its own trajectories"""
    lr: float = 0.1
    """inner rate, for a loss that is the mean over all time steps of a task"""
    loss: Form = "ratio"
    """ratio: with the right curvature for the meta-gradient; log_probability: as most public code, for parity"""
    adapt_log_std: bool = True
    """whether the standard deviation adapts with the head"""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InnerloopError(
                f"inner.steps must be at least 1, got {self.steps} (for no adaptation: --method multitask)"
            )
        if not 0 <= self.lr < math.inf:
            raise InnerloopError(f"inner.lr must be 0 or more and finite, got {self.lr}")


@dataclass(frozen=True)
class Validation:
    """Returns after adaptation on tasks that are always the same; choose the best checkpoint."""

    every: int = 10
    """meta-iterations between validations (and checkpoints)"""
    tasks: int = 40
    """validation tasks"""

    def __post_init__(self) -> None:
        if self.every < 1 or self.tasks < 2:
            raise InnerloopError(f"validation needs every ≥ 1 and tasks ≥ 2, got {self.every} and {self.tasks}")


@dataclass(frozen=True)
class MetaTest:
    """Meta-test."""

    tasks: int = 200
    """test tasks"""
    rollouts: int = 20
    """trajectories a task and step"""
    steps: int = 3
    """inner steps"""
    later_lr: float = 0.0
    """inner rate after the first step; 0: the same"""
    seed: int = 1_000_003
    """seed of the test tasks and trajectories"""

    def __post_init__(self) -> None:
        for name, least in (("tasks", 2), ("rollouts", 1), ("steps", 0)):
            if getattr(self, name) < least:
                raise InnerloopError(f"test needs {name} of at least {least}, got {getattr(self, name)}")
        if not 0 <= self.later_lr < math.inf:
            raise InnerloopError(f"test.later_lr must be 0 (the same) or more and finite, got {self.later_lr}")


@dataclass(frozen=True)
class Config:
    """Everything that decides a meta-RL run."""

    env: Environment = field(default_factory=Environment)
    method: MethodName = "maml"
    """maml: all blocks adapt; fomaml: the same, first order; anil: the head; boil: the body; multitask: one policy for
    all tasks, nothing adapts; oracle: the same, told the task in its observation"""
    policy: Policy = field(default_factory=Policy)
    inner: Inner = field(default_factory=Inner)
    iterations: int = 100
    """meta-iterations (outer steps)"""
    meta_batch: int = 20
    """tasks a meta-iteration"""
    rollouts: int = 20
    """trajectories a task, before each inner step and after the last"""
    gamma: float = 0.99
    """discount"""
    lam: float = 1.0
    """λ of the advantages; 1: discounted return minus baseline"""
    outer: OuterName = "trpo"
    """the outer step. trpo: natural gradient and line search; ppo: steps of Adam on the clipped surrogate (of the
    settings below only those of the one that is taken have an effect)"""
    trpo: Trpo = field(default_factory=Trpo)
    ppo: Ppo = field(default_factory=Ppo)
    validation: Validation = field(default_factory=Validation)
    test: MetaTest = field(default_factory=MetaTest)
    seed: int = 0
    """root seed of initialisation, tasks and trajectories"""
    precision: Literal["float32", "float64"] = "float32"
    """of the policy; baseline and conjugate gradients are always float64"""
    task_chunk: int = 0
    """tasks in memory at once for gradient and line search; 0: all"""
    threads: int = 0
    """CPU threads of PyTorch and MuJoCo; 0 leaves their choice"""

    def __post_init__(self) -> None:
        for name in ("iterations", "meta_batch", "rollouts"):
            if getattr(self, name) < 1:
                raise InnerloopError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise InnerloopError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for name in ("task_chunk", "threads"):
            if getattr(self, name) < 0:
                raise InnerloopError(f"{name} must be 0 (choose) or more, got {getattr(self, name)}")
        if self.outer == "trpo" and self.trpo.curvature_rollouts > self.rollouts:
            raise InnerloopError(
                f"trpo.curvature_rollouts {self.trpo.curvature_rollouts} is above rollouts {self.rollouts}; give "
                f"--trpo.curvature-rollouts {self.rollouts} or fewer, or 0 for all"
            )
        for what, value, known in (
            ("method", self.method, get_args(MethodName)),
            ("outer", self.outer, get_args(OuterName)),
            ("env.name", self.env.name, get_args(EnvironmentName)),
            ("inner.loss", self.inner.loss, get_args(Form)),
            ("precision", self.precision, ("float32", "float64")),
        ):
            if value not in known:
                raise InnerloopError(f"{what} must be one of {', '.join(known)}; got {value!r}")
        if self.outer != "ppo" and self.ppo != Ppo():
            raise InnerloopError("settings of ppo have no effect with the outer step trpo: --outer ppo")

    @property
    def adapts(self) -> bool:
        """Whether the method has an inner loop."""
        return BLOCKS[self.method] != "none"

    @property
    def inner_loop(self) -> InnerLoop:
        """The inner loop of this method."""
        return InnerLoop(
            blocks=BLOCKS[self.method],
            steps=self.inner.steps if self.adapts else 0,
            lr=self.inner.lr,
            first_order=self.method == "fomaml",
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": "rl", **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Config":
        """The config written by `to_json`; a value of another type and an unknown key are errors."""
        if value.get("kind") != "rl":
            raise InnerloopError(
                "this is the config of another kind of run; for those are 'innerloop evaluate' and 'innerloop analyse'"
            )
        return from_plain(cls, {k: v for k, v in value.items() if k != "kind"})
