"""Named presets: a published protocol, or one of ours, as a value. `preset(name, method)` gives the config.

Inner rates are for a loss that is the mean over the support set. The reference code of MAML divides by the shots
and sums over the support set, so that a published rate r stands for r × way here: 0.4 → 2.0 (Omniglot 5-way),
0.1 → 2.0 (20-way), 0.01 → 0.05 (mini-ImageNet). Its outer loss is way × query / shot times the mean, so that its
value clip of 10 on mini-ImageNet is 0.133 (1-shot) and 0.667 (5-shot) here.
Published: Finn et al. 2017, appendix A, and the reference code.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from innerloop.core.outer import OuterLoop
from innerloop.data.dataset import Dataset
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.evaluation import EvalSettings
from innerloop.training.config import Config, Inner, Model, Validation

STRIDED = Model(filters=64, downsample="stride", readout="mean")
POOLED_32 = Model(filters=32, downsample="max_pool", readout="flatten")
POOLED_64 = Model(filters=64, downsample="max_pool", readout="flatten")


@dataclass(frozen=True)
class Preset:
    """A named starting point."""

    name: str
    about: str
    """one line: what it is and where it is from"""
    make: Callable[[], Config]
    minutes: int | None = None
    """about how long MAML trains on one core of a server's CPU (docs/speed.md); None: not measured"""


def _omniglot(way: int, shot: int, **change: object) -> Config:
    five = way == 5
    base = Config(
        data="omniglot",
        split_scheme="vinyals",
        way=way,
        shot=shot,
        query=shot,
        model=STRIDED,
        # published 0.4 (5-way) and 0.1 (20-way) on a sum over way × shot images divided by shot: × way on the mean
        inner=Inner(steps=1 if five else 5, lr=0.4 * 5 if five else 0.1 * 20),
        outer=OuterLoop(steps=60_000, meta_batch=32 if five else 16, lr=1e-3),
        validation=Validation(every=1_000, episodes=200),
        test=EvalSettings(query=15, inner_steps=3 if five else 5),
    )
    return replace(base, **change)  # pyright: ignore[reportArgumentType]


def _mini_imagenet(shot: int) -> Config:
    return Config(
        data="mini_imagenet",
        shot=shot,
        model=POOLED_32,
        inner=Inner(steps=5, lr=0.01 * 5),
        outer=OuterLoop(
            steps=60_000,
            meta_batch=4 if shot == 1 else 2,
            clip="value",
            clip_at=10 / 75 if shot == 1 else 10 / 15,
        ),
        validation=Validation(every=1_000, episodes=200),
        test=EvalSettings(inner_steps=10),
    )


def _cifar_fs(shot: int) -> Config:
    return replace(_mini_imagenet(shot), data="cifar_fs", model=POOLED_64)


def _sinusoid() -> Config:
    return Config(
        data="sinusoid",
        shot=10,
        query=10,
        model=Model(arch="mlp", hidden=(40, 40)),
        inner=Inner(steps=1, lr=0.01),
        outer=OuterLoop(steps=70_000, meta_batch=25),
        validation=Validation(every=5_000, episodes=500),
        test=EvalSettings(query=100, inner_steps=10),
    )


def _glyphs_quick() -> Config:
    return Config(
        data="glyphs",
        query=5,
        model=STRIDED,
        inner=Inner(steps=3, lr=0.4),
        outer=OuterLoop(steps=600, meta_batch=4, lr=3e-3, schedule="cosine"),
        validation=Validation(every=100, episodes=50),
        test=EvalSettings(inner_steps=5),
    )


def _glyphs() -> Config:
    quick = _glyphs_quick()
    return replace(
        quick,
        outer=replace(quick.outer, steps=10_000, meta_batch=8),
        validation=Validation(every=500, episodes=200),
    )


