"""Several processes at once in one folder: nothing is lost, nothing is mixed.

python tests/attacks/concurrent_writers.py
"""

import csv
import html
import json
import logging
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))

import torch
from PIL import Image

from forks import COMMANDS, OUT, all_of, fork, prepared, report, run_to_the_end, wait, warm
from innerloop import cli
from innerloop.data import store
from innerloop.runs import RunFolder
from innerloop.training import Progress, train
from tiny import SINES, assert_same, blobs

AT_ONCE = 4


def evaluations(name: str, folder: Path) -> str:
    """Four tests of one run at once; each is in eval.json afterwards."""
    warm(name, folder / "warm")
    run, (_, test) = folder / "warm" / OUT, COMMANDS[name]
    (run / "eval.json").unlink()
    works: list[Callable[[], int]] = [lambda n=n: cli.run([*test, "--seed", str(100 + n)]) for n in range(AT_ONCE)]
    found = all_of(works, [folder / "warm"] * AT_ONCE)
    seeds = sorted(r["settings"]["seed"] for r in json.loads((run / "eval.json").read_text())["evaluations"])
    good = found == [0] * AT_ONCE and seeds == [100 + n for n in range(AT_ONCE)] and not list(run.rglob("*.part"))
    return "" if good else f"ended with {found}, eval.json has the seeds {seeds}"


def trainers(name: str, folder: Path) -> str:
    """Four trainings of one folder at once: one does it, the others are told that it does, or has done it."""
    (folder / "one").mkdir(parents=True)
    start = COMMANDS[name][0]
    found = all_of([lambda: cli.run(start)] * AT_ONCE, [folder / "one"] * AT_ONCE)
    said = (folder / "one.log").read_text()
    told = len(re.findall(f"another process is training in {OUT} now|{OUT} holds a finished run", said))
    again = run_to_the_end_in(name, folder / "two")
    try:
        assert again == 0
        assert sorted(found) == [0, 1, 1, 1]
        assert told == AT_ONCE - 1
        if name == "train":
            assert_same(folder / "one" / OUT, folder / "two" / OUT)
    except AssertionError as error:
        errors = [line for line in said.splitlines() if line.startswith("innerloop: ")]
        return f"ended with {found}: {errors} {error}"
    return ""


def run_to_the_end_in(name: str, folder: Path) -> int:
    """In a child."""
    return wait(fork(lambda: run_to_the_end(name), folder))


def while_training(folder: Path) -> str:
    """Tests of a run while another process trains it: all are kept, and the training ends as if alone."""
    folder.mkdir(parents=True)
    config = SINES

    def slowly(_: Progress) -> None:
        time.sleep(0.15)

    def training() -> int:
        train(config, Path(OUT), report=slowly)
        return 0

    def tests() -> int:
        run = RunFolder(Path(OUT))
        while not run.has("last"):
            time.sleep(0.01)
        status = 0
        for n in range(4):
            status = status or cli.run(["evaluate", OUT, "--which", "last", "--seed", str(n)])
        return status

    found = [wait(p) for p in (fork(training, folder), fork(tests, folder))]
    found.append(wait(fork(lambda: (train(config, Path("alone")), 0)[1], folder)))
    run = RunFolder(folder / OUT)
    try:
        assert found == [0, 0, 0]
        assert_same(folder / OUT, folder / "alone")
        assert len(run.evaluations) == 4
    except AssertionError as error:
        return f"ended with {found}, {len(run.evaluations)} evaluations: {error}"
    return ""


def classifications(folder: Path) -> str:
    """Four sortings of different pictures into one folder: its three files are of one of them."""
    from test_classify import COLOURS, quarters

    from innerloop.estimator import bodies

    def sort(n: int) -> int:
        bodies.pretrained = quarters  # in this child alone
        return cli.run(["classify", "--support", "examples", "--images", f"new{n}", "--method", "nil", "--out", "o"])

    folder.mkdir(parents=True)
    for name, (r, g, b) in COLOURS.items():
        for i in range(3):
            place = folder / "examples" / name
            place.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 10), (r + 9 * i, g + 5 * i, b + 2 * i)).save(place / f"{i}.png")
        for n in range(AT_ONCE):
            place = folder / f"new{n}"
            place.mkdir(exist_ok=True)
            Image.new("RGB", (12, 10), (r - 3 * n, g + 7 * n, b)).save(place / f"{name}.png")
    found = all_of([lambda n=n: sort(n) for n in range(AT_ONCE)], [folder] * AT_ONCE)
    try:
        in_json = {p["file"] for p in json.loads((folder / "o" / "predictions.json").read_text())["pictures"]}
        in_csv = {r["file"] for r in csv.DictReader((folder / "o" / "predictions.csv").read_text().splitlines())}
        page = html.unescape((folder / "o" / "gallery.html").read_text())
        on_page = set(re.findall(r"new\d/\w+\.png", page))
        left = sorted(p.name for p in (folder / "o").iterdir())
        assert found == [0] * AT_ONCE
        assert in_json == in_csv == on_page, (in_json, in_csv, on_page)
        assert left == [".lock", "gallery.html", "predictions.csv", "predictions.json"], left
    except (AssertionError, OSError, ValueError) as error:
        return f"ended with {found}: {error} {folder.with_name(f'{folder.name}.log').read_text()[-300:]}"
    return ""


def first_uses(folder: Path) -> str:
    """Four first uses of one data cache: each gets the images, and the file is whole."""
    folder.mkdir(parents=True)
    path, logger = folder / "cache" / "blobs.safetensors", logging.getLogger("innerloop.data")

    def use() -> int:
        logger.addHandler(logging.StreamHandler())
        found = store.cached(path, "1", "x", blobs)
        return 0 if torch.equal(found.images, blobs().images) else 3

    found = all_of([use] * AT_ONCE, [folder] * AT_ONCE)
    said = folder.with_name(f"{folder.name}.log").read_text()
    good = torch.equal(store.read(path, "1", "x").images, blobs().images)
    left = [p.name for p in path.parent.iterdir()]
    return "" if found == [0] * 4 and good and left == [path.name] and not said else f"{found}, {left}, {said[-300:]}"


def main(times: int = 24, others: int = 6, policies: int = 6) -> bool:
    """All trials; prints the figures."""
    kinds: list[tuple[str, Callable[[Path], str], int]] = [
        ("four evaluations of one run", lambda f: evaluations("train", f), times),
        ("four evaluations of one policy", lambda f: evaluations("trpo", f), policies),
        ("four trainings of one folder", lambda f: trainers("train", f), others),
        ("four trainings of one policy", lambda f: trainers("ppo", f), policies),
        ("evaluations while training", while_training, others),
        ("four classifications into one folder", classifications, others),
        ("four first uses of a data cache", first_uses, others),
    ]
    tried, broken = 0, []
    with prepared() as folder:
        for what, attack, number in kinds:
            bad = []
            for n in range(number):
                if found := attack(folder / f"{n}"):
                    bad.append(f"{what}: {found}")
                shutil.rmtree(folder / f"{n}")
                (folder / f"{n}.log").unlink(missing_ok=True)
            report(what, number, bad)
            tried, broken = tried + number, broken + bad
    return report("concurrent_writers", tried, broken)


if __name__ == "__main__":
    sys.exit(not main())
