"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al., Science 350, 2015).

Pictures are 28×28 with strokes = 1 on 0: the 105×105 1-bit original becomes grey before it is resized by
Lanczos, so that strokes are anti-aliased, and is inverted.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from innerloop.core.episodes import ClassImages
from innerloop.data.archive import open_archive
from innerloop.data.dataset import Dataset, Download
from innerloop.data.decode import decode
from innerloop.data.paths import DataCorrupt
from innerloop.data.progress import Progress, silent
from innerloop.data.splits import by_group, group, numbered, split_lines

CHARACTERS = 1623


def read(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """All 1,623 characters with 20 drawings each, or DataCorrupt."""
    characters = read_characters(paths, progress)
    where = " and ".join(map(str, paths))
    if len(characters.class_names) != CHARACTERS:
        raise DataCorrupt(f"{where} hold {len(characters.class_names)} characters, Omniglot has {CHARACTERS}")
    for name, count in zip(characters.class_names, characters.count.tolist(), strict=True):
        if count != 20:
            raise DataCorrupt(f"{where}: character {name} has {count} drawings, it should have 20")
    return characters


def read_characters(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """Decode every …/ALPHABET/CHARACTER/IMAGE.png of the archives; classes are ALPHABET/CHARACTER."""
    with ExitStack() as stack:
        files = {}
        for archive in (stack.enter_context(open_archive(path)) for path in paths):
            for path in archive.paths:
                parts = path.split("/")
                if len(parts) >= 3 and path.endswith(".png"):
                    files.setdefault("/".join(parts[-3:-1]), []).append((archive, path))
        ordered = {name: files[name] for name in sorted(files)}
        return decode("omniglot", ordered, size=28, channels=1, invert=True, progress=progress)


def character_names(lines: Sequence[str]) -> list[str]:
    """The characters that lines like "Angelic 1-2" stand for: Angelic/character01, Angelic/character02."""
    return [f"{alphabet}/character{i:02}" for alphabet, ids in map(numbered, lines) for i in ids]


def vinyals(_: Sequence[str]) -> dict[str, list[str]]:
    """1,028/172/423 characters: the split of Vinyals et al. as in Snell et al. 2017."""
    return {split: character_names(lines) for split, lines in split_lines("omniglot_vinyals").items()}


def lake(names: Sequence[str]) -> dict[str, list[str]]:
    """Whole alphabets: train are the first 25 background alphabets by name, val the last 5 (this library's choice: Lake
    et al. have no validation set), test the 20 evaluation alphabets."""
    return by_group(names, {alphabet: split for split, own in split_lines("omniglot_lake").items() for alphabet in own})


def concepts(name: str, across: bool) -> frozenset[str]:
    """The character, whatever its rotation; across data sets its alphabet."""
    return frozenset((group(name) if across else "/".join(name.split("/")[:2]),))


_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_LAKE = Dataset(
    name="omniglot",
    title="Omniglot, 28×28 grey, strokes = 1",
    shape=(1, 28, 28),
    drawn=True,
    read=read,
    scheme="lake",
    splits=lake,
    domain="letters",
    concepts=concepts,
    version="28x28 grey lanczos inverted 1",
    cache="omniglot-28.safetensors",
    folders=("omniglot", "omniglot/python"),
    files=(
        Download(
            "images_background.zip",
            f"{_URL}images_background.zip",
            9_464_212,
            "68d2efa1b9178cc56df9314c21c6e718",
            ("65b711db62d00486775fcbf65e0c006f97b041aa59da4617d24d2de86991c6c5",),
            ("images_background",),
        ),
        Download(
            "images_evaluation.zip",
            f"{_URL}images_evaluation.zip",
            6_462_886,
            "6b91aef0f799c5bb55b94e3f2daec811",
            ("060a71c5b53e7738c1de31ba401f625a6d3b74aad3e6ea52deb8aa4076f04b02",),
            ("images_evaluation",),
        ),
    ),
    by_hand="put images_background.zip and images_evaluation.zip (or both unpacked)",
    classes=CHARACTERS,
    images=20 * CHARACTERS,
    licence="MIT, (c) 2015 Brenden Lake",
    citation="B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-level concept learning through "
    "probabilistic program induction. Science 350, 2015.",
)
OMNIGLOT = replace(_LAKE, scheme="vinyals", splits=vinyals, rotations=True, schemes=(_LAKE,))
"""Its classes are the four rotations of each character, 4,112/688/1,692; those of the scheme "lake" are 1,623 upright
characters."""
