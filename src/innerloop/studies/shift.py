"""Domain shift: models trained on one data set, tested on another with the same way, shot and queries.

Not in Raghu et al. 2020; the question is from Chen, Liu, Kira, Wang, Huang (ICLR 2019, section 4.3). Only classes
that the training cannot have seen are tested (`data.overlap`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from innerloop.core.episodes import ClassImages, ImageTasks, TaskFamily
from innerloop.core.statistics import Estimate
from innerloop.data.caltech101 import CALTECH101
from innerloop.data.catalogue import DATASETS, find_images, load
from innerloop.data.cifar import CIFAR_FS, FC100
from innerloop.data.convert import as_shape
from innerloop.data.dataset import Dataset
from innerloop.data.glyphs import GLYPHS
from innerloop.data.omniglot import OMNIGLOT
from innerloop.data.overlap import seen_classes
from innerloop.data.within_alphabet import WithinAlphabet
from innerloop.errors import InnerloopError, did_you_mean
from innerloop.evaluation import Evaluation, evaluate
from innerloop.reference import is_reference
from innerloop.studies import claims
from innerloop.studies.lab import Lab, Trained
from innerloop.studies.result import Drawing, Outcome, Result, Row, Series, Value, difference, seed_value
from innerloop.studies.stage import Stage
from innerloop.training import Config, build


@dataclass(frozen=True)
class Target:
    """Where models are tested that were trained elsewhere."""

    name: str
    about: str
    data: Dataset
    of: tuple[str, ...] = ()
    """the training data in whose tables it stands; (): any of which it is known which classes it shares"""
    split: str = ""
    """whose classes are tested; "" is all"""
    within: bool = False
    """episodes are within one alphabet, one-shot: support by one drawer, query by another"""
    sibling: Dataset | None = None
    """the same images in other splits: its models are tested in-domain, those of `data` on the target"""
    note: str = ""
    """a caveat for models of the same data set in another split"""


_UPRIGHT = (
    "The unseen characters of the evaluation alphabets are the very test characters of the vinyals split, here upright "
    "only: what changes is the task, not the kind of character."
)
_LAKE = Target(
    "omniglot-lake",
    "upright characters of omniglot's evaluation alphabets",
    OMNIGLOT.with_scheme("lake"),
    ("omniglot", "glyphs"),
    split="test",
    note=_UPRIGHT,
)
TARGETS = (
    Target("glyphs", "printed letters of scripts that omniglot has not", GLYPHS, ("omniglot",)),
    _LAKE,
    replace(
        _LAKE,
        name="omniglot-within",
        about="the same characters, each episode within one alphabet: support by one drawer, query by another",
        within=True,
    ),
    Target(
        "fc100",
        "test classes of other superclasses than the training classes: a model trained on fc100 against one of "
        "cifar_fs, where both are at random",
        FC100,
        ("fc100",),
        split="test",
        sibling=CIFAR_FS,
    ),
    Target(
        "caltech101",
        "photographs of objects, all classes, resized to the shape that the model was trained on",
        CALTECH101,
        ("cifar_fs", "fc100"),
    ),
)


def find_target(name: str) -> Target:
    """The target of that name, or all classes of the data set of that name (ours or module:attribute)."""
    by_name = {d.name: Target(d.name, d.title, d) for d in DATASETS} | {target.name: target for target in TARGETS}
    if is_reference(name):
        data = find_images(name)
        return Target(name, data.title, data)
    if name not in by_name:
        near = did_you_mean(name, by_name)
        raise InnerloopError(
            f"there is no target {name!r}; there are {', '.join(by_name)}, and module:attribute of your own{near}"
        )
    return by_name[name]


METHODS: tuple[str, ...] = ("maml", "anil", "nil", "proto", "matching", "baseline", "baseline++", "centroid")
"""the methods of `reproduce`'s table: those that Chen et al. compare, and this paper's"""


@dataclass(frozen=True)
class Unseen:
    """The classes of a target that a model may be tested on."""

    data: ClassImages
    """in the shape of the model's input, without splits"""
    left_out: tuple[str, ...]
    """classes that the training has seen"""


@dataclass(frozen=True)
class Shifted:
    """One method and seed, in its own domain and in the other."""

    method: str
    seed: int
    in_domain: Evaluation
    shifted: Evaluation

    @property
    def drop(self) -> Estimate:
        """In-domain − shifted: two independent sets of episodes, so the squares of both intervals add up."""
        return independent_difference(self.in_domain, self.shifted)


def independent_difference(a: Evaluation, b: Evaluation) -> Estimate:
    """a − b of independent episodes, with the ci95 of that difference, √(ci95_a² + ci95_b²)."""
    width = math.hypot(a.final.ci95, b.final.ci95)
    return Estimate(a.final.mean - b.final.mean, width, min(a.final.episodes, b.final.episodes))


