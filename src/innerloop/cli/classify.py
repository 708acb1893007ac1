"""`innerloop classify`: sort images by a few examples per class."""

import datetime
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from innerloop.cli import options, show
from innerloop.cli.help import Help
from innerloop.core.threads import use_threads
from innerloop.data.paths import cache_root
from innerloop.errors import InnerloopError, shown
from innerloop.report.formats import duration, in_percent
from innerloop.report.gallery import Gallery, Guess, page, thumbnail
from innerloop.report.spreadsheet import Cell, csv_text
from innerloop.runs import RunError, environment, read_json
from innerloop.runs.files import as_json, locked, write_all

if TYPE_CHECKING:
    from innerloop.estimator import Example, FewShotClassifier
    from innerloop.estimator.check import Check
    from innerloop.estimator.sorting import NotUsed, Support
    from innerloop.estimator.unknown import Threshold

HELP = Help(
    "Sort images by a few examples per class. Examples lie in DIR/CLASS/IMAGE; what to sort is given as files or "
    "folders. Without --run, features come from a network trained on ImageNet (pip install 'innerloop[pretrained]'). "
    "Writes predictions.csv, predictions.json and gallery.html, a page that opens from disk.",
    (
        "innerloop classify --support examples --images photos           # sort",
        "innerloop classify --support examples --check                   # accuracy on the examples",
        "innerloop classify --support examples --save my.innerloop       # keep the classifier in a file",
        "innerloop classify --model my.innerloop photos --unknown        # sort with it; some fit no class",
    ),
)

MADE_BY = "innerloop classify"
FILES = ("predictions.json", "predictions.csv", "gallery.html")
NONE = "none of these"
SHOWN = 10
"""files and pictures that the terminal names, of each kind"""


@dataclass(frozen=True)
class ClassifyArgs:
    """Options of `innerloop classify`."""

    pictures: Positional[tuple[Path, ...]] = ()
    """images to sort: files, or folders, which are searched to any depth"""
    support: Path | None = None
    """the folder of examples: one sub-folder per class, named after it"""
    images: tuple[Path, ...] = ()
    """images to sort, too"""
    model: Path | None = None
    """a saved classifier, instead of --support"""
    save: Path | None = None
    """the file to keep the classifier in"""
    run: Path | None = None
    """a run folder whose network to use (default: the pre-trained network)"""
    method: Literal["auto", "nil", "means", "anil", "finetune", "maml"] = "auto"
    """auto: the one with the best leave-one-out accuracy on the examples; nil: each example votes by cosine; means:
    nearest class mean; anil: a head adapts; finetune: all blocks adapt, which takes minutes; maml: the run's own inner
    loop"""
    check: bool = False
    """also report leave-one-out accuracy on the examples, which classes are confused, and whether more examples would
    help"""
    unknown: bool = False
    """mark images that are far from every class as none of these, and report how often that is wrong"""
    out: Path = Path("classified")
    """the folder of the results"""
    top: int = 2
    """how many predictions per image go into predictions.csv"""
    mark: float = 0.1
    """the share of images to mark as least certain"""
    gallery: bool = True
    """write gallery.html"""
    cache: Path | None = None
    """where features are kept between calls (default: features in the user's cache folder)"""
    device: str = "auto"
    """auto, cpu, cuda"""
    threads: int = 0
    """CPU threads; 0 leaves PyTorch's choice"""
    seed: int = 0
    """decides which images the gallery shows beside the examples of a class; predictions do not depend on it"""

    @property
    def all_images(self) -> tuple[Path, ...]:
        """What to sort."""
        return (*self.pictures, *self.images)


@dataclass(frozen=True)
class Choice:
    """The method and why."""

    method: str
    why: str
    shares: dict[str, float]
    """leave-one-out accuracy on the examples, of each method tried"""


