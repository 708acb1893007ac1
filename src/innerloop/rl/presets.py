"""Named protocols of meta-RL as values. `preset(name, method)` gives the config.

2019: the last public state of pytorch-maml-rl before Raghu et al. 2020 (commit 8529b96), which fits the returns of
their table; that it is what they ran is an inference. 2020: the same code base a few months later. `cpu` is ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.rl.config import Config, Environment, EnvironmentName, MetaTest, MethodName, Policy, Validation
from innerloop.rl.trpo import Trpo


@dataclass(frozen=True)
class Preset:
    """A named starting point."""

    name: str
    about: str
    make: Callable[[], Config]


def _published(name: EnvironmentName, year: int) -> Config:
    navigation = name == "navigation"
    early = year == 2019
    return Config(
        env=Environment(
            name=name,
            horizon=200 if early and not navigation else 100,
            action_scale=1.0 if navigation or early else 0.1,
            torso=True,
        ),
        policy=Policy() if early else Policy(hidden=(64, 64), activation="tanh"),
        iterations=1000 if early else 500,
        meta_batch=20 if navigation and not early else 40,
        validation=Validation(every=10),
        test=MetaTest(tasks=200 if navigation else 40),
    )


def _cpu(name: EnvironmentName) -> Config:
    base = replace(_published(name, 2019), meta_batch=20, trpo=Trpo(curvature_rollouts=5))
    if name == "navigation":
        return replace(base, iterations=100)
    return replace(base, iterations=300, validation=Validation(every=10, tasks=20))


WORDS: dict[EnvironmentName, str] = {
    "navigation": "2D-Navigation",
    "cheetah-direction": "HalfCheetah-Direction",
    "cheetah-velocity": "HalfCheetah-Velocity",
}

PRESETS = tuple(
    preset
    for name, words in WORDS.items()
    for preset in (
        Preset(
            f"{name}-cpu",
            f"ours: {words}, 2019 with 20 tasks, {_cpu(name).iterations} iterations, curvature from 5 rollouts",
            lambda name=name: _cpu(name),
        ),
        Preset(
            f"{name}-2019",
            f"{words}: 40 tasks, {_published(name, 2019).env.horizon} steps, 100-100 ReLU, 1000 iterations",
            lambda name=name: _published(name, 2019),
        ),
        Preset(
            f"{name}-2020",
            f"{words}: {_published(name, 2020).meta_batch} tasks, 100 steps, 64-64 tanh, 500 iterations",
            lambda name=name: _published(name, 2020),
        ),
    )
)


def preset(name: str, method: MethodName | None = None) -> Config:
    """The config of the preset `name`, for `method` (default: MAML)."""
    for p in PRESETS:
        if p.name == name:
            config = p.make()
            return config if method is None else replace(config, method=method)
    names = [p.name for p in PRESETS]
    raise InnerloopError(f"there is no preset {quoted(name)}; there are {', '.join(names)}{did_you_mean(name, names)}")