def domain_shift(lab: Lab) -> Result:
    """The same for `reproduce`: the lab's methods on every target of its data."""
    targets = [t for t in TARGETS if lab.data in t.of and (not t.within or lab.shot == 1)]
    if not targets:
        known = dict.fromkeys(data for t in TARGETS for data in t.of)
        raise InnerloopError(
            f"shift: {lab.data} has no target; there are targets for {', '.join(known)}. 'innerloop evaluate RUN "
            "--data OTHER' tests one run on any data set of which it is known which classes it shares"
        )
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    said: list[str] = []
    for target in targets:
        home = replace(lab, data=target.sibling.name, _images=[], _scores={}) if target.sibling else lab
        pairs = [(home.trained(m, s), lab.trained(m, s)) for m in METHODS for s in lab.seeds]
        config = lab.config("maml", lab.seeds[0])
        unseen = unseen_classes(config, lab.images, target, data_dir=lab.data_dir)
        home_config = home.config("maml", lab.seeds[0])
        families = task_families(home_config, home.images, target, unseen)
        found = measure(pairs, families, lab.report)
        rows += [_table_row(f"{name} → {target.name}", own) for name, own in compared(found).items()]
        outcomes.append(_transfer_wins(found, target))
        said += [
            f"{target.name}: {target.about}.",
            *(f"{target.name}: {note}" for note in notes(target, unseen, config)),
        ]
    drawing = Drawing(
        "bars",
        "",
        "drop (points)",
        tuple(
            Series(t.name, [r.label.split(" → ")[0] for r in own], [r.measured["drop (points)"] for r in own],
                   error=[r.measured["drop ci95"] for r in own])
            for t in targets if (own := [r for r in rows if r.label.endswith(f" → {t.name}")])
        ),
        "ci95 of a difference of independent means",
    )  # fmt: skip
    said.append("ours: accuracy on the target; drop: in-domain − target, on independent episodes")
    return Result(tuple(rows), tuple(outcomes), drawing, notes=tuple(dict.fromkeys(said)))


def _transfer_wins(found: Sequence[Shifted], target: Target) -> Outcome:
    by = {(f.method, f.seed): f.shifted for f in found}
    gaps = [seed_value(s, difference(by["baseline", s], e)) for (m, s), e in by.items() if m == "maml"]
    gap = claims.range_of(gaps)
    return Outcome(
        f"Under domain shift plain transfer does better than MAML (on {target.name})",
        "baseline − maml on the same episodes ≥ 0",
        claims.at_least(gap, 0.0),
        f"{claims.said(gap, 'points')} (Chen et al. 2019: +14.2 from mini-ImageNet to CUB, 5-shot, ResNet-18)",
    )


def _table_row(label: str, own: Mapping[str, Row]) -> Row:
    drop, other = own["drop"], own.get("against_first")
    further = {
        "in-domain (%)": 100 * own["in_domain"].mean,
        "drop (points)": 100 * drop.mean,
        "drop ci95": 100 * (drop.ci95 or 0.0),
    }
    if other is not None:
        further |= {f"− {METHODS[0]} (points)": 100 * other.mean, "its ci95": 100 * (other.ci95 or 0.0)}
    return replace(own["shifted"], label=label, measured=further)


def _met(target: Target) -> str:
    assert target.sibling is not None
    old, new = target.sibling.name, target.data.name
    return (
        f"A model of {old} itself cannot be tested on {new}, most of whose test classes are training classes of {old}; "
        f"train on {new} too, and compare the two runs."
    )


def unseen_classes(
    config: Config, source: ClassImages, target: Target, *, split: str = "", data_dir: Path | None = None
) -> Unseen:
    """The target's classes that a model trained as `config` says, on `source` with its splits, has not seen.

    Classes of the training split and of the validation split, which chose the checkpoint, count as seen; `split` takes
    the target's classes of that split only. Raises InnerloopError if fewer are left than an episode needs, for two data
    sets of which it is not known which classes they share, and for the sibling of the target.
    """
    data = config.dataset
    assert isinstance(data, Dataset)
    if target.sibling and data.name != target.data.name:
        raise InnerloopError(f"{data.name} is another split of the images of {target.data.name}. {_met(target)}")
    seen_classes(data, (), target.data, ())  # fail early
    size = source.image_shape[1] if target.data.sized else None
    whole = source if target.data == data else load(target.data, size=size, data_dir=data_dir)
    split = split or target.split
    whole = as_shape(whole, source.image_shape[0], source.image_shape[1]).to(source.images.device)
    part = whole.split(split) if split else whole.select(range(len(whole.class_names)))
    trained_on = [source.class_names[c] for s in ("train", "val") for c in source.splits.get(s, ())]
    known = set(seen_classes(data, trained_on, target.data, part.class_names))
    keep = [i for i, n in enumerate(part.class_names) if n not in known]
    if len(keep) < config.way:
        raise InnerloopError(
            f"of the {len(part.class_names)} classes of {target.name} the training on {config.data} has seen "
            f"{len(known)}; {len(keep)} are left, too few for {config.way} ways"
        )
    return Unseen(part.select(keep, name=target.name), tuple(n for n in part.class_names if n in known))