def _omniglot_cpu(way: int) -> Config:
    """Ours: distorted training images, a cosine schedule, no scale in batch norm, the last block read pixel by pixel.

    The spatial mean of the published net leaves 64 features; its last block has 2×2 pixels, and all 256 of them cost no
    more time. A quarter of the inner rate goes with four times the features: gradient descent on the head stays below
    its bound 2 / λ, λ the curvature, taken as about ‖features‖² / way; without batch norm's scale the features cannot
    grow past it. That is reasoning, checked on validation episodes in short trials, no study.
    """
    published = _omniglot(way, 1)
    return replace(
        published,
        query=5,
        augment="affine",
        model=replace(published.model, readout="flatten", affine=False),
        inner=Inner(steps=1, lr=0.5) if way == 5 else Inner(steps=5, lr=0.2),
        outer=OuterLoop(
            steps=12_000 if way == 5 else 9_000,
            meta_batch=8 if way == 5 else 5,
            lr=3e-3,
            schedule="cosine",
            clip="norm",
            clip_at=1.0,
        ),
        validation=Validation(every=500, episodes=100),
        test=published.test if way == 5 else replace(published.test, inner_steps=10),
    )


def _omniglot_lake() -> Config:
    """Ours: Lake's background alphabets, to be tested within the evaluation alphabets, as Koch et al. 2015 do."""
    config = _omniglot_cpu(20)
    return replace(config, split_scheme="lake", outer=replace(config.outer, steps=8_000, meta_batch=1))


PRESETS = (
    Preset("quick", "glyphs, 5-way 1-shot, 600 steps: the default of `study`", _glyphs_quick, 2),
    Preset("glyphs-5way-1shot", "glyphs, 5-way 1-shot, 10,000 steps", _glyphs, 60),
    Preset("omniglot-5way-1shot", "Finn et al. 2017: Omniglot, 60,000 steps of 32 tasks", lambda: _omniglot(5, 1)),
    Preset("omniglot-5way-5shot", "Finn et al. 2017: the same with 5 shots", lambda: _omniglot(5, 5)),
    Preset(
        "omniglot-20way-1shot",
        "Finn et al. 2017, Raghu et al. 2020: 60,000 steps of 16 tasks",
        lambda: _omniglot(20, 1),
        35 * 60,
    ),
    Preset(
        "omniglot-20way-5shot",
        "Finn et al. 2017, Raghu et al. 2020: the same with 5 shots",
        lambda: _omniglot(20, 5),
    ),
    Preset(
        "omniglot-5way-1shot-cpu",
        "ours, for a CPU: 5 queries per class, distorted images, a cosine schedule",
        lambda: _omniglot_cpu(5),
        66,
    ),
    Preset("omniglot-20way-1shot-cpu", "ours, for a CPU: the same with 20 ways", lambda: _omniglot_cpu(20), 270),
    Preset(
        "omniglot-lake-20way-1shot-cpu",
        "ours: Lake's background alphabets; evaluate with --data omniglot-within (Koch et al. 2015)",
        _omniglot_lake,
        48,
    ),
    Preset(
        "mini-imagenet-5way-1shot",
        "Finn et al. 2017, Raghu et al. 2020: 32 filters, 84×84",
        lambda: _mini_imagenet(1),
        23 * 60,
    ),
    Preset(
        "mini-imagenet-5way-5shot",
        "Finn et al. 2017, Raghu et al. 2020: the same with 5 shots",
        lambda: _mini_imagenet(5),
    ),
    Preset(
        "cifar-fs-5way-1shot",
        "64 filters, max-pool; the mini-ImageNet loop on CIFAR-FS",
        lambda: _cifar_fs(1),
        13 * 60,
    ),
    Preset("cifar-fs-5way-5shot", "the same with 5 shots", lambda: _cifar_fs(5)),
    Preset("sinusoid-10shot", "Finn et al. 2017, section 5.1: regression of sinusoids", _sinusoid, 5),
)


