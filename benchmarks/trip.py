"""How much code must be read to follow one trip: the files and functions of innerloop that it enters.

python benchmarks/trip.py                 a table of all trips, with the goals beside
python benchmarks/trip.py maml --each     also each file with its functions

Counted by tracing a real command line from the first call of one function to the return of another (both named in
`TRIPS`; what the arguments of the first call need is not counted). The lines are those from `def` to the end of every
function that is entered, docstrings and nested functions with them, each line once; class bodies, module code and
generated methods are not counted.
"""

import argparse
import contextlib
import inspect
import io
import multiprocessing
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType


@dataclass(frozen=True)
class Trip:
    """One way through the code."""

    about: str
    command: str
    first: str
    last: str
    goal_files: int | None = None
    goal_lines: int | None = None


SMALL = "--outer.steps 2 --validation.every 2 --validation.episodes 4 --test.episodes 4 --device cpu --threads 1"
TRAIN = f"train --preset quick {SMALL} --method"
RL = "rl train --preset navigation-cpu --iterations 2 --meta-batch 2 --validation.tasks 2 --test.tasks 2 --threads 1"
SAMPLER_TO_GRADIENT = ("sample", "objective_gradient")
TRIPS = {
    "maml": Trip("maml, sampler to meta-gradient", f"{TRAIN} maml", *SAMPLER_TO_GRADIENT, 8, 550),
    "anil": Trip("anil, sampler to meta-gradient", f"{TRAIN} anil", *SAMPLER_TO_GRADIENT),
    "proto": Trip("proto, sampler to gradient", f"{TRAIN} proto", *SAMPLER_TO_GRADIENT),
    "rl": Trip("RL meta-iteration, navigation, TRPO", RL, "sample_tasks", "trust_region_step", 8, 600),
    "study": Trip("study", f"study --preset quick {SMALL}", "run", "run", 40),
}
"""first, last: names of functions of innerloop"""


def entered(trip: Trip) -> dict[str, list[tuple[str, range]]]:
    """For each file of the package the functions that were entered, with their lines."""
    from innerloop import cli

    package = str(Path(str(cli.__file__)).parents[1])
    seen: dict[tuple[str, CodeType], None] = {}  # code of two files can be equal
    inside: list[FrameType] = []  # the call that the trip ends with
    done = False

    def trace(frame: FrameType, event: str, _: object) -> None:
        nonlocal done
        code = frame.f_code
        if done or not (code.co_filename.startswith(package) and code.co_filename.endswith(".py")):
            return
        if event == "call" and (seen or code.co_name == trip.first) and code.co_flags & inspect.CO_OPTIMIZED:
            seen[code.co_filename, code] = None  # a function: class bodies and modules are not optimised
            if code.co_name == trip.last and not inside:
                inside.append(frame)
        done = event == "return" and inside == [frame]

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["INNERLOOP_CACHE"] = f"{folder}/cache"
        sys.setprofile(trace)
        status = cli.run([*shlex.split(trip.command), "--out", f"{folder}/out"])
        sys.setprofile(None)
    if status or not done:
        raise SystemExit(
            f"{trip.command}: status {status}, {trip.first}() to {trip.last}() {'' if done else 'not '}met"
        )
    found: dict[str, list[tuple[str, range]]] = {}
    for file, code in seen:
        if not code.co_name.startswith("<"):  # a lambda or comprehension lies in a function
            source, at = inspect.getsourcelines(code)
            found.setdefault(file.removeprefix(package + "/"), []).append((code.co_name, range(at, at + len(source))))
    return found


def lines_of(functions: list[tuple[str, range]]) -> int:
    """How many they have, each counted once."""
    return len({line for _, lines in functions for line in lines})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trips", nargs="*", choices=[*TRIPS, []], default=[])
    parser.add_argument("--each", action="store_true")
    args = parser.parse_args()
    names = args.trips or list(TRIPS)
    print(f"{'trip':<40} {'files':>6} {'goal':>5} {'lines':>7} {'goal':>5}")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # no cache is warm
        for name, found in zip(names, pool.imap(entered, [TRIPS[n] for n in names], chunksize=1), strict=True):
            trip = TRIPS[name]
            lines = sum(map(lines_of, found.values()))
            print(f"{trip.about:<40} {len(found):>6} {trip.goal_files or '':>5} {lines:>7} {trip.goal_lines or '':>5}")
            if args.each:
                for file, functions in sorted(found.items(), key=lambda f: -lines_of(f[1])):
                    print(f"    {lines_of(functions):>5}  {file}: {', '.join(dict.fromkeys(f[0] for f in functions))}")


if __name__ == "__main__":
    main()
