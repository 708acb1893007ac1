"""The methods of meta-RL, as values: how a policy learns a new task. One of your own is another value."""

from dataclasses import dataclass

from innerloop.core.functional import Blocks
from innerloop.core.losses import Loss
from innerloop.reference import check_name, find_value, give


@dataclass(frozen=True)
class PolicyMethod:
    """How a policy learns a new task. The outer step, TRPO or PPO on the adapted policies, goes with each."""

    name: str
    blocks: Blocks = "none"
    """which blocks of the policy the inner steps change"""
    first_order: bool = False
    """the outer step leaves out the second derivatives of the inner steps"""
    observes_task: bool = False
    """the task is part of the observation"""
    loss: Loss | None = None
    """of the inner steps: the policy's outputs [tasks, n, 2 × action] and targets [tasks, n, target] (see
    `rl.trpo.Batch`) to one number per task; None: the one that the run's `inner.loss` names"""
    source: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def adapts(self) -> bool:
        """Whether there is an inner loop."""
        return self.blocks != "none" and len(self.blocks) > 0


METHODS = (
    PolicyMethod("maml", "all", source="Finn, Abbeel, Levine 2017, arXiv 1703.03400, algorithm 3"),
    PolicyMethod("fomaml", "all", first_order=True, source="Finn, Abbeel, Levine 2017, section 5.2"),
    PolicyMethod("anil", "head", source="Raghu, Raghu, Bengio, Vinyals 2020, arXiv 1909.09157, section 4"),
    PolicyMethod("boil", "body", source="Oh, Yoo, Kim, Yun 2021, arXiv 2008.08882"),
    PolicyMethod("multitask", source="one policy for all tasks"),
    PolicyMethod("oracle", observes_task=True, source="Finn, Abbeel, Levine 2017, section 5.3"),
)
NAMES = tuple(m.name for m in METHODS)
_WHAT = "method of meta-RL"


def method(name: str) -> PolicyMethod:
    """The method of that name: one of `METHODS`, or `module:attribute` of your own.

    Raises InnerloopError for a name that there is not, and for an attribute that is no `PolicyMethod`.
    """
    return find_value(name, {m.name: m for m in METHODS}, PolicyMethod, _WHAT)


def name_of(value: PolicyMethod) -> str:
    """What `method` takes: the name of one of ours; for any other value one that this process alone knows."""
    return value.name if value in METHODS else give(_WHAT, value.name, value)
