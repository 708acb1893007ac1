"""Domain shift: models trained on one data set, tested on another with the same way, shot and queries.

Not in Raghu et al. 2020; the question is that of Chen, Liu, Kira, Wang, Huang (ICLR 2019, section 4.3). Only classes
that the training cannot have met are tested (`data.kin`).
"""

import datetime
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from innerloop.core.episodes import ClassImages, ImageTasks, TaskFamily
from innerloop.core.statistics import Estimate
from innerloop.data.catalogue import load
from innerloop.data.convert import as_shape
from innerloop.data.kin import CIFAR, met
from innerloop.data.within import WithinAlphabet
from innerloop.errors import InnerloopError, did_you_mean
from innerloop.evaluation import Evaluation, evaluate
from innerloop.methods.named import MethodName
from innerloop.runs import RunError, RunFolder, environment, write_json
from innerloop.studies.bench import Bench, Trained, difference, seed_value
from innerloop.studies.result import Claim, Drawing, Result, Row, SeedValue, Series
from innerloop.studies.study import Stage
from innerloop.training import Config, load_run, setup
from innerloop.version import __version__

Target = Literal["glyphs", "omniglot-lake", "omniglot-within", "caltech101", "fc100"]
TARGETS: tuple[Target, ...] = get_args(Target)
ABOUT: dict[Target, str] = {
    "glyphs": "printed letters of scripts that omniglot has not",
    "omniglot-lake": "upright characters of omniglot's evaluation alphabets",
    "omniglot-within": "the same characters, each episode within one alphabet: support by one drawer, query by another",
    "caltech101": "photographs of objects, all classes, resized to the shape that the model was trained on",
    "fc100": "test classes of other superclasses than the training classes: a model trained on fc100 against one of "
    "cifar_fs, where both are at random",
}
OF: dict[str, tuple[Target, ...]] = {
    "omniglot": ("glyphs", "omniglot-lake", "omniglot-within"),
    "glyphs": ("omniglot-lake", "omniglot-within"),
    "cifar_fs": ("caltech101",),
    "fc100": ("fc100", "caltech101"),
}
"""training data -> where its models can be tested"""
METHODS: tuple[MethodName, ...] = ("maml", "anil", "nil", "proto", "matching", "baseline", "baseline++", "centroid")
"""the methods of `reproduce`'s table: those that Chen et al. compare, and this paper's"""


@dataclass(frozen=True)
class Unseen:
    """The classes of a target that a model may be tested on."""

    data: ClassImages
    """in the shape of the model's input, without splits"""
    left_out: tuple[str, ...]
    """classes that the training has met"""


@dataclass(frozen=True)
class Shifted:
    """One method and seed, in its own domain and in the other."""

    method: MethodName
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


