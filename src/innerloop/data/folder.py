"""Images of your own: a tree ROOT/CLASS/IMAGE, in a folder or a zip archive."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from innerloop.core.episodes import SPLITS, ClassImages
from innerloop.core.random import stream
from innerloop.data.bounded import read_file
from innerloop.data.decode import ENDINGS, decode
from innerloop.data.places import DataCorrupt, DataMissing, cache_root
from innerloop.data.progress import Progress, silent
from innerloop.data.store import cached
from innerloop.data.tree import Tree, fingerprint, open_tree
from innerloop.errors import InnerloopError, brief, shown
from innerloop.validated import Channels, NonNegative, Validated, Width

LIST = 1 << 24
"""bytes of a list of classes"""


@dataclass(frozen=True)
class FolderOptions(Validated):
    """How a folder of images is read and split."""

    size: Width = 84
    """every image becomes size×size pixels"""
    channels: Channels = 3
    """3: RGB, 1: grey"""
    split_dir: Path | None = None
    """where train.txt, val.txt and test.txt lie (class names, one a line); None: in ROOT, if any is there"""
    split_seed: int | None = None
    """without lists: the seed by which classes are shared out; None asks for lists"""
    fractions: tuple[NonNegative, NonNegative, NonNegative] = (0.64, 0.16, 0.2)
    """without lists: the shares of train, val and test, together 1"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if abs(sum(self.fractions) - 1) > 1e-6:
            raise InnerloopError(f"fractions must be three shares that sum to 1, got {self.fractions}")


def load_folder(
    root: Path | str,
    options: FolderOptions | None = None,
    *,
    cache_dir: Path | str | None = None,
    progress: Progress = silent,
) -> ClassImages:
    """The classes of `root`, named after its sub-folders, in the order of their names.

    Raises DataMissing if there is no such folder, DataCorrupt for an image that cannot be read, ValueError
    for a split that does not fit the classes. Grey, RGBA, palette, 16-bit and EXIF-rotated images are
    converted (see `picture`); files that do not end like an image are passed over. Classes that no list
    names are in no split. Bytes of a class's name that are no text, and control characters, become escapes such as
    \\udce9, in lists of names too.
    """
    options = options or FolderOptions()
    root = Path(root).expanduser()
    if not root.exists():
        raise DataMissing(f"folder: there is no {root}; it should hold one sub-folder of images a class")
    key = hashlib.sha256(os.fsencode(f"{root.resolve()}\t{options.size}\t{options.channels}")).hexdigest()[:16]

    name = shown(root.stem)

    def build() -> ClassImages:
        with open_tree(root) as tree:
            return decode(name, _classes(tree), size=options.size, channels=options.channels, progress=progress)

    file = cache_root(cache_dir) / f"folder-{key}.safetensors"
    data = cached(file, "1", fingerprint(root), build)
    data = replace(data, class_names=tuple(map(shown, data.class_names)))
    if len(set(data.class_names)) < len(data.class_names):
        same = next(name for name in data.class_names if data.class_names.count(name) > 1)
        raise InnerloopError(f"{shown(root)} has two classes that are both written {brief(same)}; rename one")
    lists = options.split_dir or (root if root.is_dir() else root.parent)
    found = [split for split in SPLITS if (lists / f"{split}.txt").is_file()]
    if options.split_dir is not None and not found:
        raise DataMissing(f"folder: no train.txt, val.txt or test.txt in {options.split_dir}")
    if found:
        splits = {split: _listed(data, lists / f"{split}.txt") for split in found}
    elif options.split_seed is not None:
        splits = share_out(len(data.class_names), options.fractions, options.split_seed)
    else:
        raise InnerloopError(
            f"folder: no split is given for {root}: put train.txt, val.txt and test.txt (class names, one a "
            "line) into it, or name a split seed"
        )
    return replace(data, splits=splits)


def share_out(classes: int, fractions: Sequence[float], seed: int) -> dict[str, tuple[int, ...]]:
    """Share out `classes` at random, by `seed` alone; each share above 0 gets at least one class."""
    edges = [round(classes * sum(fractions[:i])) for i in range(len(fractions) + 1)]
    order = torch.randperm(classes, generator=stream(seed, "class split")).tolist()
    splits: dict[str, tuple[int, ...]] = {}
    for split, share, low, high in zip(SPLITS, fractions, edges, edges[1:], strict=False):
        if share > 0 and low == high:
            raise InnerloopError(f"{classes} classes are too few: a share of {share} leaves none for {split}")
        if share > 0:
            splits[split] = tuple(sorted(order[low:high]))
    return splits


def _classes(tree: Tree) -> dict[str, list[tuple[Tree, str]]]:
    images = [p for p in tree.paths if p.lower().endswith(ENDINGS)]
    cut = 0
    if tree.archive is not None and images:  # an archive often has one folder around the classes
        tops = {p.split("/")[0] for p in images}
        cut = int(len(tops) == 1 and all(p.count("/") == 2 for p in images))
    classes: dict[str, list[tuple[Tree, str]]] = {}
    for path in images:
        parts = path.split("/")[cut:]
        if len(parts) == 2:
            classes.setdefault(parts[0], []).append((tree, path))
    if not classes:
        raise DataCorrupt(f"{tree.root} has no images laid out as CLASS/IMAGE (endings: {', '.join(ENDINGS)})")
    return classes


def _listed(data: ClassImages, path: Path) -> tuple[int, ...]:
    number = {name: i for i, name in enumerate(data.class_names)}
    text = read_file(path, LIST).decode("utf-8", "surrogateescape")
    names = [shown(line.strip()) for line in text.splitlines() if line.strip()]
    if unknown := [name for name in names if name not in number]:
        raise InnerloopError(
            f"{path} names {len(unknown)} classes that have no images, for instance {brief(unknown[0])!r}; "
            f"there are {', '.join(map(brief, data.class_names[:5]))}{' …' if len(number) > 5 else ''}"
        )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InnerloopError(f"{path} names class {brief(twice)!r} twice")
    return tuple(number[name] for name in names)
