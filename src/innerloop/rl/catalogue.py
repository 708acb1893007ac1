"""The environments by name: the only place that resolves one, ours or `module:attribute` of the user's own."""

import sys

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.reference import give, is_reference, load_reference
from innerloop.rl.cheetah import DIRECTION, DIRECTION_17, VELOCITY, VELOCITY_17
from innerloop.rl.environment import Environment
from innerloop.rl.navigation import NAVIGATION

ENVIRONMENTS = (NAVIGATION, DIRECTION, VELOCITY, DIRECTION_17, VELOCITY_17)
NAMES = tuple(e.name for e in ENVIRONMENTS)
_references: dict[Environment, str] = {}


def find(name: str) -> Environment:
    """The environment `name`: one of ours, or `module:attribute`, whose module is imported."""
    for own in ENVIRONMENTS:
        if own.name == name:
            return own
    if not is_reference(name):
        raise InnerloopError(
            f"there is no environment {quoted(name)}; there are {', '.join(NAMES)}{did_you_mean(name, NAMES)} "
            "(one of your own is module:attribute)"
        )
    found = load_reference(name, "environment")
    if not isinstance(found, Environment):
        raise InnerloopError(
            f"{quoted(name)} is a {type(found).__name__}, not an Environment; docs/extending.md shows how to make one"
        )
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
