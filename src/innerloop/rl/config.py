"""The whole of a meta-RL run as one frozen value; it is written to config.json, and made again from there."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from innerloop.core.inner import InnerLoop
from innerloop.errors import InnerloopError
from innerloop.reference import is_reference
from innerloop.rl.catalogue import NAMES, find
from innerloop.rl.methods import method
from innerloop.rl.policy import Activation
from innerloop.rl.ppo import Ppo
from innerloop.rl.trpo import Form, Trpo
from innerloop.runs.config_json import config_from_json
from innerloop.validated import (
    Count,
    Natural,
    NonNegative,
    Positive,
    Several,
    Threads,
    Validated,
    Widths,
    at_least,
    at_most,
)

OuterName = Literal["trpo", "ppo"]
Discount = Annotated[float, at_least(0), at_most(1)]


@dataclass(frozen=True)
class Policy(Validated, at="policy"):
    """The Gaussian policy."""

    hidden: Widths = (100, 100)
    """widths of the hidden layers"""
    activation: Activation = "relu"
    """what follows each hidden layer"""
    log_std: float = 0.0
    """logarithm of the standard deviation at the start"""


@dataclass(frozen=True)
class Inner(Validated, at="inner"):
    """The inner loop: policy-gradient steps on a task's own trajectories."""

    steps: Annotated[int, at_least(1, "for no adaptation: --method multitask"), at_most(10**9)] = 1
    """steps in training; each samples its own trajectories"""
    lr: NonNegative = 0.1
    """inner rate, for a loss that is the mean over all time steps of a task"""
    loss: Form = "ratio"
    """ratio: with the right curvature for the meta-gradient; log_probability: as most public code, for parity"""
    adapt_log_std: bool = True
    """whether the standard deviation adapts with the head"""


@dataclass(frozen=True)
class Validation(Validated, at="validation"):
    """Returns after adaptation on tasks that are always the same; choose the best checkpoint."""

    every: Count = 10
    """meta-iterations between validations (and checkpoints)"""
    tasks: Several = 40
    """validation tasks"""


@dataclass(frozen=True)
class MetaTest(Validated, at="test"):
    """Meta-test."""

    tasks: Several = 200
    """test tasks"""
    rollouts: Count = 20
    """trajectories per task and step"""
    steps: Natural = 3
    """inner steps"""
    later_lr: NonNegative = 0.0
    """inner rate after the first step; 0: the same"""
    seed: int = 1_000_003
    """seed of the test tasks and trajectories"""


@dataclass(frozen=True)
class Config(Validated):
    """Everything that decides a meta-RL run."""

    env: str = NAMES[0]
    """the environment: one of ours, or module:attribute, a value of your own (docs/extending.md)"""
    horizon: Count = 100
    """steps after which a trajectory is cut"""
    action_scale: Positive = 1.0
    """the policy's action times this goes to the environment, which cuts it to its bounds"""
    method: str = "maml"
    """maml: all blocks adapt; fomaml: the same, first order; anil: the head; boil: the body; multitask: one policy for
    all tasks, nothing adapts; oracle: the same, told the task in its observation; module:attribute is a method of your
    own (docs/extending.md)"""
    policy: Policy = field(default_factory=Policy)
    inner: Inner = field(default_factory=Inner)
    iterations: Count = 100
    """meta-iterations (outer steps)"""
    meta_batch: Count = 20
    """tasks per meta-iteration"""
    rollouts: Count = 20
    """trajectories per task, before each inner step and after the last"""
    gamma: Discount = 0.99
    """discount"""
    lam: Discount = 1.0
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
    task_chunk: Natural = 0
    """tasks in memory at once for gradient and line search; 0: all"""
    threads: Threads = 0
    """CPU threads of PyTorch and MuJoCo; 0 leaves their choice"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_reference(self.env):
            find(self.env)
        if method(self.method).loss is not None and self.inner.loss != Inner.loss:
            raise InnerloopError(f"{self.method} has an inner loss of its own: leave inner.loss at {Inner.loss}")
        if self.outer == "trpo" and self.trpo.curvature_rollouts > self.rollouts:
            raise InnerloopError(
                f"trpo.curvature_rollouts {self.trpo.curvature_rollouts} is above rollouts {self.rollouts}; give "
                f"--trpo.curvature-rollouts {self.rollouts} or fewer, or 0 for all"
            )
        if self.outer != "ppo" and self.ppo != Ppo():
            raise InnerloopError("settings of ppo have no effect with the outer step trpo: --outer ppo")

    @property
    def adapts(self) -> bool:
        """Whether the method has an inner loop."""
        return method(self.method).adapts

    @property
    def inner_loop(self) -> InnerLoop:
        """The inner loop of this method."""
        kind = method(self.method)
        steps = self.inner.steps if self.adapts else 0
        return InnerLoop(blocks=kind.blocks, steps=steps, lr=self.inner.lr, first_order=kind.first_order)

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
        return config_from_json(cls, _upgraded({k: v for k, v in value.items() if k != "kind"}))


def _upgraded(value: dict[str, Any]) -> dict[str, Any]:
    """Runs from before environments were values have an object under "env"."""
    if not isinstance(env := value.get("env"), dict) or "name" not in env:
        return value
    settings = {k: v for k, v in env.items() if k not in ("name", "torso")}
    short = f"{env['name']}-17"
    return {**value, "env": short if env.get("torso") is False and short in NAMES else env["name"], **settings}
