"""How much code must be read to follow one trip: the files and functions of innerloop that it enters.

python benchmarks/trip.py                 a table of all trips, with the goals beside
python benchmarks/trip.py maml --each     also each file with its functions

Counted by tracing a real command line from the first call of one function to the return of another (both named in
`TRIPS`; what the arguments of the first call need is not counted). The lines are those from `def` to the end of every
function that is entered, docstrings and nested functions with them, each line once; class bodies, module code and
generated methods are not counted.
"""

import argparse
import ast
import contextlib
import io
import multiprocessing
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

SMALL = "--outer.steps 2 --validation.every 2 --validation.episodes 4 --test.episodes 4 --device cpu --threads 1"


@dataclass(frozen=True)
class Trip:
    """One way through the code."""

    about: str
    command: str
    first: str
    last: str
    goal_files: int | None = None
    goal_lines: int | None = None


def _training(method: str, goal_files: int | None = None, goal_lines: int | None = None) -> Trip:
    command = f"train --preset quick {SMALL} --method {method}"
    return Trip(f"{method}, sampler to meta-gradient", command, "sample", "objective_gradient", goal_files, goal_lines)


TRIPS = {
    "maml": _training("maml", 8, 550),
    "anil": _training("anil"),
    "proto": _training("proto"),
    "rl": Trip(
        "RL meta-iteration (TRPO), navigation",
        "rl train --preset navigation-cpu --iterations 2 --meta-batch 2 --validation.tasks 2 --test.tasks 2",
        "sample_tasks",
        "trust_region_step",
        8,
        600,
    ),
    "study": Trip("study", f"study --preset quick {SMALL}", "run", "run", 40),
}
"""first, last: names of functions of innerloop"""


def entered(trip: Trip) -> dict[str, list[tuple[str, int, int]]]:
    """For each file of the package the functions that were entered: name, first and last line."""
    from innerloop import cli

    package = str(Path(str(cli.__file__)).parents[1])
    seen: dict[CodeType, None] = {}
    state = {"open": False, "done": False}
    frame_of_last: list[FrameType] = []

    def trace(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if state["done"] or not code.co_filename.startswith(package):
            return
        if event == "call":
            state["open"] = state["open"] or code.co_name == trip.first
            if state["open"] and code.co_flags & 1:  # optimised locals: a function, no class body and no module
                seen[code] = None
                if code.co_name == trip.last and not frame_of_last:
                    frame_of_last.append(frame)
        elif event == "return" and frame_of_last and frame is frame_of_last[0]:
            state["done"] = True

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["INNERLOOP_CACHE"] = f"{folder}/cache"
        sys.setprofile(trace)
        status = cli.run([*shlex.split(trip.command), "--out", f"{folder}/out"])
        sys.setprofile(None)
    if status or not state["done"]:
        raise SystemExit(f"{trip.command}: status {status}; {trip.last}() {'returned' if state['done'] else 'not met'}")
    ends: dict[str, dict[int, int]] = {}
    found: dict[str, list[tuple[str, int, int]]] = {}
    for code in seen:
        file = code.co_filename
        if file not in ends:
            ends[file] = {}
            for node in ast.walk(ast.parse(Path(file).read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    for line in (node.lineno, *(d.lineno for d in node.decorator_list)):
                        ends[file][line] = node.end_lineno or node.lineno
        at = code.co_firstlineno
        found.setdefault(file.removeprefix(package + "/"), []).append((code.co_name, at, ends[file].get(at, at)))
    return found


def lines_of(functions: list[tuple[str, int, int]]) -> int:
    """Distinct lines."""
    return len({line for _, first, last in functions for line in range(first, last + 1)})


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
