"""The published class splits, shipped with the package as text: one class or group of classes a line."""

from importlib import resources

from innerloop.core.episodes import SPLITS


def split_lines(scheme: str) -> dict[str, list[str]]:
    """split name (train, val, test) -> the lines of the shipped list splits/SCHEME/SPLIT.txt."""
    folder = resources.files("innerloop.data") / "splits" / scheme
    return {s: (folder / f"{s}.txt").read_text(encoding="utf-8").split("\n")[:-1] for s in SPLITS}


def numbered(line: str) -> tuple[str, list[int]]:
    """The name and the numbers of a line like "Angelic 1-3 7": ("Angelic", [1, 2, 3, 7])."""
    name, *runs = line.split(" ")
    numbers: list[int] = []
    for run in runs:
        low, _, high = run.partition("-")
        numbers.extend(range(int(low), int(high or low) + 1))
    return name, numbers