@dataclass(frozen=True)
class Row:
    """One sorted picture."""

    name: str
    guesses: tuple[tuple[str, float], ...]
    """every class with its probability, the most likely first"""
    nearest: int
    """which example is nearest"""
    known: bool = True
    """whether it is taken to be of one of the classes"""
    marked: bool = False
    """whether it is among the least certain, or not known"""


def run(args: Sequence[str]) -> int:
    """Sort, print, write."""
    asked = options.parse(ClassifyArgs, args, "classify", text=HELP)
    began = time.perf_counter()
    _check(asked)
    use_threads(asked.threads)
    try:
        return _sort(asked, began)
    except ImportError as error:
        what = str(error)
        if "scikit-learn" in what and asked.run is None:  # one extra has both
            what = "classify needs more packages: pip install 'innerloop[pretrained]'"
        raise RunError(what) from error


def _check(asked: ClassifyArgs) -> None:
    """Raises ValueError or RunError for what cannot be, before any work."""
    if asked.top < 1:
        raise InnerloopError(f"--top must be 1 or more, got {asked.top}")
    if not 0 <= asked.mark <= 1:
        raise InnerloopError(f"--mark is a share of the pictures, from 0 to 1, got {asked.mark:g}")
    if asked.threads < 0:
        raise InnerloopError(f"--threads must be 0 or more, got {asked.threads}")
    if (asked.support is None) == (asked.model is None):
        raise InnerloopError("classify by which examples? Give either --support DIR or --model FILE")
    if asked.check and asked.method == "finetune":
        raise InnerloopError("--check would fine-tune once for each example, for hours; check another --method")
    if asked.model and (asked.run or asked.save or asked.check or asked.method != "auto"):
        given = "--run" if asked.run else "--save" if asked.save else "--check" if asked.check else "--method"
        raise InnerloopError(f"{given} goes with --support DIR: a saved classifier stays as it is")
    if not asked.all_images and not asked.save and not asked.check:
        raise InnerloopError("which images should be sorted? Give files or folders: --images FILE_OR_FOLDER ...")
    options.check_out(asked.out)
    if asked.save:
        _check_save(asked.save)
    if (there := [name for name in FILES if (asked.out / name).exists()]) and not _ours(asked.out):
        raise RunError(
            f"{asked.out / there[0]} is not from innerloop classify and is left as it is; give another --out"
        )


def _check_save(path: Path) -> None:
    from innerloop.estimator.saved import read_saved

    options.check_out(path.parent)
    if path.exists():
        try:
            read_saved(path)
        except InnerloopError:
            raise RunError(f"{path} is not a saved classifier and is left as it is; give another --save") from None


def _ours(out: Path) -> bool:
    """Whether the results in a folder are of this command, and may be replaced."""
    try:
        value = read_json(out / FILES[0])
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("made_by") == MADE_BY


