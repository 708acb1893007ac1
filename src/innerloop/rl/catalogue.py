"""The environments by name: the only place that resolves one, ours or `module:attribute` of the user's own."""

import sys

from innerloop.reference import find_value, give, is_reference
from innerloop.rl.cheetah import DIRECTION, DIRECTION_17, VELOCITY, VELOCITY_17
from innerloop.rl.environment import Environment
from innerloop.rl.navigation import NAVIGATION

ENVIRONMENTS = (NAVIGATION, DIRECTION, VELOCITY, DIRECTION_17, VELOCITY_17)
NAMES = tuple(e.name for e in ENVIRONMENTS)
_references: dict[Environment, str] = {}


def find(name: str) -> Environment:
    """The environment `name`: one of ours, or `module:attribute`, whose module is imported."""
    found = find_value(name, {e.name: e for e in ENVIRONMENTS}, Environment, "environment")
    if is_reference(name):
        _references.setdefault(found, name)
    return found


def name_of(environment: Environment) -> str:
    """What `find` takes: the name of one of ours, `module:attribute` of one that a module holds; else one that
    this process alone knows."""
    if environment in ENVIRONMENTS:
        return environment.name
    if environment not in _references:
        main = sys.modules.get("__main__")  # which is another in another process
        others = [(name, vars(m)) for name, m in list(sys.modules.items()) if m is not main and hasattr(m, "__dict__")]
        held = [f"{name}:{key}" for name, own in others for key, value in list(own.items()) if value is environment]
        if not held:
            return give("environment", environment.name, environment)
        at_home = f"{getattr(environment.make, '__module__', '')}:"
        _references[environment] = min(held, key=lambda name: not name.startswith(at_home))
    return _references[environment]
