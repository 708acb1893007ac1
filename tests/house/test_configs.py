"""Every configuration of the package: each field refuses what does not fit, in Python as from JSON."""

import importlib
import json
import pkgutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import innerloop
from innerloop.cli.dagan import DaganArgs
from innerloop.core.episodes import ImageTasks
from innerloop.core.inner import InnerLoop
from innerloop.core.outer import OuterLoop
from innerloop.errors import InnerloopError, quoted
from innerloop.estimator import saved
from innerloop.evaluation import EvalSettings
from innerloop.methods.heads import Metric
from innerloop.models.dagan import Sizes
from innerloop.rl import config as rl
from innerloop.rl.navigation import Navigation
from innerloop.rl.ppo import Ppo
from innerloop.rl.trpo import Trpo
from innerloop.training import config as few_shot
from innerloop.training.dagan import DaganConfig
from innerloop.validated import Validated, field_types
from naming import names

COUNT = (0, -1, 2.5, 10**10), (1, 2)
NATURAL = (-1, 0.5, 10**10), (0, 3)
SEVERAL = (1, 0, 10**10), (2,)
WIDTH = (0, 65_537, 10**30), (1, 65_536)
WIDTHS = ((), (0,), (3, -1), (65_537,)), ((1,), (40, 30, 20))
WAY = (1, 0, -1, 65_537, 10**30), (2, 65_536)
CHANNELS = (0, 2, 4), (1, 3)
THREADS = (-1, 1025), (0, 4)
SEED = (1.0,), (-3, 0, 10**30)
POSITIVE = (0.0, -1e-9, 0), (1e-9, 1e30, 2)
NOT_NEGATIVE = (-1e-9, -1), (0.0, 0, 1e30)
RATE = (0.0, -1e-9, 1.1e30, 1e38), (1e-9, 1.0, 1e30)
SHARE = (-1e-9, 1.1), (0.0, 1.0)
DECAY = (-1e-9, 1.0, 0.9999999), (0.0, 0.999)

EDGES: dict[type, dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]]] = {
    InnerLoop: {"steps": NATURAL, "lr": NOT_NEGATIVE, "proximal": NOT_NEGATIVE},
    OuterLoop: {
        **{"steps": COUNT, "meta_batch": COUNT, "lr": RATE, "halve_every": COUNT, "clip_at": POSITIVE},
        "final_lr": ((-1e-9, -1, 1.1e30), (0.0, 1e-5)),
    },
    EvalSettings: {
        **{"episodes": SEVERAL, "query": COUNT, "inner_steps": NATURAL, "seed": SEED, "temperature": POSITIVE}
    },
    Metric: {"scale": POSITIVE},
    few_shot.Model: {"filters": WIDTH, "hidden": WIDTHS, "head_scale": NOT_NEGATIVE},
    few_shot.Inner: {
        **{"steps": NATURAL, "lr": NOT_NEGATIVE, "proximal": NOT_NEGATIVE, "solve_steps": COUNT},
        **{"second_order_from": NATURAL, "anneal_steps": NATURAL},
    },
    few_shot.Folder: {"size": WIDTH, "channels": CHANNELS, "split_seed": SEED},
    few_shot.Validation: {"every": COUNT, "episodes": SEVERAL, "keep_every": ((-1, 10**10), (0, 500))},
    few_shot.Config: {
        **{"way": WAY, "shot": COUNT, "query": COUNT, "train_way": ((1, -1, 65_537), (0,))},
        **{"seed": SEED, "task_chunk": NATURAL, "threads": THREADS},
    },
    Sizes: {"widths": WIDTHS, "inner": NATURAL, "critic_inner": NATURAL, "noise": WIDTH},
    DaganConfig: {
        **{"steps": COUNT, "critic_steps": COUNT, "batch": COUNT, "lr": RATE, "beta1": DECAY, "beta2": DECAY},
        **{"penalty": NOT_NEGATIVE, "every": COUNT, "seed": SEED, "threads": THREADS},
    },
    DaganArgs: {"images": SEVERAL, "samples": SEVERAL},
    rl.Policy: {"hidden": WIDTHS, "log_std": ((), (-1.0, 0, 3.0))},
    rl.Inner: {"steps": COUNT, "lr": NOT_NEGATIVE},
    rl.Validation: {"every": COUNT, "tasks": SEVERAL},
    rl.MetaTest: {
        **{"tasks": SEVERAL, "rollouts": COUNT, "steps": NATURAL, "later_lr": NOT_NEGATIVE, "seed": SEED},
    },
    rl.Config: {
        "horizon": COUNT,
        "action_scale": POSITIVE,
        **{"iterations": COUNT, "meta_batch": COUNT, "rollouts": COUNT, "gamma": SHARE, "lam": SHARE},
        **{"seed": SEED, "task_chunk": NATURAL, "threads": THREADS},
    },
    Trpo: {
        **{"max_kl": POSITIVE, "cg_iterations": COUNT, "damping": NOT_NEGATIVE, "tries": COUNT},
        **{"backtrack": ((0.0, 1.0, -0.5), (0.5,)), "curvature_rollouts": NATURAL},
    },
    Ppo: {"lr": RATE, "epochs": COUNT, "clip": POSITIVE},
    Navigation: {"horizon": COUNT, "reach": POSITIVE, "longest": POSITIVE, "radius": NOT_NEGATIVE},
}
"""of each field of numbers: what is refused, and what is not"""

