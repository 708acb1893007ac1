"""`innerloop evaluate`: test a trained run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.core.ranks import ALONE, Ranks
from innerloop.core.threads import use_threads
from innerloop.data.augment import AugmentedSupport
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings, Evaluation, evaluate
from innerloop.runs import RunError, RunFolder, made_with
from innerloop.studies.shift import find_target, task_families, unseen_classes
from innerloop.training import Config, build, load_run
from innerloop.training.dagan import augmentation

HELP = Help(
    "Test a trained run on a fixed set of episodes: accuracy with ci95 after each inner step. Options that you leave "
    "out are as in training; the result is added to RUN/eval.json.",
    (
        "innerloop evaluate runs/quick-maml-seed0 --method nil           # the body alone, no inner loop",
        "innerloop evaluate runs/quick-maml-seed0 --inner-steps 20       # more steps than in training",
        "innerloop evaluate runs/quick-maml-seed0 --statistics support   # not transductive",
        "innerloop evaluate runs/omniglot-5way-1shot-cpu-maml-seed0 --data glyphs  # domain shift",
    ),
)


INSTEAD = {
    "rl": "test it with 'innerloop rl evaluate {run}'",
    "dagan": "see what it makes with 'innerloop dagan --samples-only --out {run}', or test another run with "
    "'innerloop evaluate RUN --augment-support {run}'",
}
"""for runs of other commands"""


@dataclass(frozen=True)
class EvaluateArgs:
    """Options of `innerloop evaluate`."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """the run folder"""
    method: str | None = None
    """test with another method on the same weights, such as nil on MAML's body (default: as trained)"""
    which: str = "best"
    """which checkpoint: best, last, or stepN if training kept it (--validation.keep-every)"""
    split: Literal["train", "val", "test"] = "test"
    """whose classes the episodes are of"""
    data: str = ""
    """test on another data set (domain shift), on classes not seen in training, resized to the run's images: a name of
    `innerloop data list`, module:attribute, or omniglot-lake or omniglot-within (Lake's evaluation alphabets; the
    second draws each episode from one alphabet)"""
    shot: int | None = None
    """support images per class (default: as trained)"""
    augment_support: str = ""
    """add new images, made from its own, to each support set: affine, elastic, crop, flip, or a run folder of
    `innerloop dagan`"""
    copies: int = 4
    """with --augment-support: new images per support image"""
    episodes: int | None = None
    """number of episodes (default: as trained)"""
    query: int | None = None
    """query images per class (default: as trained)"""
    inner_steps: int | None = None
    """gradient steps on the support set (default: as trained)"""
    statistics: Literal["batch", "support"] | None = None
    """whose batch statistics normalise the query set: its own (transductive) or the support set's (default: as
    trained)"""
    seed: int | None = None
    """seed of the episodes (default: as trained)"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""
    device: str | None = None
    """auto, cpu, cuda (default: as trained)"""


def run(args: Sequence[str]) -> int:
    """Evaluate and print."""
    asked = options.parse(EvaluateArgs, args, "evaluate", text=HELP)
    row = evaluate_run(asked)
    print_evaluation(asked.run, row)
    return 0


def of_images(path: Path, instead: Mapping[str, str]) -> RunFolder:
    """The run folder, unless its run is of another kind: for each kind, `instead` says what to do."""
    folder = RunFolder(path)
    kind = folder.config.get("kind")
    if isinstance(kind, str) and kind in instead:
        raise RunError(f"{path} is a run of 'innerloop {kind}'; {instead[kind].format(run=path)}")
    return folder


def evaluate_run(asked: EvaluateArgs, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Evaluate a run folder, add the result to its eval.json, and return that entry; `ranks` split the episodes."""
    path, other, augment_support, copies = asked.run, asked.data, asked.augment_support, asked.copies
    folder = of_images(path, INSTEAD)
    _ = folder.evaluations  # fails before the work
    config = folder.config_as(Config.from_json)
    config = replace(config, device=asked.device or config.device)
    use_threads(config.threads, stored=True)
    checkpoint = folder.load(asked.which)
    images = build.load_images(config, asked.data_dir)
    config, model, parameters = load_run(path, which=checkpoint, device=asked.device, images=images)
    config = config if asked.shot is None else replace(config, shot=asked.shot)
    change = {k: getattr(asked, k) for k in ("episodes", "query", "inner_steps", "statistics", "seed")}
    settings: EvalSettings = replace(config.test, **{k: v for k, v in change.items() if v is not None})
    name = asked.method or config.method
    learner = build.at_test(config, model, name)
    kinds = build.losses(config)
    if not other:
        family = build.tasks(config, images, asked.split, settings.query)
    else:
        if images is None:
            raise InnerloopError(f"{path} is a regression, which has no images to test on {other}")
        if asked.split != "test":
            raise InnerloopError(
                f"--split {asked.split} names classes of the run's own data; leave it out with --data {other}"
            )
        target = find_target(other)
        unseen = unseen_classes(config, images, target, data_dir=asked.data_dir)
        family = task_families(replace(config, test=settings), images, target, unseen)[1]
    if augment_support:
        if images is None:
            raise InnerloopError(f"{path} is a regression; only images can be augmented, not by {augment_support}")
        if copies < 1:
            raise InnerloopError(f"--copies must be at least 1 new image for each support image, got {copies}")
        family = AugmentedSupport(family, augmentation(augment_support), copies)
    where = build.choose_device(config.device)
    chunk = build.chunk_size(replace(config, test=settings), where)
    with show.progress() as bar:
        result: Evaluation = evaluate(
            learner,
            parameters,
            family,
            settings,
            score=kinds.score,
            task_chunk=chunk,
            ranks=ranks,
            report=lambda done: bar("test episodes", done, settings.episodes) if ranks.first else None,
        )
    row = {
        "method": name,
        "checkpoint": asked.which,
        "step": checkpoint.step,
        "split": asked.split,
        "data": other or config.data,
        "augment_support": f"{augment_support} × {copies}" if augment_support else "",
        "metric": "mean squared error" if config.regression else "accuracy",
        "shot": config.shot,
        "query": getattr(family, "query", settings.query),
        "device": where.type,
        **made_with(),
        **result.to_json(),
    }
    keys = ("method", "checkpoint", "step", "split", "shot", "query", "device", "settings", "data", "augment_support")
    if ranks.first:
        folder.add_evaluation(row, keys, data=config.data, augment_support="")
    return row


