"""The published class splits that are shipped with the package: one class (or group of classes) a line."""

from importlib import resources

from innerloop.core.episodes import SPLITS


def lines(scheme: str, split: str) -> list[str]:
    """The lines of the shipped list `splits/SCHEME/SPLIT.txt`."""
    path = resources.files("innerloop.data") / "splits" / scheme / f"{split}.txt"
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def split_lines(scheme: str) -> dict[str, list[str]]:
    """split name (train, val, test) -> its lines."""
    return {split: lines(scheme, split) for split in SPLITS}
