"""Kill a process at any moment, go on, and compare all that is left with a run that was never stopped.

    python tests/attacks/kill_and_resume.py [train trpo ppo dagan study reproduce]

Kills: before a file-system event (opening a file to write, renaming, making a folder, removing), after half of a file
was written, and at random. What is compared, to the last bit: weights, optimizer, state, metrics, evaluations,
results; not clocks, and of pictures and pages only that they are there.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from safetensors.torch import load_file

from forks import COMMANDS, OUT, fork, prepared, report, run_to_the_end, wait, warm

EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
CLOCKS = ("command", "commit", "cost", "date", "env", "train_seconds")
PLAN = {"train": (1, 20), "trpo": (2, 12), "ppo": (2, 12), "dagan": (2, 12), "study": (24, 4), "reproduce": (16, 4)}
"""by command: a kill before every so many-th event, and random kills"""


@dataclass(frozen=True)
class Kill:
    """When a process is killed."""

    how: str
    """event: before one; torn: when a file is to be flushed to disk, of which only half is kept; random"""
    at: float
    """the number of the event or file, or seconds"""


def killed(name: str, kill: Kill) -> int:
    """The command, as a child that kills itself, or is killed by its parent."""
    seen = 0

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if _writes(event, args):
            seen += 1
            if seen == kill.at:
                os.kill(os.getpid(), signal.SIGKILL)

    def torn(file: int) -> None:
        nonlocal seen
        seen += 1
        if seen == kill.at:
            os.truncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        whole(file)

    whole = os.fsync
    if kill.how == "event":
        sys.addaudithook(count)
    elif kill.how == "torn":
        os.fsync = torn
    return run_to_the_end(name)


def _writes(event: str, args: tuple[Any, ...]) -> bool:
    """Whether an audit event changes files of the run: they are named without a leading slash."""
    if event == "open":
        name, mode, flags = args
        writes = any(c in (mode or "") for c in "wxa+") or flags & (os.O_WRONLY | os.O_RDWR)
    else:
        name, writes = (args or (None,))[0], event in EVENTS
    return bool(writes) and isinstance(name, str | os.PathLike) and not Path(name).is_absolute()


def events(name: str, folder: Path) -> tuple[int, int]:
    """How many events, and files flushed to disk, an uninterrupted run has."""

    def counted() -> int:
        found = [0, 0]

        def count(event: str, args: tuple[Any, ...]) -> None:
            found[0] += _writes(event, args)

        def flush(file: int) -> None:
            found[1] += 1
            whole(file)

        whole = os.fsync
        os.fsync = flush
        sys.addaudithook(count)
        status = run_to_the_end(name)
        Path("../events.json").write_text(json.dumps(found))
        return status

    if wait(fork(counted, folder)):
        raise SystemExit(
            f"{name} does not run: see {folder}.log\n" + folder.with_name(f"{folder.name}.log").read_text()
        )
    found = json.loads((folder.parent / "events.json").read_text())
    return found[0], found[1]


def left(folder: Path) -> dict[str, Any]:
    """All files of a run by name, without clocks."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, content = str(path.relative_to(folder)), None
        if path.suffix == ".json":
            content = timeless(json.loads(path.read_text()))
        elif path.suffix == ".jsonl":
            content = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".safetensors":
            content = {n: (t.dtype, t.shape, t.numpy().tobytes()) for n, t in load_file(path).items()}
        found[name] = content
    return found


def timeless(value: Any) -> Any:
    """A value of JSON without clocks."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in CLOCKS and not k.startswith("seconds")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def trial(name: str, kill: Kill, whole: dict[str, Any], folder: Path) -> str | None:
    """Kill, go on, compare; gives what differs, "" if nothing, None if the process had ended before."""
    log = folder.with_name(f"{folder.name}.log")
    shutil.rmtree(folder, ignore_errors=True)
    log.unlink(missing_ok=True)
    process = fork(lambda: killed(name, kill), folder)
    if kill.how == "random":
        time.sleep(kill.at)
        os.kill(process, signal.SIGKILL)
    status = wait(process)
    if status == 0:
        return None
    if status != -signal.SIGKILL:
        return f"ended by itself with {status}: {log.read_text()[-300:]}"
    status = wait(fork(lambda: run_to_the_end(name), folder))
    if status:
        return f"did not go on: {log.read_text()[-300:]}"
    found = left(folder / OUT)
    wrong = [n for n in sorted({*whole, *found}) if n not in whole or n not in found or whole[n] != found[n]]
    return f"differ: {', '.join(wrong)}" if wrong else ""


def kills(name: str, folder: Path, every: int, at_random: int, tell: Callable[[str], None]) -> tuple[int, list[str]]:
    """Uninterrupted, then the kills; gives how many there were and what broke."""
    warm(name, folder / "warm")
    began = time.monotonic()
    number, files = events(name, folder / "whole")
    seconds = time.monotonic() - began
    whole = left(folder / "whole" / OUT)
    chance = random.Random(name)
    plan = [Kill("event", n) for n in range(1, number + 1, every)]
    plan += [Kill("torn", n) for n in range(1, files + 1, 3 * every)]
    tell(f"{name}: {number} events, {files} files flushed, {seconds:.1f} s")
    done, broken = 0, []
    for kill in plan:
        found = trial(name, kill, whole, folder / "cut")
        if found is None:
            found = "was not killed"
        done += 1
        broken += [f"{name}, {kill}: {found}"] if found else []
        tell(f"{name}, {kill}: {found or 'same'}")
    missed = 0
    while at_random and missed < 50 * PLAN[name][1]:
        kill = Kill("random", chance.uniform(0, seconds))
        found = trial(name, kill, whole, folder / "cut")
        if found is None:
            missed += 1
            continue
        done, at_random = done + 1, at_random - 1
        broken += [f"{name}, {kill}: {found}"] if found else []
        tell(f"{name}, {kill}: {found or 'same'}")
    return done, broken


def main(plan: dict[str, tuple[int, int]], names: Sequence[str], every: float = 30.0) -> bool:
    """All kills of a plan; prints the figures."""
    tried, broken, said = 0, [], 0.0

    def tell(line: str) -> None:
        nonlocal said
        if not line.endswith("same") or time.monotonic() - said > every:
            said = time.monotonic()
            print(f"  {line}", flush=True)

    with prepared() as folder:
        for name in names:
            done, bad = kills(name, folder / name, *plan[name], tell)
            report(f"{name}: kills", done, bad)
            tried, broken = tried + done, broken + bad
    return report("kill_and_resume", tried, broken)


if __name__ == "__main__":
    names = [n for n in sys.argv[1:] if n in COMMANDS] or list(PLAN)
    sys.exit(not main(PLAN, names))
