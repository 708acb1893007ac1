"""Command lines to dataclasses, by tyro; and what can be refused before any work."""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from innerloop.cli.help import Help, examples, options_of, page, paragraphs
from innerloop.data.paths import data_root
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.runs import RunError, RunFolder
from innerloop.training import Config, preset
from innerloop.training.build import choose_device

T = TypeVar("T")


def preset_list(presets: Iterable[Any]) -> str:
    """The presets with about how long each trains."""
    lines = (f"  {p.name:<31}{about_minutes(p.minutes):<14}{p.about}" for p in presets)
    return "presets, with about how long MAML trains on one core of a server's CPU\n" + "\n".join(lines)


def about_minutes(minutes: int | None) -> str:
    """A duration as text; nothing where it was not measured."""
    if minutes is None:
        return ""
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.3g} h"


_LONGEST = 4096
"""characters of an argument; no path may be longer"""
_FOLDERS = ("--out", "--data-dir", "--run", "--cache", "--support")


def parse(
    kind: type[T],
    args: Sequence[str],
    command: str,
    *,
    text: Help,
    default: T | None = None,
    makes_data_dir: bool = False,
) -> T:
    """Parse `args` into the dataclass `kind`; --help prints help and exits with 0, wrong usage one clear message and 2.

    Raises InnerloopError for a folder, a run or a device that is not there.
    """
    if long := [a for a in args if len(a) > _LONGEST]:
        raise InnerloopError(f"an argument has {len(long[0]):,} characters: {quoted(long[0])}")
    if {"-h", "--help", "--help-all"} & set(args):
        print(page(command, text, kind, default, whole="--help-all" in args))
        raise SystemExit(0)
    more: dict[str, Any] = {} if default is None else {"default": default}
    try:
        asked = tyro.cli(kind, args=list(args), prog=f"innerloop {command}", description="", **more)
    except SystemExit as done:
        if done.code:
            for line in _proposals(kind, args):
                print(f"innerloop: {line}", file=sys.stderr)
        raise
    except InnerloopError as error:  # of the whole configuration: wrong usage, as tyro says of its parts
        print(f"innerloop: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if isinstance(run := getattr(asked, "run", None), Path):
        asked = replace(asked, run=found(run))  # pyright: ignore[reportArgumentType, reportCallIssue]
    _check(asked, args, makes_data_dir=makes_data_dir)
    return asked


def found(path: Path) -> Path:
    """The file or folder that is meant: `path` itself, or the trained model of this name, of the package or, as
    hf:owner/name, of the Hugging Face Hub."""
    name = str(path)
    if path.exists():
        return path
    from innerloop.sharing import SHIPPED, from_pretrained

    try:
        if name.startswith("hf:") or name in SHIPPED:
            return from_pretrained(name.removeprefix("hf:"))
    except ImportError as error:
        raise RunError(str(error)) from error
    return path


def _proposals(kind: type, args: Sequence[str]) -> Iterator[str]:
    """For each value that is none of its option's choices: the choice that is near."""
    choices = {option.flag: option.choices for option in options_of(kind)}
    flag = ""
    for arg in args:
        value = arg
        if arg.startswith("--"):
            flag, _, value = arg.partition("=")
        known = choices.get(flag.replace("_", "-"), ())
        if known and value not in known and (near := did_you_mean(value, known)):
            yield f"{flag} {quoted(value)}{near}"


def _check(asked: Any, args: Sequence[str], *, makes_data_dir: bool) -> None:
    given = {flag: value_of(args, flag) for flag in _FOLDERS}
    for name, value in (given | {n: os.environ.get(n) for n in ("INNERLOOP_DATA", "INNERLOOP_CACHE")}).items():
        if value == "" and name in given:
            raise InnerloopError(f"{name} is empty; give a folder, or leave it out")
        try:
            Path(value or "").expanduser()
        except RuntimeError:
            raise InnerloopError(f"{name} {quoted(value)} is in the home folder of nobody here") from None
    if isinstance(run := getattr(asked, "run", None), Path):
        check_run(run)
    if (data_dir := getattr(asked, "data_dir", None)) is not None:
        root = data_root(data_dir)
        if not root.is_dir() and (root.exists() or not makes_data_dir):
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise InnerloopError(f"the data folder {root} {what}; give another --data-dir")
    if (device := getattr(getattr(asked, "config", asked), "device", None)) is not None:
        choose_device(device)


def of_launcher(given: Sequence[str]) -> dict[str, str]:
    """The values of --option by name."""
    if wrong := [o for o in given if "=" not in o]:
        raise InnerloopError(f"--option takes NAME=VALUE, got {wrong[0]}")
    return dict(o.split("=", 1) for o in given)


def action_of(command: str, args: Sequence[str], text: Help, known: Iterable[str]) -> str | int:
    """The action that `args` begin with, of a command with several. Or an exit status: 0 if there is none or help is
    asked for, after help is printed; 2 for an unknown action, after the known ones are named."""
    if not args or {"-h", "--help", "--help-all"} & set(args):
        print(f"{paragraphs(text.about)}\n\n{examples(text.examples)}\n\n{text.more}")
        return 0
    if args[0] not in known:
        near = did_you_mean(args[0], known)
        print(f"innerloop: {command} has no action {quoted(args[0])}; it has {', '.join(known)}{near}", file=sys.stderr)
        return 2
    return args[0]


def check_run(path: Path) -> None:
    """Raises RunError for a path that is not a run folder, and names what may have been meant."""
    if RunFolder(path).exists:
        return
    if not path.exists():
        from innerloop.sharing import SHIPPED

        beside = [p for p in _folders(path.parent) if RunFolder(p).exists]
        raise RunError(f"there is no run folder {path}{_near(path, [*beside, *map(Path, SHIPPED)])}")
    if not path.is_dir():
        raise RunError(f"{path} is a file, not a run folder")
    inside = [str(p) for p in _folders(path) if RunFolder(p).exists]
    what = f"; the runs in it are {', '.join(inside[:5])}" if inside else ""
    raise RunError(f"{path} is not a run folder: it has no config.json{what}")


def check_out(out: Path, *, resume: bool = False) -> None:
    """Raises RunError where no folder `out` can be made or written to.

    With `resume`, prints a line if there is nothing to continue: a new run starts there, and the name may be mistyped.
    """
    held = next(p for p in (out, *out.absolute().parents) if os.path.lexists(p))
    if not held.is_dir():
        raise RunError(f"{held} is a file, not a folder; give another --out")
    if not os.access(held, os.W_OK | os.X_OK):
        raise RunError(f"the folder {held} may not be written to; give another --out")
    if resume and not out.exists():
        beside = [p for p in _folders(out.parent) if _unfinished(p)]
        start = f"innerloop: --resume finds no run in {out}: a new one starts there{_near(out, beside)}"
        print(start, file=sys.stderr, flush=True)


def _unfinished(path: Path) -> bool:
    run = RunFolder(path)
    study = (path / "maml").is_dir() and not (path / "summary.json").exists()
    return study or (run.exists and not run.finished)


def _folders(parent: Path) -> list[Path]:
    return sorted(p for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []


def _near(path: Path, beside: Sequence[Path]) -> str:
    return did_you_mean(path.name, (p.name for p in beside))


def whole_names(args: Sequence[str]) -> list[str]:
    """The arguments with --model as what it is short for, --model.arch."""
    return ["--model.arch" + a.removeprefix("--model") if a.partition("=")[0] == "--model" else a for a in args]


def value_of(args: Sequence[str], flag: str) -> str | None:
    """The value of `flag` in raw arguments (``--flag value`` or ``--flag=value``; the last one counts)."""
    found = None
    for i, arg in enumerate(args):
        if arg == flag and i + 1 < len(args):
            found = args[i + 1]
        elif arg.startswith(f"{flag}="):
            found = arg.split("=", 1)[1]
    return found


def start_of(name: str, config: Config) -> str:
    """What a folder's name says of a training that started from a preset: the preset, or TASK-like-PRESET where the
    task is another than the preset's."""
    own = preset(name)
    if all(getattr(config, f) == getattr(own, f) for f in ("data", "split_scheme", "way", "shot")):
        return name
    split = "" if config.split_scheme == own.split_scheme else f"{config.split_scheme}-"
    ways = "" if config.regression else f"{config.way}way-"
    task = f"{config.dataset.name}-{split}{ways}{config.shot}shot-like-{name}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", task)


def starting_config(args: Sequence[str], default: str) -> tuple[str, Config]:
    """The preset that the arguments name, for the method that they name: the defaults of all other options."""
    name = value_of(args, "--preset") or default
    method = value_of(args, "--method")
    config = preset(name, method)
    data = value_of(args, "--data")
    if data and data != config.data:
        config = replace(config, split_scheme="")
    return name, config
