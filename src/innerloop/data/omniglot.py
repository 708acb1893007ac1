"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake, Salakhutdinov, Tenenbaum, Science 2015).

Pictures are 28×28 with strokes = 1 on 0: the 105×105 1-bit original becomes grey before it is resized by Lanczos (so that
strokes are anti-aliased), and is inverted.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch

from innerloop.core.episodes import ClassImages
from innerloop.data.lists import split_lines
from innerloop.data.picture import picture
from innerloop.data.places import DataCorrupt, cache_root, data_root, find
from innerloop.data.progress import Progress, silent
from innerloop.data.sources import OMNIGLOT, missing
from innerloop.data.store import cached
from innerloop.data.tree import Tree, open_tree

Scheme = Literal["vinyals", "lake"]
VERSION = "omniglot 28x28 lanczos inverted 1"
PARTS = ("images_background", "images_evaluation")
CHARACTERS, DRAWERS = 1623, 20


def load_omniglot(
    scheme: Scheme = "vinyals",
    *,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """Omniglot with the splits of `scheme`.

    "vinyals": 1,028/172/423 characters, each of whose four rotations is a class of its own (4,112/688/1,692 classes called
    alphabet/character/rotDDD, DDD degrees counter-clockwise); the split of Vinyals et al. as in Snell et al. 2017.
    "lake": 1,623 characters without rotations; train are the first 25 background alphabets by name, val the last 5 of them
    (this library's choice: Lake et al. have no validation set), test the 20 evaluation alphabets.

    Raises DataMissing when the archives are neither there nor in the cache, DataCorrupt when they are not whole.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"omniglot has no split scheme {scheme!r}; it has {', '.join(get_args(Scheme))}")
    characters = load_characters(data_dir=data_dir, cache_dir=cache_dir, progress=progress)
    return with_rotations(characters) if scheme == "vinyals" else by_alphabet(characters)


def load_characters(
    *, data_dir: Path | str | None = None, cache_dir: Path | str | None = None, progress: Progress = silent
) -> ClassImages:
    """The 1,623 characters (uint8 [32460, 1, 28, 28], 25 MB) in the order of their names, without splits."""
    root, cache = data_root(data_dir), cache_root(cache_dir) / "omniglot-28.safetensors"
    places = [find(root, OMNIGLOT.folders, (f"{part}.zip", part)) for part in PARTS]
    paths = [p for p in places if p is not None]

    def build() -> ClassImages:
        for part, path in zip(PARTS, places, strict=True):
            if path is None:
                raise missing(OMNIGLOT, f"{part}.zip", root)
        return whole(read_characters(trees, progress), paths)

    with contextlib.ExitStack() as stack:
        trees = [stack.enter_context(open_tree(p)) for p in paths]
        fingerprint = " ".join(t.fingerprint() for t in trees) if len(trees) == len(PARTS) else None
        return cached(cache, VERSION, fingerprint, build)


def read_characters(trees: Sequence[Tree], progress: Progress = silent) -> ClassImages:
    """Decode every …/ALPHABET/CHARACTER/IMAGE.png of the trees; a class is called ALPHABET/CHARACTER."""
    found: dict[str, list[tuple[Tree, str]]] = {}
    for tree in trees:
        for path in tree.sizes:
            parts = path.split("/")
            if len(parts) >= 3 and path.lower().endswith(".png"):
                found.setdefault("/".join(parts[-3:-1]), []).append((tree, path))
    if not found:
        raise DataCorrupt(f"no ALPHABET/CHARACTER/IMAGE.png in {', '.join(str(t.root) for t in trees)}")
    names = sorted(found)
    files = [f for name in names for f in found[name]]
    images = torch.empty(len(files), 1, 28, 28, dtype=torch.uint8)
    for i, (tree, path) in enumerate(files):
        images[i] = torch.from_numpy(255 - picture(tree.read(path), 28, 1, f"{tree.root}/{path}"))
        if i % 500 == 0:
            progress("reading omniglot", i, len(files))
    progress("reading omniglot", len(files), len(files))
    count = torch.tensor([len(found[name]) for name in names])
    return ClassImages(
        "omniglot", images, count.cumsum(0) - count, count, torch.zeros_like(count), tuple(names)
    )


def whole(characters: ClassImages, paths: Sequence[Path]) -> ClassImages:
    """The same, or DataCorrupt unless they are all 1,623 characters with 20 drawings each."""
    where = " and ".join(map(str, paths))
    if len(characters.class_names) != CHARACTERS:
        raise DataCorrupt(
            f"{where} hold {len(characters.class_names)} characters; Omniglot has {CHARACTERS:,}"
        )
    for name, count in zip(characters.class_names, characters.count.tolist(), strict=True):
        if count != DRAWERS:
            raise DataCorrupt(f"{where}: character {name} has {count} drawings; it should have {DRAWERS}")
    return characters


def with_rotations(characters: ClassImages) -> ClassImages:
    """The "vinyals" scheme: four classes a character, which share its images."""
    number = {name: i for i, name in enumerate(characters.class_names)}
    names = tuple(f"{name}/rot{90 * k:03}" for name in characters.class_names for k in range(4))
    splits = {
        split: tuple(4 * number[name] + k for name in character_list(rows) for k in range(4))
        for split, rows in split_lines("omniglot_vinyals").items()
    }
    return ClassImages(
        "omniglot",
        characters.images,
        characters.first.repeat_interleave(4),
        characters.count.repeat_interleave(4),
        torch.arange(4).repeat(len(characters.class_names)),
        names,
        splits,
    )


def by_alphabet(characters: ClassImages) -> ClassImages:
    """The "lake" scheme: whole alphabets, no rotations."""
    home = {a: split for split, alphabets in split_lines("omniglot_lake").items() for a in alphabets}
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for i, name in enumerate(characters.class_names):
        splits[home[name.split("/")[0]]].append(i)
    return ClassImages(
        "omniglot",
        characters.images,
        characters.first,
        characters.count,
        characters.turns,
        characters.class_names,
        {split: tuple(classes) for split, classes in splits.items()},
    )


def character_list(rows: Sequence[str]) -> list[str]:
    """The characters that lines like "Angelic 1-3 7" stand for: Angelic/character01, …02, …03, …07."""
    names = []
    for row in rows:
        alphabet, *runs = row.split(" ")
        for run in runs:
            low, _, high = run.partition("-")
            names += [f"{alphabet}/character{i:02}" for i in range(int(low), int(high or low) + 1)]
    return names
