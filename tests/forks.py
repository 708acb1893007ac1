"""Child processes that need not import torch again, for attacks on whole runs; and the runs that are attacked."""

import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from innerloop import cli
from innerloop.runs import RunFolder
from innerloop.training import build
from tiny import FLAGS, load_blobs

environment: Any = sys.modules["innerloop.runs.environment"]  # the name in the package is the function
OUT = "run"
"""the folder, in a trial's own"""
RL = shlex.split("""
    --iterations 4 --meta-batch 2 --rollouts 3 --trpo.curvature-rollouts 2 --trpo.cg-iterations 4 --horizon 4
    --policy.hidden 5 --validation.every 2 --validation.tasks 2 --test.tasks 3 --test.rollouts 2 --test.steps 2
    --threads 1
""")
DAGAN = shlex.split("""
    --sizes.widths 4 4 --sizes.noise 2 --steps 4 --critic-steps 2 --batch 4 --lr 1e-3 --every 2 --images 3 --samples 2
    --device cpu
""")
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "train": (["train", *FLAGS, "--threads", "1", "--out", OUT], ["evaluate", OUT]),
    "trpo": (["rl", "train", *RL, "--method", "anil", "--out", OUT], ["rl", "evaluate", OUT]),
    "ppo": (["rl", "train", *RL, "--outer", "ppo", "--out", OUT], ["rl", "evaluate", OUT]),
    "dagan": (
        ["dagan", *DAGAN, "--threads", "1", "--out", OUT],
        ["dagan", "--images", "3", "--samples", "2", "--samples-only", "--out", OUT],
    ),
    "study": (["study", *FLAGS, "--threads", "1", "--out", OUT], []),
    "reproduce": (shlex.split(f"reproduce table2 --budget smoke --way 3 --seeds 0 --threads 1 --out {OUT}"), []),
}
"""by name: the command that trains and tests, and the one that tests a finished run again"""


def run_to_the_end(name: str) -> int:
    """Begin, or go on, in the current folder, as a user would; returns the exit status."""
    start, test = COMMANDS[name]
    if name == "reproduce":
        return cli.run(start)  # it goes on by itself
    if name == "study":
        if (Path(OUT) / "report.html").exists():
            return 0  # finished: it cannot be gone on with
        return cli.run([*start, *(["--resume"] if Path(OUT).exists() else [])])
    folder = RunFolder(Path(OUT))
    if folder.finished:
        return cli.run(test)
    return cli.run([*start, *(["--resume"] if folder.exists else [])])


@contextmanager
def prepared() -> Iterator[Path]:
    """A folder to work in; images are made, not read or drawn."""
    before, folder = Path.cwd(), Path(tempfile.mkdtemp(prefix="innerloop-attack-"))
    load, commit = build.load_images, environment.commit
    torch.set_num_threads(1)
    build.load_images = load_blobs
    environment.commit = lambda: None  # git takes longer than a run
    os.environ["INNERLOOP_CACHE"] = str(folder / "cache")
    try:
        os.chdir(folder)
        yield folder
    finally:
        os.chdir(before)
        build.load_images, environment.commit = load, commit
        shutil.rmtree(folder)


def warm(name: str, folder: Path) -> None:
    """Run to the end here, so that the children find everything imported."""
    folder.mkdir(parents=True)
    before = Path.cwd()
    os.chdir(folder)
    with Path("log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        if status := run_to_the_end(name):
            raise SystemExit(f"{name} does not run ({status}): {Path('log').read_text()}")
    os.chdir(before)


def fork(work: Callable[[], int], folder: Path) -> int:
    """Start `work` in a child process, in that folder; gives its process id. What it prints is in FOLDER.log."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        with folder.with_name(f"{folder.name}.log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            sys.stdout = sys.stderr = log
            status = work()
            log.flush()
    except BaseException:
        import traceback

        with folder.with_name(f"{folder.name}.log").open("a") as log:
            traceback.print_exc(file=log)
    finally:
        os._exit(status)


def wait(process: int) -> int:
    """The exit status of a child; that of a killed one is minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def all_of(works: Sequence[Callable[[], int]], folders: Sequence[Path]) -> list[int]:
    """Exit statuses of children that begin at the same time."""
    ready, go = os.pipe()

    def held(work: Callable[[], int]) -> int:
        os.close(go)
        os.read(ready, 1)  # until the parent closes its end
        return work()

    found = [fork(lambda w=w: held(w), f) for w, f in zip(works, folders, strict=True)]
    os.close(ready)
    os.close(go)
    return [wait(p) for p in found]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def together(size: int, where: Path, work: Callable[[], int]) -> list[int]:
    """Exit statuses of `size` processes that see what torchrun would have told them; what they print is in N.log."""
    port = str(free_port())

    def of(rank: int) -> Callable[[], int]:
        def run() -> int:
            torch.set_num_threads(1)
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=port
            )
            os.chdir(where)
            return work()

        return run

    where.mkdir(exist_ok=True)
    return all_of([of(r) for r in range(size)], [where / str(r) for r in range(size)])


def report(what: str, tried: int, broken: Sequence[str]) -> bool:
    """Print the figures, and what broke."""
    for line in broken:
        print(f"  broken: {line}")
    print(f"{what}: tried {tried}, survived {tried - len(broken)}", flush=True)
    return not broken