def _sort(asked: ClassifyArgs, began: float) -> int:
    from innerloop.estimator.sorting import Sorted, find_pictures, least_certain, sort_pictures

    rows: list[Row] = []
    small = []
    with show.progress() as bar:
        bar("learning from the examples", 0, 1)
        classifier, support, choice = _learn(asked)
        found_out = None
        if asked.check:
            bar("examples named from the others", 0, 1)
            found_out = _look_over(asked, support, choice)
        own = [asked.out / name for name in FILES]
        at_hand = () if asked.model else support.files
        files, not_used = find_pictures(asked.all_images, examples=at_hand, without=own)
        bar("learning from the examples", 1, 1)
        names = [str(c) for c in classifier.classes_]
        for done, found in enumerate(sort_pictures(classifier, files), 1):
            bar("pictures", done, len(files))
            if not isinstance(found, Sorted):
                not_used.append(found)
                continue
            by_class = zip(names, found.probabilities.tolist(), strict=True)
            guesses = tuple(sorted(by_class, key=lambda guess: -guess[1]))
            rows.append(Row(found.name, guesses, found.nearest, found.known))
            if asked.gallery:
                small.append(thumbnail(found.name, found.image))
    if asked.save:
        classifier.save(asked.save, examples=_examples(support))
        size = asked.save.stat().st_size / 1e6
        show.console.print(f"the classifier is kept in {shown(asked.save)} ({size:.1f} MB)", markup=False)
    if found_out:
        _print_check(found_out)
    if classifier.threshold_:
        _print_threshold(classifier.threshold_, rows)
    if not asked.all_images:
        return 0
    if not rows:
        for line in _left_out(not_used):
            show.console.print(line)
        what = f"none of {len(not_used)} files could be used" if not_used else "the folders hold no file"
        raise RunError(f"there was no image to sort: {what}")
    marked = least_certain([r.guesses[0][1] for r in rows], asked.mark)
    rows = [replace(r, marked=i in marked or not r.known) for i, r in enumerate(rows)]
    summary = _summary(asked, support, choice, rows, not_used, time.perf_counter() - began)
    if threshold := classifier.threshold_:
        wilson = {
            "refused_wilson95": threshold.known_refused.wilson95,
            "taken_wilson95": threshold.others_taken.wilson95,
        }
        summary["unknown"] = asdict(threshold) | wilson
    if found_out:
        summary["check"] = asdict(found_out) | {"wilson95": found_out.right.wilson95}
    gallery = page(_gallery(asked, support, rows, small, summary)).encode() if asked.gallery else None
    contents = (as_json(summary), _csv(support, rows, asked.top).encode(), gallery)  # an old page shows other guesses
    with locked(asked.out / ".lock"):
        write_all(asked.out, dict(zip(FILES, contents, strict=True)))
    _print(asked, support, choice, rows, not_used, time.perf_counter() - began)
    return 0


def _learn(asked: ClassifyArgs) -> "tuple[FewShotClassifier, Support, Choice]":
    """The classifier, its examples, and how its method was chosen."""
    from innerloop.estimator import FewShotClassifier
    from innerloop.estimator.sorting import read_support, saved_support

    if asked.model:
        setting = {name: value for name, value in _setting(asked).items() if name != "model"}
        classifier = FewShotClassifier.load(options.found(asked.model), **setting)
        if asked.unknown and classifier.unknown is None:
            raise InnerloopError(f"{asked.model} was saved without --unknown; save it again with that option")
        return classifier, saved_support(classifier), Choice(classifier.method, f"that of {shown(asked.model)}", {})
    assert asked.support is not None
    support = read_support(asked.support)
    setting = _setting(asked)
    choice = _choose(asked.method, support, setting)
    classifier = FewShotClassifier(method=choice.method, unknown=NONE if asked.unknown else None, **setting)
    return classifier.fit(list(support.images), list(support.labels)), support, choice


def _setting(asked: ClassifyArgs) -> dict[str, Any]:
    return {
        "model": "pretrained" if asked.run is None else str(asked.run),
        "cache": asked.cache or cache_root() / "features",
        "device": asked.device,
    }


def _look_over(asked: ClassifyArgs, support: "Support", choice: Choice) -> "Check":
    from innerloop.estimator.check import check

    methods = tuple(choice.shares) or (choice.method,)
    given = list(support.images), list(support.labels)
    return check(*given, methods=methods, seed=asked.seed, **_setting(asked))


def _print_check(found: "Check") -> None:
    low, high = (in_percent(v) for v in found.right.wilson95)
    of = f"{found.right.count} of {found.right.n} examples are classified correctly from the others"
    show.console.print(f"{of}: {in_percent(found.right.value)} (Wilson's 95 % interval {low} to {high})")
    if len(found.methods) > 1:
        show.console.print("each by the method that is right most often on the other examples")
    if found.confused:
        pairs = [(a, b, str(n)) for a, b, n in found.confused[:SHOWN]]
        show.table("what is confused", ("class", "taken for", "examples"), pairs)
    curve = [(str(shot), in_percent(share)) for shot, share in found.curve]
    show.table("with fewer examples", ("examples per class", "accuracy"), curve)
    gained = ""
    if found.gain:
        mean, low, high = (f"{100 * v:+.1f}" for v in found.gain)
        gained = f": the last doubling brought {mean} points (95 % interval over examples {low} to {high})"
    show.console.print(_ADVICE[found.advice] + gained)


