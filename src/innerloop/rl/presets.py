"""Named protocols of meta-RL as values. `preset(name, method)` gives the config.

2019: the last public state of pytorch-maml-rl before Raghu et al. 2020 (commit 8529b96), which fits the returns of
their table; that it is what they ran is an inference. 2020: the same code base a few months later. `cpu` is ours.
"""

from dataclasses import dataclass, replace

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.rl.catalogue import ENVIRONMENTS, name_of
from innerloop.rl.config import Config, Policy, Validation
from innerloop.rl.environment import Environment
from innerloop.rl.navigation import NAVIGATION
from innerloop.rl.trpo import Trpo
from innerloop.runs.config_json import config_from_json


@dataclass(frozen=True)
class Preset:
    """A named starting point."""

    name: str
    about: str
    config: Config
    minutes: int | None = None
    """about how long MAML trains on one core of a server's CPU (runs under results/rl); None: not measured"""


_MINUTES = {"navigation": 3, "cheetah-direction": 43, "cheetah-velocity": 42}


def own_settings(environment: Environment, method: str = "maml") -> Config:
    """The environment's own settings, of a training on a CPU."""
    named = {"env": name_of(environment), "horizon": environment.horizon, "method": method}
    return config_from_json(Config, {**named, **environment.settings})


def _presets(environment: Environment) -> tuple[Preset, ...]:
    """Of an environment of the paper."""
    cpu = own_settings(environment)
    early = replace(cpu, iterations=1000, meta_batch=40, trpo=Trpo(), validation=Validation(every=10))
    late = replace(early, horizon=100, iterations=500, policy=Policy(hidden=(64, 64), activation="tanh"))
    late = replace(late, meta_batch=20) if environment is NAVIGATION else replace(late, action_scale=0.1)
    title, name = environment.title, environment.name
    return (
        Preset(
            f"{name}-cpu",
            f"ours: {title}, 2019 with 20 tasks, {cpu.iterations} iterations, curvature from 5 rollouts",
            cpu,
            _MINUTES.get(name),
        ),
        Preset(f"{name}-2019", f"{title}: 40 tasks, {early.horizon} steps, 100-100 ReLU, 1000 iterations", early),
        Preset(f"{name}-2020", f"{title}: {late.meta_batch} tasks, 100 steps, 64-64 tanh, 500 iterations", late),
    )


PRESETS = tuple(preset for environment in ENVIRONMENTS if environment.published for preset in _presets(environment))


def preset(name: str, method: str | None = None) -> Config:
    """The config of the preset `name`, for `method` (default: MAML)."""
    for p in PRESETS:
        if p.name == name:
            return p.config if method is None else replace(p.config, method=method)
    names = [p.name for p in PRESETS]
    raise InnerloopError(f"there is no preset {quoted(name)}; there are {', '.join(names)}{did_you_mean(name, names)}")
