"""The Gymnasium names: ``gymnasium.make("innerloop/Navigation2D-v0")``.

``import innerloop.rl.register`` makes them known; where the package is installed with its entry point, Gymnasium calls
`register` itself.
"""

from innerloop.rl.optional import need

NAVIGATION = "innerloop/Navigation2D-v0"
DIRECTION = "innerloop/HalfCheetahDirection-v0"
VELOCITY = "innerloop/HalfCheetahVelocity-v0"


def register() -> None:
    """Make the three environments known to Gymnasium (horizons 100, 200 and 200; `max_episode_steps` sets another)."""
    gymnasium = need("gymnasium")
    for name, where, horizon in (
        (NAVIGATION, "innerloop.rl.gym_navigation:Navigation2D", 100),
        (DIRECTION, "innerloop.rl.gym_cheetah:HalfCheetahDirection", 200),
        (VELOCITY, "innerloop.rl.gym_cheetah:HalfCheetahVelocity", 200),
    ):
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=where, max_episode_steps=horizon)


register()
