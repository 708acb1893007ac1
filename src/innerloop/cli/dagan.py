"""`innerloop dagan`: train a generator of more images of a class, and look at draw samples of unseen ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from innerloop.analysis.generated import Generated, diversity_report
from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.core.ranks import joined
from innerloop.models.dagan import PAPER
from innerloop.report.generated import generated_png
from innerloop.runs import RunFolder, made_with
from innerloop.runs.files import as_json, write_all
from innerloop.training.dagan import DaganConfig, load_dagan, load_images, train_dagan
from innerloop.validated import Several, Validated

HELP = Help(
    "Train a DAGAN (Antoniou, Storkey & Edwards 2017) on the training classes: from one image it generates more images "
    "of the same class. Ends with samples of unseen classes in RUN/generated.png, and their distances in "
    "RUN/generated.json.",
    (
        "innerloop dagan --data omniglot --out runs/dagan        # about 15 minutes on one core",
        "innerloop dagan --samples-only --out runs/dagan         # draw samples again",
        "innerloop evaluate runs/quick-maml-seed0 --augment-support runs/dagan  # use them in support sets",
    ),
    main=(
        *("--data", "--steps", "--batch", "--lr", "--seed", "--out", "--data-dir", "--resume", "--samples-only"),
        *("--split", "--images", "--samples", "--paper-sizes", "--device", "--threads"),
    ),
)

_WORDS = {"generated": "generated", "affine": "affine copies", "real": "real, same class"}


@dataclass(frozen=True)
class DaganArgs(Validated):
    """Options of `innerloop dagan`."""

    config: Annotated[DaganConfig, tyro.conf.arg(name="")] = field(default_factory=DaganConfig)
    paper_sizes: bool = False
    """networks of the paper's size (64-64-128-128, 3 and 5 inner layers, z of 100) instead of --sizes; slow on a CPU"""
    out: Path | None = None
    """the run folder (default: runs/dagan-DATA-seedN)"""
    data_dir: Path | None = None
    """folder of the downloaded archives (default: INNERLOOP_DATA, else the user's data folder)"""
    resume: bool = False
    """continue the unfinished run in --out; if there is none, start a new one and say so"""
    samples_only: bool = False
    """train nothing: draw samples from the run in --out, finished or not, with its own config"""
    split: Literal["train", "val", "test"] = "test"
    """whose classes the samples are of"""
    images: Several = 50
    """conditioning images, each from a different class (fewer if there are fewer classes)"""
    samples: Several = 8
    """generated images per conditioning image"""


def run(args: Sequence[str]) -> int:
    """Train, draw samples and print how they differ."""
    asked = options.parse(DaganArgs, args, "dagan", text=HELP)
    config = replace(asked.config, sizes=PAPER) if asked.paper_sizes else asked.config
    out = asked.out or Path("runs") / f"dagan-{config.data}-seed{config.seed}"
    with joined() as ranks:
        if asked.samples_only:
            options.check_run(out)
            config = replace(RunFolder(out).config_as(DaganConfig.from_json), device=config.device)
        else:
            if ranks.first:
                options.check_out(out, resume=asked.resume)
            with show.progress() as bar:
                folder = train_dagan(
                    config,
                    out,
                    data_dir=asked.data_dir,
                    resume=asked.resume,
                    report=lambda p: bar(
                        "train dagan", p.step, p.steps, f"distance {p.numbers['distance']:.3f}", p.first
                    ),
                )
            if ranks.first:
                show.console.print(f"trained {config.steps} generator steps in {folder.summary['seconds']:.0f} s")
        if ranks.first:
            print_generated(out, draw_samples(out, config, asked))
    return 0


def draw_samples(out: Path, config: DaganConfig, asked: DaganArgs) -> dict[str, Any]:
    """Write RUN/generated.png and RUN/generated.json; returns the latter."""
    images = load_images(config, asked.data_dir)
    unseen = images.split(asked.split)
    checkpoint = RunFolder(out).load("last")
    found: Generated = diversity_report(
        load_dagan(out, checkpoint=checkpoint, device=config.device),
        unseen,
        images.split("train"),
        images=min(asked.images, len(unseen.class_names)),
        samples=asked.samples,
        seed=config.seed,
    )
    arrays = (t.cpu().numpy() for t in (found.conditions, found.samples, found.nearest))
    value = {
        "step": checkpoint.step,
        "split": asked.split,
        "images": len(found.conditions),
        "samples": asked.samples,
        "seed": config.seed,
        "unit": "Euclidean distance of images with pixels in 0..1",
        "spreads": [asdict(s) for s in found.spreads],
        "classes": list(found.class_names),
        **made_with(),
    }
    write_all(out, {"generated.png": generated_png(*arrays), "generated.json": as_json(value)})
    return value


def print_generated(out: Path, value: dict[str, Any]) -> None:
    """The distances as a table."""

    def number(e: dict[str, float]) -> str:
        return f"{e['mean']:.2f} ± {e['ci95']:.2f}"

    keys = ("diversity", "to_condition", "to_train")
    show.table(
        f"samples from one image of {value['split']} classes, after {value['step']} steps (distance ± ci95)",
        ("", "to one another", "to the given image", "to the nearest training image"),
        [(_WORDS[s["name"]], *(number(s[k]) for k in keys)) for s in value["spreads"]],
        f"{value['images']} images, {value['samples']} samples of each, {value['unit']}; in {out / 'generated.json'}, "
        f"picture {out / 'generated.png'}",
    )
