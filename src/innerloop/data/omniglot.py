"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al., Science 350, 2015).

Pictures are 28×28 with strokes = 1 on 0: the 105×105 1-bit original becomes grey before it is resized by
Lanczos, so that strokes are anti-aliased, and is inverted.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from innerloop.core.episodes import ClassImages
from innerloop.data.decode import decode
from innerloop.data.lists import numbered, split_lines
from innerloop.data.places import DataCorrupt, find
from innerloop.data.progress import Progress, silent
from innerloop.data.recipe import Recipe
from innerloop.data.sources import OMNIGLOT, missing
from innerloop.data.tree import open_tree
from innerloop.errors import InnerloopError, did_you_mean, quoted

SCHEMES = ("vinyals", "lake")


def load_omniglot(
    scheme: str = "vinyals",
    *,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """Omniglot with the splits of `scheme`.

    "vinyals": 1,028/172/423 characters, each of whose four rotations is a class of its own, called
    alphabet/character/rotDDD (DDD degrees counter-clockwise): 4,112/688/1,692 classes; the split of Vinyals
    et al. as in Snell et al. 2017. "lake": 1,623 characters without rotations; train are the first 25
    background alphabets by name, val the last 5 (this library's choice: Lake et al. have no validation
    set), test the 20 evaluation alphabets.

    Raises DataMissing when the images are neither there nor in the cache, DataCorrupt when they are not
    whole.
    """
    if scheme not in SCHEMES:
        near = did_you_mean(scheme, SCHEMES)
        raise InnerloopError(f"omniglot has no split scheme {quoted(scheme)}; it has {', '.join(SCHEMES)}{near}")
    characters = RECIPE.load(data_dir, cache_dir, progress)
    return with_rotations(characters) if scheme == "vinyals" else by_alphabet(characters)


def locate(root: Path) -> list[Path]:
    """The two archives (or folders) under the data folder; raises DataMissing."""
    found: list[Path] = []
    for archive in OMNIGLOT.archives:
        path = find(root, OMNIGLOT.folders, (archive.file, *archive.alternatives))
        if path is None:
            raise missing(OMNIGLOT, archive.file, root)
        found.append(path)
    return found


def read(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """All 1,623 characters with 20 drawings each, or DataCorrupt."""
    characters = read_characters(paths, progress)
    where = " and ".join(map(str, paths))
    if len(characters.class_names) != OMNIGLOT.classes:
        raise DataCorrupt(f"{where} hold {len(characters.class_names)} characters, Omniglot has {OMNIGLOT.classes}")
    for name, count in zip(characters.class_names, characters.count.tolist(), strict=True):
        if count != 20:
            raise DataCorrupt(f"{where}: character {name} has {count} drawings, it should have 20")
    return characters


def read_characters(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """Decode every …/ALPHABET/CHARACTER/IMAGE.png of the archives; classes are ALPHABET/CHARACTER."""
    with ExitStack() as stack:
        files = {}
        for tree in (stack.enter_context(open_tree(path)) for path in paths):
            for path in tree.paths:
                parts = path.split("/")
                if len(parts) >= 3 and path.endswith(".png"):
                    files.setdefault("/".join(parts[-3:-1]), []).append((tree, path))
        ordered = {name: files[name] for name in sorted(files)}
        return decode("omniglot", ordered, size=28, channels=1, invert=True, progress=progress)


RECIPE = Recipe(OMNIGLOT, "28x28 grey lanczos inverted 1", "omniglot-28.safetensors", locate, read)


def with_rotations(characters: ClassImages) -> ClassImages:
    """The scheme "vinyals": four classes a character, which share its images."""
    number = {name: i for i, name in enumerate(characters.class_names)}
    splits = {
        split: tuple(4 * number[name] + k for name in character_names(lines) for k in range(4))
        for split, lines in split_lines("omniglot_vinyals").items()
    }
    return ClassImages(
        "omniglot",
        characters.images,
        characters.first.repeat_interleave(4),
        characters.count.repeat_interleave(4),
        torch.arange(4).repeat(len(characters.class_names)),
        tuple(f"{name}/rot{90 * k:03}" for name in characters.class_names for k in range(4)),
        splits,
    )


def by_alphabet(characters: ClassImages) -> ClassImages:
    """The scheme "lake": whole alphabets, no rotations."""
    home = {alphabet: split for split, lines in split_lines("omniglot_lake").items() for alphabet in lines}
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for i, name in enumerate(characters.class_names):
        splits[home[name.split("/")[0]]].append(i)
    return replace(characters, splits={split: tuple(classes) for split, classes in splits.items()})


def character_names(lines: Sequence[str]) -> list[str]:
    """The characters that lines like "Angelic 1-2" stand for: Angelic/character01, Angelic/character02."""
    return [f"{alphabet}/character{i:02}" for alphabet, ids in map(numbered, lines) for i in ids]