def shift(
    runs: Sequence[Path],
    target: Target,
    out: Path,
    *,
    which: str = "best",
    split: str = "",
    data_dir: Path | None = None,
    device: str | None = None,
    report: Callable[[Stage], None] = lambda _: None,
) -> dict[str, Any]:
    """Test finished `runs` (of one data set, way and shot; any methods and seeds) in their own domain and on `target`.

    Writes ``out/result.json`` and returns it; `report.shift.write_shift` makes table and figure of it.

    The target "fc100" takes runs of fc100 and of cifar_fs, of the same methods and seeds. `split` restricts glyphs or
    caltech101 to the classes of one of their splits, to compare with models that were trained there; "" is all.
    Raises ValueError for runs that do not go together, RunError for one that is not finished.
    """
    began = time.perf_counter()
    if target not in TARGETS:
        raise InnerloopError(
            f"there is no target {target!r}; there are {', '.join(TARGETS)}{did_you_mean(target, TARGETS)}"
        )
    if not runs:
        raise InnerloopError("no run is given: name one run folder or more")
    for path in runs:
        if RunFolder(path).exists and not RunFolder(path).finished:
            raise RunError(f"{path} is not finished; finish it with --resume, or leave it out")
    configs = {path: RunFolder(path).config_as(Config.from_json) for path in runs}
    check_alike(configs, target)
    by_data: dict[str, list[Trained]] = {}
    images: dict[str, ClassImages] = {}
    for path, config in configs.items():
        config = config if device is None else replace(config, device=device)
        if config.data not in images:
            found = setup.load_images(config, data_dir)
            assert found is not None  # check_alike has refused regressions
            images[config.data] = found
        own = images[config.data]
        config, model, parameters = load_run(path, which=which, device=device, images=own)
        by_data.setdefault(config.data, []).append(Trained(config.method, config, model, parameters, RunFolder(path)))
    pairs = paired_runs(by_data, target)
    first = pairs[0][1].config
    source = images[first.data]
    unseen = unseen_classes(first, source, target, split=split, data_dir=data_dir)
    families = task_families(pairs[0][0].config, images[pairs[0][0].config.data], target, unseen)
    found = measure(pairs, families, report)
    env = environment()
    value = {
        "name": "shift",
        "title": f"Domain shift: {pairs[0][0].config.data} to {target}",
        "about": ABOUT[target],
        "target": target,
        "target_split": split,
        "data": sorted(by_data),
        "split_scheme": first.split_scheme,
        "way": first.way,
        "shot": first.shot,
        "query": getattr(families[0], "query", None),
        "episodes": first.test.episodes,
        "seeds_of_episodes": [first.test.seed, first.test.seed + 1],
        "statistics": first.test.statistics,
        "checkpoint": which,
        "two_models": target == "fc100",
        "classes": {
            "in_domain": len(images[pairs[0][0].config.data].splits["test"]),
            "shifted": len(unseen.data.class_names),
            "left_out": list(unseen.left_out),
        },
        "rows": rows_json(found),
        "notes": notes(target, unseen, first),
        "runs": _runs([r for own in by_data.values() for r in own]),
        "innerloop": __version__,
        "command": env["command"],
        "commit": env["commit"],
        "env": env,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": time.perf_counter() - began,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "result.json", value)
    return value


def domain_shift(bench: Bench) -> Result:
    """The same for `reproduce`: the bench's methods on every target of its data."""
    targets: list[Target] = [t for t in OF.get(bench.data, ()) if t != "omniglot-within" or bench.shot == 1]
    if not targets:
        raise InnerloopError(f"shift: {bench.data} has no target; there are targets for {', '.join(OF)}")
    rows: list[Row] = []
    claims: list[Claim] = []
    said: list[str] = []
    for target in targets:
        home = replace(bench, data="cifar_fs", _images=[], _scores={}) if target == "fc100" else bench
        pairs = [(home.trained(m, s), bench.trained(m, s)) for m in METHODS for s in bench.seeds]
        config = bench.config("maml", bench.seeds[0])
        unseen = unseen_classes(config, bench.images, target, data_dir=bench.data_dir)
        home_config = home.config("maml", bench.seeds[0])
        families = task_families(home_config, home.images, target, unseen)
        found = measure(pairs, families, bench.report)
        rows += [_reproduced(row, target) for row in rows_json(found)]
        claims.append(_transfer_wins(found, target))
        said += [f"{target}: {ABOUT[target]}.", *(f"{target}: {note}" for note in notes(target, unseen, config))]
    drawing = Drawing(
        "bars",
        "",
        "drop (points)",
        tuple(
            Series(t, [r.label.split(" → ")[0] for r in own], [r.measured["drop (points)"] for r in own],
                   error=[r.measured["drop ci95"] for r in own])
            for t in targets if (own := [r for r in rows if r.label.endswith(f" → {t}")])
        ),
        "ci95 of a difference of independent means",
    )  # fmt: skip
    said.append("ours: accuracy on the target; drop: in-domain − target, on independent episodes")
    return Result(tuple(rows), tuple(claims), drawing, notes=tuple(dict.fromkeys(said)))


def _transfer_wins(found: Sequence[Shifted], target: Target) -> Claim:
    by = {(f.method, f.seed): f for f in found}
    gaps = [difference(by["baseline", s].shifted, f.shifted).mean for (m, s), f in by.items() if m == "maml"]
    gap = math.fsum(gaps) / len(gaps)
    return Claim(
        f"Under domain shift plain transfer does better than MAML (on {target})",
        "mean over seeds of (baseline − maml) on the same episodes > 0",
        gap > 0,
        f"{100 * gap:+.1f} points (Chen et al. 2019: +14.2 from mini-ImageNet to CUB, 5-shot, ResNet-18)",
    )


def _reproduced(row: Mapping[str, Any], target: Target) -> Row:
    values = tuple(SeedValue(**v) for v in row["shifted"]["values"])
    drop, other = row["drop"], row["against_first"]
    further = {
        "in-domain (%)": 100 * row["in_domain"]["mean"],
        "drop (points)": 100 * drop["mean"],
        "drop ci95": 100 * drop["ci95"],
    }
    if other is not None:
        further |= {f"− {METHODS[0]} (points)": 100 * other["mean"], "its ci95": 100 * other["ci95"]}
    return Row(f"{row['method']} → {target}", "accuracy", values, measured=further)


def check_alike(configs: Mapping[Path, Config], target: Target) -> None:
    """Refuse runs that cannot stand in one table, with a sentence that names the first of them."""
    path, first = next(iter(configs.items()))
    seen: dict[tuple[str, str, int], Path] = {}
    for other, config in configs.items():
        if config.regression:
            raise InnerloopError(f"{other} is a regression, which has no classes to shift")
        if target not in OF.get(config.data, ()) and not (target == "fc100" and config.data in CIFAR):
            known = ", ".join(OF.get(config.data, ())) or "none"
            raise InnerloopError(
                f"{other} was trained on {config.data}, which has no target {target}; its targets: {known}"
            )
        for what, get in _MUST_AGREE.items():
            if target == "fc100" and what == "split scheme":
                continue
            if get(config) != get(first):
                raise InnerloopError(f"{other} and {path} differ in {what}: {get(config)} and {get(first)}")
        if target != "fc100" and config.data != first.data:
            raise InnerloopError(f"{other} and {path} were trained on {config.data} and {first.data}; give runs of one")
        key = (config.data, config.method, config.seed)
        if key in seen:
            raise InnerloopError(f"{other} and {seen[key]} are both {config.method} with seed {config.seed}; give one")
        seen[key] = other
    if target == "omniglot-lake" and first.split_scheme == "lake":
        raise InnerloopError(f"{path} was trained with split_scheme lake: {target} is its own test split, not a shift")
    if target == "omniglot-within" and first.shot != 1:
        raise InnerloopError(f"{target} is a one-shot protocol; {path} was trained with {first.shot} shots")


_MUST_AGREE: dict[str, Callable[[Config], Any]] = {
    "split scheme": lambda c: c.split_scheme,
    "way": lambda c: c.way,
    "shot": lambda c: c.shot,
    "test episodes": lambda c: c.test.episodes,
    "test query": lambda c: c.test.query,
    "the seed of the test episodes": lambda c: c.test.seed,
    "test statistics": lambda c: c.test.statistics,
}


def paired_runs(by_data: Mapping[str, Sequence[Trained]], target: Target) -> list[tuple[Trained, Trained]]:
    """Which model is tested in-domain and which on the target: the same one, or, for fc100, its sibling of cifar_fs."""
    if target != "fc100":
        return [(run, run) for own in by_data.values() for run in own]
    here = {(r.config.method, r.config.seed): r for r in by_data.get("fc100", ())}
    home = {(r.config.method, r.config.seed): r for r in by_data.get("cifar_fs", ())}
    if lone := sorted(here.keys() ^ home.keys()):
        name, seed = lone[0]
        raise InnerloopError(
            f"the target fc100 compares a run of fc100 with one of cifar_fs of the same method and seed; {name} with "
            f"seed {seed} is there of {'fc100' if lone[0] in here else 'cifar_fs'} only. (A model of cifar_fs itself "
            "cannot be tested on fc100: most of fc100's test classes are training classes of cifar_fs.)"
        )
    return [(home[key], here[key]) for key in here]


def unseen_classes(
    config: Config, source: ClassImages, target: Target, *, split: str = "", data_dir: Path | None = None
) -> Unseen:
    """The target's classes that a model trained as `config` says, on `source` with its splits, has not met.

    Met are those of the training split and of the validation split, by which the checkpoint was chosen. Raises
    ValueError if fewer are left than an episode needs, and for fc100 with a model of another data set.
    """
    if target == "fc100" and config.data != "fc100":
        raise InnerloopError(
            f"a model of {config.data} cannot be tested on fc100: most of fc100's test classes are training classes of "
            "cifar_fs; train on fc100 too, and compare the two runs"
        )
    match target:
        case "omniglot-lake" | "omniglot-within":
            name, whole, split = "omniglot", load("omniglot", split_scheme="lake", data_dir=data_dir), "test"
        case "fc100":
            name, whole, split = "fc100", source, "test"
        case "caltech101":
            name, whole = "caltech101", load("caltech101", size=source.image_shape[1], data_dir=data_dir)
        case "glyphs":
            name, whole = "glyphs", load("glyphs", data_dir=data_dir)
        case _:
            raise InnerloopError(f"there is no target {target!r}; there are {', '.join(get_args(Target))}")
    whole = as_shape(whole, source.image_shape[0], source.image_shape[1]).to(source.images.device)
    part = whole.split(split) if split else whole.select(range(len(whole.class_names)))
    trained_on = [source.class_names[c] for s in ("train", "val") for c in source.splits.get(s, ())]
    known = set(met(config.data, trained_on, name, part.class_names))
    keep = [i for i, n in enumerate(part.class_names) if n not in known]
    if len(keep) < config.way:
        raise InnerloopError(
            f"of the {len(part.class_names)} classes of {target} the training on {config.data} has met {len(known)}; "
            f"{len(keep)} are left, too few for {config.way} ways"
        )
    return Unseen(part.select(keep, name=target), tuple(n for n in part.class_names if n in known))


def task_families(config: Config, source: ClassImages, target: Target, unseen: Unseen) -> tuple[TaskFamily, TaskFamily]:
    """In-domain tasks and those of the target, with the same way, shot and query: batch norm by the statistics of the
    query set would else favour the larger one. Raises ValueError for omniglot-within with more than one shot."""
    if target == "omniglot-within" and config.shot != 1:
        raise InnerloopError(f"{target} is a one-shot protocol; it cannot be had with {config.shot} shots")
    home = source.split("test")
    left = [int(d.count.min()) - config.shot for d in (home, unseen.data)]
    query = 1 if target == "omniglot-within" else max(1, min(config.test.query, *left))
    if target == "omniglot-within":
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
            how, settings = setup.how_tested(c), replace(c.test, seed=c.test.seed + i)
            title = f"test {c.method}, seed {c.seed}, {'on the target' if i else 'in-domain'}"

            def show(done: int, title: str = title, episodes: int = settings.episodes) -> None:
                report(Stage(title, done, episodes))

            scores.append(
                evaluate(
                    run.model,
                    run.parameters,
                    family,
                    how.inner,
                    settings,
                    head=how.head,
                    start=how.start,
                    metric=how.metric,
                    loss=setup.losses(c).loss,
                    score=setup.losses(c).score,
                    task_chunk=setup.chunk_size(c, next(iter(run.parameters.values())).device),
                    each_step=False,
                    report=show,
                )
            )
        found.append(Shifted(away.config.method, away.config.seed, scores[0], scores[1]))
    return found


def rows_json(found: Sequence[Shifted]) -> list[dict[str, Any]]:
    """One line a method: in-domain, on the target, the drop, and against the first method on the same episodes."""
    methods = list(dict.fromkeys(f.method for f in found))
    first = {f.seed: f for f in found if f.method == methods[0]}
    lines: list[dict[str, Any]] = []
    for name in methods:
        own = [f for f in found if f.method == name]
        shared = [f for f in own if f.seed in first] if name != methods[0] else []
        against = [seed_value(f.seed, difference(f.shifted, first[f.seed].shifted)) for f in shared]
        lines.append(
            {
                "method": name,
                "in_domain": _row("in-domain", "accuracy", [seed_value(f.seed, f.in_domain) for f in own]),
                "shifted": _row("shifted", "accuracy", [seed_value(f.seed, f.shifted) for f in own]),
                "drop": _row("drop", "points", [seed_value(f.seed, f.drop) for f in own]),
                "against_first": _row(f"{name} − {methods[0]}", "points", against) if against else None,
            }
        )
    return lines


def _row(label: str, unit: Literal["accuracy", "points"], values: Sequence[SeedValue]) -> dict[str, Any]:
    return Row(label, unit, tuple(values)).to_json()


def notes(target: Target, unseen: Unseen, config: Config) -> list[str]:
    """What a reader of the table has to know."""
    said: list[str] = []
    n, out = len(unseen.data.class_names), unseen.left_out
    if out:
        few = ", ".join(out[:4]) + (" …" if len(out) > 4 else "")
        said.append(
            f"{len(out)} classes that the training on {config.data} has met are left out ({few}); {n} are tested."
        )
    if target in ("omniglot-lake", "omniglot-within") and config.split_scheme == "vinyals":
        said.append(
            "The unseen characters of the evaluation alphabets are the very test characters of the vinyals split, here "
            "upright only: what changes is the task, not the kind of character."
        )
    if target == "omniglot-within":
        said.append("In-domain episodes have one query image a class here too.")
    if target == "fc100":
        said.append(
            "Two models: in-domain is the model of cifar_fs on cifar_fs, shifted that of fc100 on fc100; images and "
            "classes are those of CIFAR-100 in both. A model of cifar_fs on fc100's test classes would have met most."
        )
    return said


def _runs(runs: Sequence[Trained]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for run in runs:
        assert run.folder is not None
        found[str(run.folder.path)] = {
            "data": run.config.data,
            "method": run.config.method,
            "seed": run.config.seed,
            "commit": run.folder.environment.get("commit"),
            "best_step": run.folder.summary_with("best_step")["best_step"],
        }
    return found