def _print_threshold(found: "Threshold", rows: Sequence[Row]) -> None:
    """How many pictures are none of the classes, and how often that is wrong."""
    none = f"{sum(not r.known for r in rows)} of {len(rows)} pictures are none of these: " if rows else ""
    show.console.print(f"{none}what is below cosine {found.value:.2f} to every class is none of these")
    for share, what in (
        (found.known_refused, "examples would be refused, each left out"),
        (found.others_taken, "would be taken, each left out with its class"),
    ):
        low, high = (in_percent(v) for v in share.wilson95)
        show.console.print(
            f"  {share.count} of {share.n} {what}: {in_percent(share.value)} (Wilson's 95 % interval {low} to {high})"
        )


_ADVICE = {
    "more help": "More examples would probably help",
    "few gained": "More examples would hardly help",
    "not clear": "Whether more examples would help is not clear",
    "too few to tell": "Whether more examples would help cannot be told from two a class: give three or more",
}


def _examples(support: "Support") -> list["Example"]:
    """Names and small pictures, to know the examples again."""
    from innerloop.estimator import Example

    return [
        Example(shown(f"{p.parent.name}/{p.name}"), thumbnail(p.name, image).jpeg)
        for p, image in zip(support.files, support.images, strict=True)
    ]


def _choose(method: str, support: "Support", setting: dict[str, Any]) -> Choice:
    from innerloop.estimator import choose_method
    from innerloop.estimator.choose import MOST

    if method != "auto":
        return Choice(method, "as asked", {})
    name, shares = choose_method(list(support.images), list(support.labels), **setting)
    if not shares:
        return Choice(name, "by default: a class has one example only, so that none can be left out to try others", {})
    said = ", ".join(f"{m} {in_percent(s)}" for m, s in shares.items())
    many = len(support.labels)
    asked = f"each of the {many} examples is" if many <= MOST else f"{MOST} of the {many} examples are each"
    why = f"best leave-one-out accuracy, where {asked} classified ({said})"
    if list(shares.values()).count(shares[name]) > 1:
        why += "; among equals the first"
    return Choice(name, why, shares)


def _summary(
    asked: ClassifyArgs,
    support: "Support",
    choice: Choice,
    rows: Sequence[Row],
    not_used: Sequence["NotUsed"],
    seconds: float,
) -> dict[str, Any]:
    """What predictions.json holds."""
    examples = [shown(p) for p in support.files]
    return {
        "made_by": MADE_BY,
        "settings": {
            "support": None if asked.support is None else shown(asked.support),
            "images": [shown(p) for p in asked.all_images],
            "model": shown(asked.run or asked.model or "pretrained"),
            "method": asked.method,
            "mark": asked.mark,
            "seed": asked.seed,
            "device": asked.device,
        },
        "method": choice.method,
        "why": choice.why,
        "leave_one_out": choice.shares,
        "classes": support.classes,
        "pictures": [
            {
                "file": r.name,
                "guess": r.guesses[0][0],
                "probability": r.guesses[0][1],
                "probabilities": dict(sorted(r.guesses)),
                "nearest_support": examples[r.nearest],
                "nearest_class": support.labels[r.nearest],
                "look_again": r.marked,
                "none_of_these": not r.known,
            }
            for r in rows
        ],
        "not_used": [{"file": n.name, "reason": n.reason} for n in (*support.not_used, *not_used)],
        "seconds": round(seconds, 3),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "env": environment(),
    }


