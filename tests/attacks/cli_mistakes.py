"""Mistakes that a user can make at the command line, each with what the error must name.

``python tests/attacks/cli_mistakes.py`` tries all of them in one process and prints how many survived. A case survives
if the exit status is the expected one, there is no traceback, the error stream has one short message (beside the box
that the parser draws) which names what was given or the option, and no file was made or changed.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from unittest import mock

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from innerloop import cli
from innerloop.cli import COMMANDS
from innerloop.training import build
from tiny import FLAGS, load_blobs

HOSTILE = "<img src=x onerror=alert(1)>"
SECONDS = 60
"""for one case"""
LONGEST = 600
"""characters of a message"""
RL_FLAGS = shlex.split("""
    --iterations 2 --meta-batch 2 --rollouts 3 --trpo.curvature-rollouts 2 --horizon 4 --policy.hidden 5
    --validation.every 1 --validation.tasks 2 --test.tasks 3 --test.rollouts 2 --test.steps 2 --threads 1
""")
DAGAN_FLAGS = shlex.split("""
    --sizes.widths 4 4 --sizes.noise 2 --steps 2 --critic-steps 1 --batch 4 --every 1 --device cpu
    --images 3 --samples 2
""")


@dataclass(frozen=True)
class Case:
    """One command line with its mistake."""

    args: tuple[str, ...]
    names: tuple[str, ...]
    """what the message must name"""
    status: int | None = 1
    """exit status; None: 1 or 2, for a value that the parser or the command may refuse"""
    missing: tuple[str, ...] = ()
    """packages that are not installed"""
    environment: dict[str, str] = field(default_factory=dict)
    works: bool = False
    """whether work begins before the mistake shows, so that files may be left"""
    page: str = ""
    """the page that is made, which must show `HOSTILE` names as text"""

    def __str__(self) -> str:
        return " ".join(map(repr_short, self.args)) or "(nothing)"


def repr_short(text: str) -> str:
    """An argument as a test's name shows it."""
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) < 60 else f"{text[:40]}...{len(text)}"


# the world in which the mistakes are made


def make_world(root: Path) -> None:
    """Runs of each kind, whole and spoilt, pictures, and things that are in the way, in the folder `root`."""
    with inside(root), quiet():
        assert cli.run(["train", *FLAGS, "--out", "run"]) == 0
        assert cli.run(["rl", "train", *RL_FLAGS, "--out", "rl-run"]) == 0
        assert cli.run(["dagan", *DAGAN_FLAGS, "--out", "dagan-run"]) == 0
        sines = ["--preset", "sinusoid-10shot", *FLAGS, "--inner.lr", "0.01", "--out", "sines"]
        assert cli.run(["train", *sines]) == 0
    for name in (
        "unfinished",
        "r[",
        "bare",
        "newer",
        "no-json",
        "a-list",
        "cut-weights",
        "no-index",
        "elsewhere",
        "r:smile:",
    ):
        shutil.copytree(root / "run", root / name)
    (root / "unfinished" / "finished.json").unlink()
    (root / "r[").rename(root / "r[red]")
    shutil.copytree(root / "run", root / "r[" / "b]")
    shutil.rmtree(root / "bare" / "checkpoints")
    (root / "bare" / "finished.json").unlink()
    change(root / "newer", colour=1)
    change(root / "elsewhere", device="privateuseone")
    (root / "no-json" / "config.json").write_text("{")
    (root / "a-list" / "config.json").write_text("[1]")
    (root / "no-index" / "checkpoints" / "index.json").write_text("garbage")
    for weights in root.glob("cut-weights/checkpoints/*/weights.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-5])
    shutil.copytree(root / "unfinished", root / "half-study" / "maml")
    shutil.copytree(root / "run", root / "study" / "maml")
    (root / "study" / "summary.json").write_text("{}")
    (root / "study" / "report.html").write_text("the report")
    (root / "bad-study").mkdir()
    (root / "bad-study" / "summary.json").write_text("{}")
    (root / "empty").mkdir()
    (root / "full").mkdir()
    (root / "full" / "mine.txt").write_text("mine")
    (root / "file").write_text("mine")
    (root / "classified").mkdir()
    (root / "classified" / "predictions.csv").write_text("mine")
    for i, name in enumerate(("cats", "dogs")):
        for j in range(2):
            picture(root / "support" / name / f"{j}.png", 90 * i + 9 * j)
    picture(root / "one" / "cats" / "0.png", 5)
    picture(root / "todo" / "0.png", 7)
    for i in range(20):
        for j in range(6):
            picture(root / f"photos{HOSTILE}" / f"{i}{HOSTILE}" / f"{j}.png", 12 * i + 2 * j)
    for i in range(2):
        picture(root / f"examples{HOSTILE}" / f"{i}{HOSTILE}" / f"{HOSTILE}.png", 90 * i)
    picture(root / f"new{HOSTILE}" / f"{HOSTILE}.png", 80)
    (root / "todo.txt").write_text("no picture")
    (root / "pictures").mkdir()
    (root / "pictures" / "a.png").write_bytes(b"no picture")


def picture(path: Path, grey: int) -> None:
    """A small grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (grey, grey, grey)).save(path)


def change(run: Path, **values: object) -> None:
    """Other values in the run's config.json."""
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | values))