def for_method(config: Config, method: str) -> Config:
    """`config` (made for MAML) with `method` and what that method's paper has otherwise, or what it needs.

    maml, fomaml, anil, nil, multitask, multiclass and unicorn take it as it is. Rates of a linear head fitted to fixed
    features (baseline) are ours, by the number of features: Chen et al. 2019 take SGD with momentum on batches of 4.
    """
    few = config.model.readout == "mean"
    inner, test = config.inner, config.test
    c = config
    match method:
        case "boil" if not config.regression:  # Oh et al. 2021: one step at 0.5, batch norm adapts
            inner = replace(inner, steps=1, lr=0.5, adapt_norm=True)
            test = replace(test, inner_steps=1)
        case "meta-sgd":  # Li et al. 2017: one step
            inner, test = replace(inner, steps=1), replace(test, inner_steps=1)
        case "maml++":  # as many steps at test time as in training; a cosine outer rate
            test = replace(test, inner_steps=inner.steps)
            c = replace(c, outer=replace(c.outer, schedule="cosine"))
        case "proto-maml":  # the head begins where it classifies already
            inner, test = replace(inner, lr=inner.lr / 10), replace(test, inner_steps=inner.steps)
        case "reptile":  # outer steps towards the adapted weights
            if not config.regression:  # 10 images per class, as theirs, one of each in every inner step
                c, inner = replace(c, query=max(1, 10 - c.shot)), replace(inner, steps=10)
            c = replace(c, outer=replace(c.outer, optimizer="sgd", lr=1.0, schedule="cosine", clip="none"))
        case "imaml":  # Rajeswaran et al. 2019: λ = 2, 16 steps, 5 iterations of conjugate gradients
            # the pull alone multiplies the distance by 1 − αλ a step: below a rate of 1 / λ it is a contraction
            inner = replace(inner, steps=16, lr=min(inner.lr, 0.1), proximal=2.0, adapt_norm=True, recompute=False)
            test = replace(test, inner_steps=16)
        case "matching":
            test = replace(test, temperature=10.0)
        case "proto" if not config.regression:  # Snell et al. 2017 train with more ways than they test
            return replace(c, method=method, train_way=_more_ways(c), outer=_as_many_images(c))
        case "siamese":  # as many pairs per step as the others have images
            pass
        case "baseline" | "baseline++" | "finetune" if not config.regression:
            rate = 0.5 if few else 0.02
            rate = {"baseline": rate, "baseline++": 0.1, "finetune": rate / 5}[method]
            inner = replace(inner, lr=rate, learn_rates=False)
            test = replace(test, inner_steps=20 if method == "finetune" else 100)
        case _:
            pass
    return replace(c, method=method, inner=inner, test=test)


def _more_ways(config: Config) -> int:
    """Three times the test's ways, at most 60 on drawn characters and 30 on photographs."""
    data = config.dataset
    drawn = isinstance(data, Dataset) and data.drawn
    return max(config.way, min(3 * config.way, 60 if drawn else 30))


def _as_many_images(config: Config) -> OuterLoop:
    """With more ways, fewer episodes per step, so that a step takes about as many images."""
    fewer = round(config.outer.meta_batch * config.way / _more_ways(config))
    return replace(config.outer, meta_batch=max(1, fewer))


def _more_head_steps(config: Config) -> Config:
    """ANIL's steps cost next to nothing, and so there are more of them, at a rate at which 20 steps are stable.

    At 20 ways max-pooling learns more from an outer step, which takes three times as long: 94.3 % on validation
    episodes after 1,000 against 91.6 % with a stride. There too, an earlier run went on rising after 30 inner
    steps at test time: 95.05, and 95.32 % after 100.
    """
    config = replace(
        config,
        inner=replace(config.inner, steps=20, lr=0.1 if config.way == 5 else config.inner.lr),
        outer=replace(config.outer, steps=7_000),
        test=replace(config.test, inner_steps=30),
    )
    if config.way == 5:
        return config
    return replace(
        config,
        model=replace(config.model, downsample="max_pool"),
        outer=replace(config.outer, steps=6_000),
        test=replace(config.test, inner_steps=100),
    )


def preset(name: str, method: str | None = None) -> Config:
    """The config of the preset `name`, for `method` (default: the preset's own, MAML).

    What a method changes is in `for_method`; besides, the presets for a CPU give ANIL more of its cheap inner steps and
    fewer outer steps, with 5 ways another rate, with 20 ways max-pooling.
    """
    for p in PRESETS:
        if p.name == name:
            config = p.make()
            if method == "anil" and name.startswith("omniglot") and name.endswith("-cpu"):
                config = _more_head_steps(config)
            return config if method is None else for_method(config, method)
    names = [p.name for p in PRESETS]
    raise InnerloopError(f"there is no preset {quoted(name)}; there are {', '.join(names)}{did_you_mean(name, names)}")