def _csv(support: "Support", rows: Sequence[Row], top: int) -> str:
    """One line per picture."""
    top = min(top, len(support.classes))
    more = [name for i in range(2, top + 1) for name in (f"guess_{i}", f"probability_{i}")]
    lines: list[list[Cell]] = [
        ["file", "guess", "probability", *more, "nearest_support", "nearest_class", "look_again", "none_of_these"]
    ]
    for r in rows:
        guesses = [x for label, p in r.guesses[:top] for x in (label, round(p, 4))]
        near = [shown(support.files[r.nearest]), support.labels[r.nearest]]
        lines.append([r.name, *guesses, *near, *("yes" if b else "no" for b in (r.marked, not r.known))])
    return csv_text(lines)


def _gallery(
    asked: ClassifyArgs, support: "Support", rows: Sequence[Row], small: Sequence[Any], summary: dict[str, Any]
) -> Gallery:
    env = summary["env"]
    made = (
        ("command", shown(shlex.join(env["command"]))),
        ("commit", env["commit"] or "not known (not run from a source tree)"),
        ("date", summary["date"]),
        ("time taken", duration(summary["seconds"])),
        (
            "features",
            f"the network of {shown(source)}" if (source := asked.run or asked.model) else "the pre-trained body",
        ),
        ("method", f"{summary['method']}: {summary['why']}"),
        ("innerloop", env["innerloop"]),
        ("PyTorch", env["torch"]),
    )
    return Gallery(
        tuple(
            (label, thumbnail(shown(path), image))
            for label, path, image in zip(support.labels, support.files, support.images, strict=True)
        ),
        tuple(
            Guess(picture, *r.guesses[0], *r.guesses[1], r.nearest, r.marked)
            for picture, r in zip(small, rows, strict=True)
        ),
        tuple((n["file"], n["reason"]) for n in summary["not_used"]),
        made,
        asked.seed,
    )


def _print(
    asked: ClassifyArgs,
    support: "Support",
    choice: Choice,
    rows: Sequence[Row],
    not_used: Sequence["NotUsed"],
    seconds: float,
) -> None:
    table = []
    for name, examples in support.classes.items():
        own = [r for r in rows if r.guesses[0][0] == name]
        mean = sum(r.guesses[0][1] for r in own) / len(own) if own else None
        table.append((name, str(examples), str(len(own)), in_percent(mean), str(sum(r.marked for r in own))))
    show.table(
        "predicted classes",
        ("class", "examples", "pictures", "mean probability", "uncertain"),
        table,
    )
    show.console.print(f"method {choice.method}: {choice.why}")
    few = len(rows) <= 2 * SHOWN
    again = sorted((r for r in rows if few or r.marked), key=lambda r: r.guesses[0][1])
    if again:
        show.table(
            "all pictures, the least certain first" if few else "the least certain",
            ("file", "guess", "probability", "second guess", "probability"),
            [
                (
                    r.name,
                    r.guesses[0][0],
                    in_percent(r.guesses[0][1]),
                    r.guesses[1][0],
                    in_percent(r.guesses[1][1]),
                )
                for r in (again if few else again[:SHOWN])
            ],
        )
        if not few and len(again) > SHOWN:
            print(f"... and {len(again) - SHOWN} more, marked in {shown(asked.out / FILES[1])}")
    for line in _left_out((*support.not_used, *not_used)):
        show.console.print(line)
    show.console.print(
        f"{len(rows)} pictures sorted in {duration(seconds)}: {shown(asked.out / FILES[1])}, {FILES[0]}", markup=False
    )
    if asked.gallery:
        show.console.print(f"Look at {shown((asked.out / FILES[2]).resolve())}")


def _left_out(not_used: Sequence["NotUsed"]) -> list[str]:
    """One line a file, of the first few, and how many there were."""
    if not not_used:
        return []
    lines = [f"{len(not_used)} not used:", *(f"  {n.name}: {n.reason}" for n in not_used[:SHOWN])]
    if len(not_used) > SHOWN:
        lines.append(f"  ... and {len(not_used) - SHOWN} more")
    return lines