@contextlib.contextmanager
def inside(root: Path) -> Iterator[None]:
    """In the folder `root`, without this machine's data, with made images, errors as users see them."""
    set_here = {"INNERLOOP_DATA": str(root / "no-data"), "INNERLOOP_CACHE": str(root / ".cache"), "COLUMNS": "100"}
    with contextlib.chdir(root), mock.patch.dict(os.environ, set_here), mock.patch.object(build, "load_images", images):
        os.environ.pop("INNERLOOP_TRACEBACK", None)
        yield


load_real = build.load_images


def images(config, data_dir=None):
    """Made images for glyphs; what the user names is looked for."""
    return load_blobs(config) if config.data in ("glyphs", "sinusoid") else load_real(config, data_dir)


@contextlib.contextmanager
def quiet() -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """What is printed is kept, as by a terminal that has all characters."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


class Page(HTMLParser):
    """The tags that could have come from a name, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.foreign, self.text = 0, ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.foreign += tag == "script" or any(n.startswith("on") or (n, v) == ("src", "x") for n, v in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def spoilt_page(path: Path) -> list[str]:
    """What is wrong with a page that shows hostile names."""
    page = Page(path.read_text() if path.exists() else "")
    wrong = [f"{page.foreign} foreign tags in {path.name}"] if page.foreign else []
    return wrong if HOSTILE in page.text else [*wrong, f"{path.name} does not show {HOSTILE}"]


def files(root: Path) -> dict[str, tuple[int, int]]:
    """All that is there, but for the cache and locks."""
    found = {}
    for path in root.rglob("*"):
        if ".cache" not in path.parts and path.name != ".lock":
            about = path.stat()
            found[str(path)] = (0, 0) if path.is_dir() else (about.st_size, about.st_mtime_ns)
    return found


def _too_long(*_: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def without(packages: Iterable[str]) -> Iterator[None]:
    """These cannot be imported. (`mock.patch.dict` would also forget what is imported meanwhile.)"""
    before = {name: sys.modules.get(name) for name in packages}
    sys.modules.update(dict.fromkeys(before))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def try_case(case: Case, root: Path) -> list[str]:
    """Make the mistake; returns what is wrong with the answer."""
    wrong = []
    before = files(root)
    with inside(root), without(case.missing), mock.patch.dict(os.environ, case.environment), quiet() as (out, err):
        try:
            status: int | str = cli.run(list(case.args))
        except BaseException:
            status = traceback.format_exc(limit=-3)
    shown, said = (stream.buffer.getvalue().decode().replace(f"{root}/", "") for stream in (out, err))
    if status != case.status and (case.status is not None or status not in (1, 2)):
        wrong.append(f"status {status}, not {case.status}")
    if "Traceback" in shown + said:
        wrong.append("a traceback")
    outside = [line for line in said.splitlines() if line[:1] not in "╭│╰" and line.strip()]
    if sum(map(len, outside)) > LONGEST:
        wrong.append(f"{sum(map(len, outside))} characters")
    if len(outside) > 1:
        wrong.append(f"{len(outside)} lines")
    if case.status != 0 and not said.strip():
        wrong.append("no message")
    text = " ".join((said if case.status != 0 else shown + said).replace("│", " ").split()).lower()
    wrong += [f"does not name {n!r}" for n in case.names if n.lower() not in text]
    if case.page:
        wrong += spoilt_page(root / case.page)
    after = files(root)
    if left := [n for n in after if before.get(n) != after[n]]:
        if not case.works:
            wrong.append(f"left {', '.join(left[:3])}")
        for path in map(Path, sorted(set(after) - set(before))):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return [*wrong, said or shown] if wrong else []


# the mistakes


def c(line: str, *names: str, status: int | None = 1, works: bool = False, env: dict[str, str] | None = None) -> Case:
    """A case whose arguments have no spaces; '' is an empty argument."""
    args = tuple("" if a == "''" else a for a in line.split())
    return Case(args, names, status, environment=env or {}, works=works)


LEAVES = (
    "study",
    "train",
    "evaluate",
    "analyse",
    "reproduce",
    "classify",
    "dagan",
    "rl train",
    "rl evaluate",
    "rl analyse",
    "rl render",
    "data list",
    "data fetch",
    "data check",
)
ON_RUNS = ("evaluate", "analyse", "rl evaluate", "rl analyse", "rl render")
NEEDED = dict.fromkeys(ON_RUNS, "run") | {"classify": "--support support --images todo"}
INTO_FOLDERS = {
    "train": " ".join(FLAGS),
    "study": " ".join(FLAGS),
    "dagan": " ".join(DAGAN_FLAGS),
    "rl train": " ".join(RL_FLAGS),
    "reproduce table1 --budget smoke": "",
    "classify --support support --images todo": "",
}
READ_DATA = ("train", "study", "dagan", "evaluate run", "analyse run", "reproduce table1", "data list", "data check")


def commands() -> Iterator[Case]:
    """Every command with nothing, with what it does not know, and its help."""
    yield c("trian", "trian", "did you mean 'train'", status=2)
    yield c("evalute run", "did you mean 'evaluate'", status=2)
    yield c("TRAIN", "did you mean 'train'", status=2)
    yield c("--train", "did you mean 'train'", status=2)
    yield c("xyzzy", "xyzzy", *COMMANDS, status=2)
    yield c("''", "''", "train", status=2)
    yield c("--verbose", "--verbose", status=2)
    yield c("rl trian", "trian", "did you mean 'train'", status=2)
    yield c("rl --help-me", "--help-me", "evaluate", status=2)
    yield c("data lst", "lst", "did you mean 'list'", status=2)
    yield c("data fecth omniglot", "did you mean 'fetch'", status=2)
    yield c("data --data-dir empty list", "--data-dir", status=2)
    yield c("x" * 3000, "xxx", status=2)
    for name in LEAVES:
        first = name.split()[-1]
        yield c(f"{name} --help", "usage", status=0)
        rest = NEEDED.get(name, "")
        yield c(f"{name} {rest} --frobnicate", "--frobnicate", status=2)
        yield c(f"{name} {rest} --{first}=\udcff\udcfe", f"--{first}", status=2)
    for name in ("evaluate", "analyse", "rl evaluate", "rl analyse", "rl render"):
        yield c(name, "RUN", status=2)
        yield c(f"{name} run run", "run", status=2)
    yield c("reproduce", "NAME")
    yield c("classify", "--support")
    yield c("data fetch", "NAME", "omniglot")
    yield c("data fetch omniglot omniglot", "omniglot", status=2)
    for name in ("study", "train", "dagan", "rl train"):
        yield c(f"{name} something", "something", status=2)
        yield c(f"{name} --resume=yes", "yes", status=2)
        yield c(f"{name} --out", "--out", status=2)


def names() -> Iterator[Case]:
    """Names with a letter wrong."""
    yield c("reproduce tabel1", "tabel1", "did you mean 'table1'")
    yield c("reproduce al", "did you mean 'all'")
    yield c("reproduce table99", "table99", "table1")
    yield c("data fetch omniglt", "omniglt", "did you mean 'omniglot'")
    yield c("data check mini-imagenet", "did you mean 'mini_imagenet'")
    yield c("data check mnist", "mnist", "omniglot")
    yield c("train --preset quik", "quik", "did you mean 'quick'")
    yield c("study --preset omniglot-5way-1shoot", "did you mean 'omniglot-5way-1shot'")
    yield c("rl train --preset navigation-2018", "did you mean 'navigation-2019'")
    yield c("rl train --preset x", "'x'", "navigation-cpu")
    yield c("train --prest quick", "--preset", status=2)
    for flag, given, near in (
        ("--model.downsample", "strid", "stride"),
        ("--outer.optimizer", "adm", "adam"),
        ("--outer.schedule", "cosin", "cosine"),
        ("--inner.statistics", "batsh", "batch"),
        ("--augment", "afine", "affine"),
    ):
        yield c(f"train {flag} {given}", flag, given, f"did you mean '{near}'", status=2)
    yield c("train --method=ANIL", "did you mean 'anil'")
    yield c("train --method anli", "anli", "did you mean 'anil'")
    yield c("train --data omniglt", "omniglt", "did you mean 'omniglot'", status=2)
    yield c("train --model.arch conv5", "model.arch", "conv5", "did you mean", "conv4", status=2)
    yield c("train --data omniglot --split-scheme vinyls", "vinyls", "did you mean 'vinyals'", status=2)
    yield c("evaluate run --method anli", "anli", "did you mean 'anil'")
    yield c("evaluate run --split tset", "--split", "did you mean 'test'", status=2)
    yield c("evaluate run --data omniglot-lak", "omniglot-lak", "did you mean 'omniglot-lake'")
    yield c("evaluate run --statistics suport", "did you mean 'support'", status=2)
    yield c("evaluate run --which bets", "bets", "did you mean 'best'")
    yield c("evaluate run --which step3", "step3", "best, last")
    yield c("analyse run --which lsat", "lsat", "did you mean 'last'")
    yield c("evaluate run --augment-support afine", "afine", "did you mean 'affine'")
    yield c("evaluate run --augment-support run", "run", "dagan")
    yield c("reproduce table1 --data omniglt", "did you mean 'omniglot'")
    yield c("reproduce table1 --budget smok", "did you mean 'smoke'", status=2)
    yield c("reproduce table2-rl --env navigaton", "did you mean 'navigation'")
    yield c("reproduce table2-rl --env navigation chetah-velocity", "did you mean 'cheetah-velocity'")
    yield c("reproduce table2-rl --env no_module:ANT", "no_module")
    yield c("reproduce table2-rl --env math:pi", "math:pi", "float", "Environment")
    yield c("reproduce table2-rl --budget paper --env cheetah-direction-17", "cheetah-direction-17-2019")
    yield c("classify --support support --images todo --method fintune", "did you mean 'finetune'", status=2)
    yield c("dagan --split tets", "did you mean 'test'", status=2)
    yield c("dagan --data glyps", "did you mean 'glyphs'", status=2)
    yield c("rl train --env cheetah-speed", "cheetah-speed", "module:attribute")
    yield c("rl train --env navigatoin", "did you mean 'navigation'")
    yield c("rl train --env math:pie", "pie", "did you mean 'pi'")
    yield c("rl train --env math:pi", "math:pi", "float", "Environment")
    yield c("rl train --env :", "':'")
    yield c("rl train --horizon 0", "horizon", "0", status=2)
    yield c("rl train --action-scale 0", "action_scale", "0", status=2)
    yield c("rl train --env ''", "''", "navigation")
    yield c("rl train --preset navigation-cpu --env cheetah", "'cheetah'", "cheetah-direction", status=2)
    yield c("rl train --method mmal", "did you mean 'maml'", status=2)
    yield c("rl train --outer pop", "did you mean 'ppo'", status=2)
    yield c("rl train --inner.loss ration", "did you mean 'ratio'", status=2)
    yield c("rl train --precision float16", "float16", "float32", status=2)
    yield c("rl evaluate rl-run --which bset", "did you mean 'best'", status=2)
    yield c("rl evaluate rl-run --learner random_search", "did you mean 'random-search'", status=2)
    yield c("rl evaluate rl-run --adapt heda", "heda", "did you mean 'head'")
    yield c("rl evaluate rl-run --adapt all head", "--adapt", "all")
    yield c("rl render rl-run --which frist", "frist", "best", status=2)
    yield c("evaluate rnu", "rnu", "did you mean 'run'")
    yield c("analyse unfinishd", "unfinishd", "did you mean 'unfinished'")
    yield c("rl evaluate rl-rnu", "rl-rnu", "did you mean 'rl-run'")
    yield c("dagan --samples-only --out dagan-rnu", "did you mean 'dagan-run'")


def numbers() -> Iterator[Case]:
    """Numbers that are none, negative, zero, not whole, not finite."""
    for flag in ("--way", "--shot", "--query", "--outer.steps", "--outer.meta-batch", "--validation.every"):
        word = flag.split(".")[-1].strip("-").replace("-", "_")
        for value in ("0", "-3"):
            yield c(f"train {flag} {value}", word, value, status=None)
        for value in ("five", "1.5", "''", "1e3"):
            yield c(f"train {flag} {value}", flag, status=2)
    for flag in ("--inner.lr", "--outer.lr"):
        for value in ("x", "''", "1,5", "0.1.2"):
            yield c(f"train {flag} {value}", flag, status=2)
        yield c(f"train {flag} nan", "lr", "nan", status=None)
    for flag, word in (
        ("--validation.episodes 1", "validation"),
        ("--test.episodes 1", "episodes"),
        ("--test.inner-steps -1", "inner_steps"),
        ("--test.query 0", "query"),
        ("--task-chunk -1", "task_chunk"),
        ("--threads -1", "threads"),
        ("--model.filters 0", "filters"),
        ("--model.hidden 0", "hidden"),
        ("--validation.keep-every 7", "keep_every"),
        ("--train-way -1", "train_way"),
    ):
        yield c(f"train {flag}", word, flag.split()[1], status=None)
        yield c(f"study {flag}", word, flag.split()[1], status=None)
    yield c("train --threads 100000 --out new", "threads", "100000", status=2)
    yield c("train --way 7 --out new", "way 7", "6 classes")
    yield c("train --shot 9 --out new", "shot 9")
    yield c("train --query 99 --out new", "query 99")
    yield c("train --seed " + "9" * 5000, "characters")
    for flag, value in (("--episodes", "1"), ("--inner-steps", "-1"), ("--query", "0"), ("--shot", "0")):
        yield c(f"evaluate run {flag} {value}", flag.strip("-").replace("-", "_"), value)
    yield c("evaluate run --shot 99", "shot 99")
    yield c("evaluate run --augment-support affine --copies 0", "--copies", "0")
    yield c("evaluate run --episodes many", "--episodes", "many", status=2)
    yield c("analyse run --episodes 1", "episodes", "1")
    yield c("reproduce table1 --way 1", "way", "1")
    yield c("reproduce table1 --shot 0", "shot", "0")
    yield c("reproduce table1 --seeds 1 1", "seeds", "1 1")
    yield c("reproduce table1 --seeds one", "--seeds", status=2)
    yield c("reproduce table1 --threads -2", "threads", "-2")
    yield c("reproduce table2-rl --threads -2", "threads", "-2")
    for flag, value in (("--top", "0"), ("--mark", "2"), ("--mark", "-0.1"), ("--threads", "-1"), ("--mark", "nan")):
        yield c(f"classify --support support --images todo {flag} {value}", flag, value)
    yield c("classify --support support --images todo --top two", "--top", "two", status=2)
    for flag, value in (
        ("--steps", "0"),
        ("--batch", "0"),
        ("--critic-steps", "0"),
        ("--every", "0"),
        ("--lr", "-1"),
    ):
        yield c(f"dagan {flag} {value}", flag.strip("-").replace("-", "_"), value, status=2)
    for flag, value in (("--images", "0"), ("--samples", "0"), ("--images", "-3"), ("--samples", "1")):
        yield c(f"dagan {flag} {value}", flag.strip("-"), value, status=2)
    yield c("dagan --samples-only --out dagan-run --samples 0", "samples", "0", status=2)
    for flag, value in (
        ("--iterations", "0"),
        ("--meta-batch", "0"),
        ("--rollouts", "0"),
        ("--gamma", "2"),
        ("--lam", "-1"),
        ("--threads", "-1"),
    ):
        yield c(f"rl train {flag} {value}", flag.strip("-").replace("-", "_"), value, status=2)
    for flag, value in (
        ("--inner.steps", "0"),
        ("--test.tasks", "1"),
        ("--policy.hidden", "0"),
    ):
        yield c(f"rl train {flag} {value}", flag.split(".")[1], value, status=2)
    for flag, value in (("--steps", "-1"), ("--tasks", "1"), ("--rollouts", "0"), ("--later-lr", "-1")):
        yield c(f"rl evaluate rl-run {flag} {value}", flag.strip("-").replace("-", "_"), value)
    for value in ("0", "61", "-1"):
        yield c(f"rl render rl-run --tasks {value}", "--tasks", value)
    yield c("rl render rl-run --steps -1", "steps", "-1")
    yield c("rl analyse rl-run --threads -1", "threads", "-1")


def folders() -> Iterator[Case]:
    """--out, --data-dir and RUN that cannot be."""
    for command, flags in INTO_FOLDERS.items():
        yield c(f"{command} {flags} --out file", "file", "is a file")
        yield c(f"{command} {flags} --out file/run", "file", "is a file")
        yield c(f"{command} {flags} --out ''", "--out")
        yield c(f"{command} {flags} --out {'x' * 300}", "xxx", "too long")
    for command in ("train", "dagan", "rl train"):
        flags = INTO_FOLDERS[command]
        yield c(f"{command} {flags} --out full", "full", "not empty")
    yield c("train --out run " + " ".join(FLAGS), "run", "finished")
    yield c("train --out run --resume " + " ".join(FLAGS), "run", "finished")
    yield c("train --out unfinished " + " ".join(FLAGS), "unfinished", "--resume")
    yield c("train --out unfinished --resume --seed 4 " + " ".join(FLAGS), "seed", "4")
    yield c("train --out rl-run " + " ".join(FLAGS), "rl-run", "finished")
    yield c("study --out study " + " ".join(FLAGS), "study", "finished study")
    yield c("study --out half-study " + " ".join(FLAGS), "half-study", "--resume")
    yield c("study --out full " + " ".join(FLAGS), "full")
    yield c("study --out bad-study", "summary.json", "data")
    yield c("rl train --out rl-run " + " ".join(RL_FLAGS), "rl-run", "finished")
    yield c("dagan --out dagan-run " + " ".join(DAGAN_FLAGS), "dagan-run", "finished")
    yield c("classify --support support --images todo", "classified", "predictions.csv")
    for command in READ_DATA:
        yield c(f"{command} --data-dir nowhere", "nowhere", "does not exist")
        yield c(f"{command} --data-dir file", "file", "is a file")
        yield c(f"{command} --data-dir ''", "--data-dir")
        yield c(f"{command} --data-dir ~nobody-here/data", "~nobody-here", "--data-dir")
    yield c("data fetch omniglot --data-dir file", "file", "is a file")
    for name in ("INNERLOOP_DATA", "INNERLOOP_CACHE"):
        yield c("train --data omniglot --out new", name, "~nobody-here", env={name: "~nobody-here/data"})
    yield c("data list --data-dir [/x]", "[/x]", "does not exist")
    yield c("train --data omniglot --data-dir empty --out new", "omniglot", "empty")
    yield c("train --data folder --out new", "--folder.root", status=2)
    yield c("train --data folder --folder.root nowhere --out new", "nowhere")
    yield c("train --data folder --folder.root full --out new", "full")
    yield c("train --folder.root support --out new", "folder.root", "support", status=2)
    yield c("train --data glyphs --split-scheme lake --out new", "split_scheme", "lake", status=2)
    for command in ON_RUNS:
        for path, *says in (
            ("nowhere", "nowhere"),
            ("file", "file", "is a file"),
            ("empty", "empty", "config.json"),
            ("''", "config.json"),
            ("no-json", "no-json/config.json"),
            ("a-list", "a-list/config.json"),
            ("[/x]", "[/x]"),
            ("\udcff", "run folder"),
            ("x" * 300, "xxx"),
        ):
            yield c(f"{command} {path}", *says)
    for command in ("evaluate", "analyse"):
        yield c(f"{command} bare", "bare", "best")
        yield c(f"{command} newer", "newer/config.json", "colour")
        yield c(f"{command} cut-weights", "cut-weights", "cannot be read")
        yield c(f"{command} no-index", "no-index/checkpoints/index.json")
        yield c(f"{command} rl-run", "rl-run", f"innerloop rl {command}")
        yield c(f"{command} dagan-run", "dagan-run", "innerloop dagan")
        yield c(f"{command} study", "study", "study/maml")
        yield c(f"{command} elsewhere", "privateuseone", "cpu")
    for command in ("rl evaluate", "rl analyse", "rl render"):
        yield c(f"{command} run", "run/config.json", "innerloop evaluate")
        yield c(f"{command} dagan-run", "dagan-run")
    yield c("dagan --samples-only --out run", "run/config.json")
    yield c("dagan --samples-only --out empty", "empty", "config.json")
    yield c("dagan --samples-only --out file", "file", "is a file")
    yield c("classify --support support --images todo --run rl-run --out new", "rl-run")
    yield c("classify --support support --images todo --run nowhere --out new", "nowhere")


def odd_names() -> Iterator[Case]:
    """What works, and must be printed as it is; and --resume of a mistyped folder, which says so."""
    for name in ("r[red]", "r[/b]", "r:smile:"):
        yield c(f"evaluate {name}", f"{name}/eval.json", status=0, works=True)
    yield c("evaluate r[red] --which [/b]", "[/b]", "best")
    yield c("data list --data-dir r[red]", "r[red]", status=0)
    yield c("train --resume --out unfinishd " + " ".join(FLAGS), "unfinishd", "'unfinished'", status=0, works=True)
    yield c("train --resume --out new " + " ".join(FLAGS), "new", "--resume", status=0, works=True)
    yield c("train --resume --out r[/x] " + " ".join(FLAGS), "r[/x]/eval.json", status=0, works=True)
    yield c("rl train --resume --out rl-rnu " + " ".join(RL_FLAGS), "--resume", "rl-rnu", status=0, works=True)
    yield c("dagan --resume --out new " + " ".join(DAGAN_FLAGS), "--resume", "new", status=0, works=True)


def pages() -> Iterator[Case]:
    """Folders and files whose names are HTML: the report and the gallery show them, and do not obey."""
    made = ["--data", "folder", "--folder.root", f"photos{HOSTILE}", "--folder.size", "16"]
    study = ("study", *FLAGS, *made, "--out", f"new{HOSTILE}-study")
    yield Case(study, (), 0, works=True, page=f"new{HOSTILE}-study/report.html")
    given = ["--support", f"examples{HOSTILE}", "--images", f"new{HOSTILE}"]
    classify = ("classify", *given, "--run", "run", "--out", f"new{HOSTILE}-sorted")
    yield Case(classify, (), 0, works=True, page=f"new{HOSTILE}-sorted/gallery.html")


def others() -> Iterator[Case]:
    """Devices, packages that are not there, options that do not go together, pictures."""
    for device in ("meta", "privateuseone", "gpu", "cuda:99", "cpu:7", "''", "mps:8"):
        shown = "" if device == "''" else device
        yield c(f"train --device {device} --out new", f"'{shown}'", "cpu")
        yield c(f"evaluate run --device {device}", f"'{shown}'", "cpu")
    for command in ("study", "dagan", "reproduce table1", "analyse run", "classify --support support --images todo"):
        yield c(
            f"{command} --device meta --out new" if "analyse" not in command else f"{command} --device meta",
            "meta",
            "cpu",
        )
    yield c("train --device cup --out new", "cup", "did you mean 'cpu'")
    yield Case(
        ("train", *FLAGS, "--tensorboard", "--out", "new"),
        ("innerloop[tensorboard]",),
        missing=("torch.utils.tensorboard",),
    )
    for package in ("gymnasium", "mujoco"):
        args = ("rl", "train", *RL_FLAGS, "--env", "cheetah-velocity", "--out", "new")
        yield Case(args, (package, "innerloop[rl]"), missing=(package,))
    args = ("classify", "--support", "support", "--images", "todo", "--out", "new")
    yield Case(args, ("innerloop[pretrained]",), missing=("efficientnet_lite_pytorch",))
    yield c("study --method anil --out new", "--method")
    yield c("study --preset sinusoid-10shot --out new", "regression")
    yield c("reproduce table1 --env navigation", "--env")
    yield c("reproduce table2-rl --way 3", "--way")
    yield c("reproduce table2-rl --data omniglot", "--data")
    yield c("reproduce table2-rl --env navigation navigation", "navigation")
    yield c("reproduce table2-rl --env", "environment")
    yield c("reproduce seeds --seeds 0", "--seeds")
    yield c("evaluate sines --method nil", "nil")
    yield c("evaluate sines --data omniglot-lake", "sines", "omniglot-lake")
    yield c("evaluate sines --augment-support affine", "sines", "affine")
    yield c("evaluate run --data omniglot-lake --split val", "--split")
    yield c("evaluate run --data omniglot-lake", "omniglot")
    yield c("evaluate run --method siamese", "siamese")
    yield c("analyse sines", "sines")
    yield c("rl evaluate rl-run --learner random-search --adapt head", "--adapt")
    yield c("rl evaluate rl-run --learner random-search --later-lr 1", "--later-lr")
    yield c("rl train --ppo.lr 1", "ppo", status=2)
    yield c("rl train --trpo.curvature-rollouts 500", "curvature_rollouts", "500", status=2)
    for more, *says in (
        ("--support nowhere --images todo", "nowhere"),
        ("--support file --images todo", "file"),
        ("--support empty --images todo", "empty"),
        ("--support one --images todo", "one"),
        ("--support full --images todo", "full"),
        ("--support pictures --images todo", "pictures"),
        ("--support support --images", "--images"),
        ("--support '' --images todo", "--support"),
    ):
        yield c(f"classify {more} --out new", *says)
    yield c("train --method nil --inner.learn-rates --out new", "nil", status=2)
    yield c("train --method imaml --inner.proximal 0 --out new", "imaml", "--inner.proximal", status=2)
    yield c("train --model.arch mlp --data sinusoid --method nil --out new", "nil", status=2)
    yield c("train --method multiclass --inner.statistics support --out new", "statistics", status=2)


def cases() -> list[Case]:
    """All of them."""
    return [*commands(), *names(), *numbers(), *folders(), *odd_names(), *pages(), *others()]


def main(only: Sequence[str] = ()) -> int:
    """Try all cases (those with one of these words in them) and print how many survived."""
    tried = survived = 0
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "world"
        root.mkdir()
        make_world(root)
        for case in cases():
            if only and not any(re.search(word, str(case)) for word in only):
                continue
            signal.alarm(SECONDS)
            wrong = try_case(case, root)
            signal.alarm(0)
            tried, survived = tried + 1, survived + (not wrong)
            if wrong:
                print(f"FAILED innerloop {case}\n    " + "\n    ".join(wrong), flush=True)
    print(f"tried {tried}, survived {survived}")
    return 0 if survived == tried else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