ELSEWHERE = {ImageTasks, saved.Layout, saved.Prepared, saved.Settings}
"""tested beside what makes them: data/test_sampler.py, estimator/test_saved.py"""
ROOTS = (few_shot.Config, rl.Config, DaganConfig)


def imported_dataclasses() -> set[type]:
    """All dataclasses of the package."""
    found: set[type] = set()
    for info in pkgutil.walk_packages(innerloop.__path__, "innerloop."):
        if info.name.endswith("__main__"):
            continue
        with suppress(ImportError, InnerloopError):  # an optional package that is not there
            found |= {c for c in vars(importlib.import_module(info.name)).values() if isinstance(c, type)}
    return {c for c in found if is_dataclass(c) and c.__module__.startswith("innerloop.")}


def plain(kind: Any) -> Any:
    """The annotation without bounds and without `| None`."""
    if get_origin(kind) is Annotated:
        return plain(get_args(kind)[0])
    options = [k for k in get_args(kind) if k is not NoneType]
    return plain(options[0]) if NoneType in get_args(kind) and len(options) == 1 else kind


def path_of(cls: type, name: str) -> str:
    """The field's path from the root that holds the class."""
    for root in ROOTS:
        for part, kind in field_types(root).items():
            if kind is cls:
                return f"{part}.{name}"
    return f"inner.{name}" if cls is InnerLoop else name


FIELDS = [(cls, name) for cls in EDGES for name in field_types(cls)]
NUMBERS = [(cls, name) for cls, edges in EDGES.items() for name in edges]
each_field = pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda v: v if isinstance(v, str) else v.__qualname__)
each_number = pytest.mark.parametrize(
    ("cls", "name"), NUMBERS, ids=lambda v: v if isinstance(v, str) else v.__qualname__
)


def test_every_configuration_is_validated_and_in_the_table() -> None:
    found = imported_dataclasses()
    configs = {c for c in found if hasattr(c, "from_json")}
    assert set(ROOTS) == configs
    for root in ROOTS:
        configs |= {k for k in field_types(root).values() if is_dataclass(k)}
    assert {c for c in configs if not issubclass(c, Validated)} == set()
    assert set(EDGES) == {c for c in found if issubclass(c, Validated)} - ELSEWHERE
    assert configs <= set(EDGES)


@pytest.mark.parametrize("cls", EDGES, ids=lambda c: c.__qualname__)
def test_every_number_is_in_the_table(cls: type) -> None:
    kinds = {n: plain(k) for n, k in field_types(cls).items()}
    numbers = {n for n, k in kinds.items() if k in (int, float) or get_origin(k) is tuple}
    assert numbers == set(EDGES[cls])
    for f in fields(cls):
        assert f.default is not MISSING or f.default_factory is not MISSING, f.name


def refused(cls: type, name: str, value: Any) -> str:
    """What the refusal says; it names the field and the value."""
    with pytest.raises(InnerloopError) as caught:
        cls(**{name: value})
    said = str(caught.value)
    assert said.startswith(path_of(cls, name)), said
    return said


@each_field
def test_values_of_another_type_are_refused(cls: type, name: str) -> None:
    kind = field_types(cls)[name]
    bare = plain(kind)
    wrong: list[Any] = [{}, {"a"}, 1j, b"x", object(), np.zeros(2)]
    if NoneType not in get_args(kind):
        wrong.append(None)
    if bare not in (int, float) and get_origin(bare) is not Literal:
        wrong.append(7)
    if bare is not str:
        wrong.append("no such thing")
    if bare is not bool:
        wrong += [True, np.bool_(True)]
    if bare is not float:
        wrong += [2.5, np.float32(2.5)]
    if get_origin(bare) is tuple or name == "blocks":
        wrong += [[b"x"], [None], ["a", 3]]
    else:
        wrong += [[], ["conv1"], [3]]
    for value in wrong:
        said = refused(cls, name, value)
        assert quoted(value) in said or "[" in said.split(" must ")[0], said


@each_field
def test_a_name_that_is_not_known_is_refused_with_the_known_ones(cls: type, name: str) -> None:
    known = [m for k in (plain(field_types(cls)[name]), *get_args(field_types(cls)[name])) for m in get_args(k)]
    known = [m for m in known if isinstance(m, str)]
    if not known:
        return
    for value in ("no such name", known[0] + "x", known[0].upper(), ""):
        said = refused(cls, name, value)
        assert repr(value) in said
        assert all(m in said for m in known)
    assert f"did you mean {known[0]!r}" in refused(cls, name, known[0] + "x")