def printed_steps(last: int) -> list[int]:
    """Which of the steps 0 … `last` a table prints: all up to 20, of more the first two and about ten on to the last.

    RUN/eval.json has every one.
    """
    if last <= 20:
        return list(range(last + 1))
    stride = -(-last // 10)
    return sorted({0, 1, *range(stride, last, stride), last})


def print_evaluation(path: Path, row: dict[str, Any]) -> None:
    """One evaluation as a table: the score after each inner step, or after some of many."""
    regression = row["metric"] != "accuracy"

    def number(e: dict[str, float]) -> str:
        if regression:
            return f"{e['mean']:.3f} ± {e['ci95']:.3f}"
        return f"{100 * e['mean']:.2f} ± {100 * e['ci95']:.2f} %"

    steps = row["steps"]
    rows = [(str(i) if len(steps) > 1 else "–", number(steps[i])) for i in printed_steps(len(steps) - 1)]
    settings = asdict(EvalSettings(**row["settings"]))
    norm = "transductive" if settings["statistics"] == "batch" else "non-transductive"
    what = f"{row['query']} query points" if regression else f"{row['query']} query a class, {settings['statistics']}"
    what += "" if regression else f" statistics ({norm})"
    which = f"{row['checkpoint']} checkpoint, step {row['step']}"
    more = f", support augmented by {row['augment_support']}" if row["augment_support"] else ""
    show.table(
        f"{row['method']} on {row['data']}, {row['split']} classes ({which})",
        ("inner steps", f"{row['metric']} ± ci95"),
        rows,
        f"{row['episodes']} episodes, {row['shot']} shot{'s' * (row['shot'] > 1)}{more}, {what}, "
        f"seed {settings['seed']}; in {path / 'eval.json'}",
    )
