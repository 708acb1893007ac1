"""How much a reproduction may cost: smoke (seconds), cpu (an evening for all), paper (the published lengths)."""

from dataclasses import replace
from typing import Literal

from innerloop.core.outer import OuterLoop
from innerloop.data.catalogue import find_images
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings
from innerloop.training import Config, Inner, Model, Validation, for_method, preset
from innerloop.validated import checked

Budget = Literal["smoke", "cpu", "paper"]


def budget_config(data: str, budget: Budget, way: int, shot: int, method: str, seed: int) -> Config:
    """The training of `method` at that budget. All methods share model, data, inner steps, rate and outer loop.

    smoke: a few steps of a small net, to see that all runs. cpu: 1,500 outer steps of 4 tasks, above 5 ways 1,000 of
    2, with one inner loop that serves MAML and ANIL alike, its rate in proportion to the ways. paper: 30,000 steps
    (Raghu et al. 2020, figure 3), rates and batches of Finn et al. 2017.
    """
    make = {"smoke": _smoke, "cpu": _cpu, "paper": _paper}
    config = make[checked(Budget, budget, "budget")](data, way, shot)
    config = for_method(config, method)
    if budget == "smoke":  # a few classes must do
        config = replace(config, train_way=min(config.train_way, way + 1))
    return replace(config, seed=seed)


def default_seeds(budget: Budget) -> tuple[int, ...]:
    """Three where time does not matter, as in the paper; two else, the fewest with a spread."""
    return (0, 1, 2) if budget == "paper" else (0, 1)


def _smoke(data: str, way: int, shot: int) -> Config:
    return Config(
        data=data,
        split_scheme=find_images(data).scheme,
        way=way,
        shot=shot,
        query=2,
        model=Model(filters=4),
        inner=Inner(steps=1, lr=0.4),
        outer=OuterLoop(steps=4, meta_batch=2, lr=1e-3),
        validation=Validation(every=2, episodes=2, keep_every=2),
        test=EvalSettings(episodes=4, query=10, inner_steps=2),
        threads=1,
    )


def _cpu(data: str, way: int, shot: int) -> Config:
    return Config(
        data=data,
        split_scheme=find_images(data).scheme,
        way=way,
        shot=shot,
        query=5,
        augment="affine" if find_images(data).drawn else "none",
        model=Model(filters=64, downsample="stride", readout="mean", affine=True),
        inner=Inner(steps=5, lr=0.1 * way / 5),  # of the mean loss: each class's share of it is 1 / way
        outer=OuterLoop(
            steps=1_500 if way <= 5 else 1_000,
            meta_batch=4 if way <= 5 else 2,
            lr=3e-3,
            schedule="cosine",
            clip="norm",
            clip_at=1.0,
        ),
        validation=Validation(every=250, episodes=60, keep_every=500),
        test=EvalSettings(episodes=300, query=15, inner_steps=10),
    )


def _paper(data: str, way: int, shot: int) -> Config:
    source = find_images(data)
    ways = (5, 20) if source.drawn else (5,)
    if way not in ways or shot not in (1, 5):
        raise InnerloopError(
            f"the papers give rates for {' and '.join(map(str, ways))} ways with 1 and 5 shots on this data, not for "
            f"{way}-way {shot}-shot; give --way and --shot from these, or --budget cpu"
        )
    config = preset(f"omniglot-{way}way-{shot}shot" if source.drawn else f"mini-imagenet-{way}way-{shot}shot")
    if config.data != data and not source.drawn:  # mini-ImageNet's 32 filters are against overfitting on it
        config = replace(config, model=replace(config.model, filters=64))
    return replace(
        config,
        data=data,
        split_scheme=source.scheme,
        outer=replace(config.outer, steps=30_000),
        validation=replace(config.validation, keep_every=10_000),
    )