def task_families(config: Config, source: ClassImages, target: Target, unseen: Unseen) -> tuple[TaskFamily, TaskFamily]:
    """In-domain tasks and those of the target, with the same way, shot and query: batch norm by the statistics of the
    query set would else favour the larger one. Raises InnerloopError for tasks within an alphabet with more than one
    shot."""
    if target.within and config.shot != 1:
        raise InnerloopError(f"{target.name} is a one-shot protocol; it cannot be had with {config.shot} shots")
    home = source.split("test")
    left = [int(d.count.min()) - config.shot for d in (home, unseen.data)]
    query = 1 if target.within else max(1, min(config.test.query, *left))
    if target.within:
        away: TaskFamily = WithinAlphabet(unseen.data, config.way)
    else:
        away = ImageTasks(unseen.data, config.way, config.shot, query)
    return ImageTasks(home, config.way, config.shot, query), away


def measure(
    pairs: Sequence[tuple[Trained, Trained]],
    families: tuple[TaskFamily, TaskFamily],
    report: Callable[[Stage], None] = lambda _: None,
) -> list[Shifted]:
    """Score each pair of models: the first in-domain, the second on the target. Episodes are the same for every model;
    those of the target are drawn with the next seed, so that the two sets are independent."""
    found: list[Shifted] = []
    for home, away in pairs:
        scores: list[Evaluation] = []
        for i, (run, family) in enumerate(zip((home, away), families, strict=True)):
            c = run.config
            settings = replace(c.test, seed=c.test.seed + i)
            title = f"test {c.method}, seed {c.seed}, {'on the target' if i else 'in-domain'}"

            def show(done: int, title: str = title, episodes: int = settings.episodes) -> None:
                report(Stage(title, done, episodes))

            scores.append(
                evaluate(
                    build.at_test(c, run.model),
                    run.parameters,
                    family,
                    settings,
                    score=build.losses(c).score,
                    task_chunk=build.chunk_size(c, next(iter(run.parameters.values())).device),
                    each_step=False,
                    report=show,
                )
            )
        found.append(Shifted(away.config.method, away.config.seed, scores[0], scores[1]))
    return found


def compared(found: Sequence[Shifted]) -> dict[str, dict[str, Row]]:
    """Of each method: in-domain, on the target (shifted), the drop, and against the first method on the same episodes
    (against_first, where both have a seed)."""
    methods = dict.fromkeys(f.method for f in found)
    best, *_ = methods
    first = {f.seed: f.shifted for f in found if f.method == best}

    def row(unit: Literal["accuracy", "points"], values: Mapping[int, Value]) -> Row:
        return Row("", unit, tuple(seed_value(seed, v) for seed, v in values.items()))

    lines = {}
    for name in methods:
        own = {f.seed: f for f in found if f.method == name}
        against = {s: difference(f.shifted, first[s]) for s, f in own.items() if s in first and name != best}
        lines[name] = {
            "in_domain": row("accuracy", {s: f.in_domain for s, f in own.items()}),
            "shifted": row("accuracy", {s: f.shifted for s, f in own.items()}),
            "drop": row("points", {s: f.drop for s, f in own.items()}),
            **({"against_first": row("points", against)} if against else {}),
        }
    return lines


def notes(target: Target, unseen: Unseen, config: Config) -> list[str]:
    """What a reader of the table has to know."""
    said: list[str] = []
    n, out = len(unseen.data.class_names), unseen.left_out
    if out:
        few = ", ".join(out[:4]) + (" …" if len(out) > 4 else "")
        said.append(
            f"{len(out)} classes that the training on {config.data} has seen are left out ({few}); {n} are tested."
        )
    data = config.dataset
    if data.name == target.data.name and data != target.data and target.note:
        said.append(target.note)
    if target.within:
        said.append("In-domain episodes have one query image a class here too.")
    if target.sibling:
        old, new = target.sibling.name, target.data.name
        said.append(
            f"Two models: in-domain is the model of {old} on {old}, shifted that of {new} on {new}; images and classes "
            f"are the same in both. A model of {old} on {new}'s test classes would have seen most."
        )
    return said
