"""The Gymnasium names: ``gymnasium.make("innerloop.rl.register:innerloop/Navigation2D-v0")``.

``import innerloop.rl.register`` makes them known, and the name behind the colon is then enough. Gymnasium has no other
way since 1.0: it no longer looks for entry points of installed packages.
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