@each_number
def test_values_beyond_the_bounds_are_refused(cls: type, name: str) -> None:
    wrong, right = EDGES[cls][name]
    for value in wrong:
        refused(cls, name, value)
    for value in right:
        kept = getattr(cls(**{name: value}), name)
        assert kept == value
        assert type(kept) is type(getattr(cls(), name)) or plain(field_types(cls)[name]) is type(kept)


@each_number
def test_what_is_not_finite_is_refused(cls: type, name: str) -> None:
    whole = get_origin(plain(field_types(cls)[name])) is tuple
    for value in (float("inf"), float("-inf"), float("nan"), 1e39, np.float64("nan"), np.float32("inf")):
        said = refused(cls, name, [value] if whole else value)
        assert whole or quoted(value) in said
    if plain(field_types(cls)[name]) is float:
        refused(cls, name, 10**400)
        refused(cls, name, 10**5000)


@each_number
def test_numbers_of_numpy_and_lists_are_taken_as_pythons(cls: type, name: str) -> None:
    right = EDGES[cls][name][1]
    for value in right:
        given: list[Any] = []
        if isinstance(value, tuple):
            given = [list(value), [np.int64(v) if isinstance(v, int) else np.float64(v) for v in value]]
        elif isinstance(value, float):
            given = [np.float64(value)]
        elif value < 2**62:
            given = [np.int64(value)]
        for v in given:
            made = cls(**{name: v})
            kept = getattr(made, name)
            assert made == cls(**{name: value})
            assert hash(made) == hash(cls(**{name: value}))
            parts = kept if isinstance(kept, tuple) else (kept,)
            assert all(type(p) in (int, float) for p in parts)


@pytest.mark.parametrize("root", ROOTS, ids=lambda c: c.__module__)
def test_json_and_python_say_the_same(root: Any) -> None:
    for part, kind in {"": root, **{n: k for n, k in field_types(root).items() if is_dataclass(k)}}.items():
        for name, own in field_types(kind).items():
            if is_dataclass(own):
                with pytest.raises(InnerloopError, match=names(name, "object", 3)):
                    root.from_json({**root().to_json(), name: 3})
                continue
            for value in ("no such thing", None, True, 2.5, -7, [], [None], {"a": 1}, float("nan"), 10**400):
                change = {part: {name: value}} if part else {name: value}
                python, from_json = refusal(by_hand, root, change), refusal(by_json, root, change)
                assert python == from_json
                if refusal(kind, **{name: value}):
                    assert python.startswith(f"{part}.{name}" if part else name) or " must be " not in python


def by_hand(root: Any, change: dict[str, Any]) -> Any:
    kinds = field_types(root)
    return root(**{n: kinds[n](**v) if is_dataclass(kinds[n]) else v for n, v in change.items()})


def by_json(root: Any, change: dict[str, Any]) -> Any:
    whole, kinds = root().to_json(), field_types(root)
    return root.from_json(
        {**whole, **{n: {**whole[n], **v} if is_dataclass(kinds[n]) else v for n, v in change.items()}}
    )


def refusal(make: Callable[..., Any], *args: Any, **options: Any) -> str:
    """What an InnerloopError says; nothing without one."""
    try:
        make(*args, **options)
    except InnerloopError as error:
        return str(error)
    return ""


def strategy(cls: type, name: str) -> st.SearchStrategy[Any]:
    """Values that the field takes."""
    bare = plain(field_types(cls)[name])
    if get_origin(bare) is Literal:
        return st.sampled_from(get_args(bare))
    if bare is bool:
        return st.booleans()
    if bare is str:
        return st.text()
    right = EDGES[cls][name][1]
    if get_origin(bare) is tuple:
        return st.lists(st.integers(1, 65_536), min_size=1).map(tuple)
    if bare is int and right == CHANNELS[1]:
        return st.sampled_from(right)
    return st.integers(min(right), max(right)) if bare is int else st.floats(min(right), max(right))


@pytest.mark.parametrize("root", ROOTS, ids=lambda c: c.__module__)
def test_json_there_and_back(root: Any) -> None:
    parts = {n: k for n, k in field_types(root).items() if is_dataclass(k)}
    places = [
        (part, n)
        for part, k in {"": root, **parts}.items()
        for n, f in field_types(k).items()
        if f not in parts.values()
    ]

    @given(st.data())
    def check(data: st.DataObject) -> None:
        changes: dict[str, dict[str, Any]] = {}
        for part, name in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
            changes.setdefault(part, {})[name] = data.draw(strategy(parts.get(part, root), name))
        try:
            own = {part: parts[part](**change) for part, change in changes.items() if part}
            config = root(**own, **changes.get("", {}))
        except InnerloopError:  # settings that exclude one another
            assume(False)
            return
        assert root.from_json(json.loads(json.dumps(config.to_json()))) == config
        assert hash(root.from_json(config.to_json())) == hash(config)

    check()


def test_blocks_may_be_a_list_of_names() -> None:
    inner = InnerLoop(blocks=["conv1", "head"])
    assert inner.blocks == ("conv1", "head")
    assert hash(inner) == hash(InnerLoop(blocks=("conv1", "head")))
    assert InnerLoop(blocks="head").blocks == "head"
    assert DaganArgs(out=Path("x")).out == Path("x")
