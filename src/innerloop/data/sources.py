"""What each data set is, where it comes from, and how it may be used: for `innerloop data list`, `fetch` and `check`."""

from dataclasses import dataclass
from pathlib import Path

from innerloop.data.places import DataMissing, candidates


@dataclass(frozen=True)
class Archive:
    """One file of a data set."""

    file: str
    url: str | None = None
    """where upstream offers it, or None when there is no lawful direct download"""
    size: int | None = None
    """bytes of upstream's file"""
    md5: str | None = None
    """upstream's, 32 hexadecimal digits: what `fetch` demands"""
    sha256: tuple[str, ...] = ()
    """of other known good packings of the same images, which `check` accepts"""
    alternatives: tuple[str, ...] = ()
    """other names or packings that are read in its stead"""


@dataclass(frozen=True)
class Source:
    """A data set: what it holds, who made it, and its files."""

    name: str
    title: str
    folders: tuple[str, ...]
    """folders of the data folder in which its files are looked for, before the data folder itself"""
    archives: tuple[Archive, ...]
    classes: int
    images: int
    shape: tuple[int, int, int]
    """(channels, height, width) as loaded"""
    licence: str
    citation: str
    by_hand: str = ""
    """what to put where, when it cannot be downloaded (or there is no network)"""


OMNIGLOT = Source(
    name="omniglot",
    title="Omniglot, 28×28 grey, strokes = 1",
    folders=("omniglot", "omniglot/python"),
    archives=(
        Archive(
            "images_background.zip",
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/images_background.zip",
            9_464_212,
            "68d2efa1b9178cc56df9314c21c6e718",
            ("65b711db62d00486775fcbf65e0c006f97b041aa59da4617d24d2de86991c6c5",),
            ("images_background",),
        ),
        Archive(
            "images_evaluation.zip",
            "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/images_evaluation.zip",
            6_462_886,
            "6b91aef0f799c5bb55b94e3f2daec811",
            ("060a71c5b53e7738c1de31ba401f625a6d3b74aad3e6ea52deb8aa4076f04b02",),
            ("images_evaluation",),
        ),
    ),
    classes=1623,
    images=32_460,
    shape=(1, 28, 28),
    licence="MIT, (c) 2015 Brenden Lake",
    citation="B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-level concept learning through probabilistic "
    "program induction. Science 350, 2015.",
    by_hand="put images_background.zip and images_evaluation.zip (or both unpacked) into omniglot/",
)


def missing(source: Source, file: str, root: Path) -> DataMissing:
    """The error for a file of `source` that is not under `root`."""
    archive = next((a for a in source.archives if a.file == file), Archive(file))
    looked = candidates(root, source.folders, (file, *archive.alternatives))
    lines = [f"{source.name}: {file} is missing. Looked for:", *(f"  {p}" for p in looked)]
    if archive.url:
        lines += [f"Get it with: innerloop data fetch {source.name}", f"  (from {archive.url})"]
    lines += [
        f"By hand: {source.by_hand} of the data folder {root}",
        "(another data folder: --data-dir, or the environment variable INNERLOOP_DATA).",
    ]
    return DataMissing("\n".join(lines))
