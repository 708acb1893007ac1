"""Images of your own: a tree ROOT/CLASS/IMAGE, in a folder or a zip archive."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from innerloop.core.episodes import SPLITS, ClassImages
from innerloop.data.archive import Archive, open_archive
from innerloop.data.bounded import read_file
from innerloop.data.dataset import Dataset
from innerloop.data.decode import ENDINGS, decode
from innerloop.data.paths import DataCorrupt, DataMissing
from innerloop.data.progress import Progress
from innerloop.data.splits import shared_out
from innerloop.errors import InnerloopError, brief, shown
from innerloop.validated import Channels, Validated, Width

LIST = 1 << 24
"""bytes of a list of classes"""


@dataclass(frozen=True)
class Folder(Validated, at="folder"):
    """For data 'folder': a tree ROOT/CLASS/IMAGE of your own."""

    root: str = ""
    """the folder (or zip archive) of classes"""
    size: Width = 84
    """every image becomes size×size pixels"""
    channels: Channels = 3
    """3: RGB, 1: grey"""
    split_dir: str = ""
    """where train.txt, val.txt and test.txt (class names) lie; empty: in ROOT, if there"""
    split_seed: int = 0
    """without such lists: the seed by which the classes are split 64/16/20"""

    def dataset(self) -> Dataset:
        """The classes of `root`, named after its sub-folders, in the order of their names.

        Loading it raises DataMissing if there is no such folder, DataCorrupt for an image that cannot be read,
        InnerloopError for a split that does not fit the classes. Grey, RGBA, palette, 16-bit and EXIF-rotated images
        are converted (see `picture`); files that do not end like an image are skipped. Classes that no list names
        are in no split. Bytes of a class's name that are not text, and control characters, become escapes such as
        \\udce9, in lists of names too.
        """
        if not self.root:
            raise InnerloopError("data 'folder' needs to know which: give --folder.root ROOT, a tree ROOT/CLASS/IMAGE")
        root = Path(self.root).expanduser()
        name = shown(root.stem) or "folder"
        key = hashlib.sha256(os.fsencode(f"{root.resolve()}\t{self.size}\t{self.channels}")).hexdigest()[:16]

        def locate(_data: Dataset, _root: Path) -> list[Path]:
            if not root.exists():
                raise DataMissing(f"folder: there is no {root}; it should hold one sub-folder of images per class")
            return [root]

        def read(paths: Sequence[Path], progress: Progress) -> ClassImages:
            with open_archive(paths[0]) as archive:
                data = decode(name, _classes(archive), size=self.size, channels=self.channels, progress=progress)
            return replace(data, class_names=tuple(map(shown, data.class_names)))

        def splits(names: Sequence[str]) -> dict[str, list[str]]:
            lists = Path(self.split_dir) if self.split_dir else root if root.is_dir() else root.parent
            listed = {s: _listed(lists / f"{s}.txt") for s in SPLITS if (lists / f"{s}.txt").is_file()}
            if self.split_dir and not listed:
                raise DataMissing(f"folder: no train.txt, val.txt or test.txt in {self.split_dir}")
            return listed or shared_out(self.split_seed)(names)

        return Dataset(
            name=name,
            title=f"the images in {shown(root)}",
            shape=(self.channels, self.size, self.size),
            read=read,
            splits=splits,
            locate=locate,
            cache=f"folder-{key}.safetensors",
            version="2",
        )


def _classes(archive: Archive) -> dict[str, list[tuple[Archive, str]]]:
    images = [p for p in archive.paths if p.lower().endswith(ENDINGS)]
    cut = 0
    if archive.zipped is not None and images:  # an archive often has one folder around the classes
        tops = {p.split("/")[0] for p in images}
        cut = int(len(tops) == 1 and all(p.count("/") == 2 for p in images))
    classes: dict[str, list[tuple[Archive, str]]] = {}
    for path in images:
        parts = path.split("/")[cut:]
        if len(parts) == 2:
            classes.setdefault(parts[0], []).append((archive, path))
    if not classes:
        raise DataCorrupt(f"{archive.root} has no images laid out as CLASS/IMAGE (endings: {', '.join(ENDINGS)})")
    return classes


def _listed(path: Path) -> list[str]:
    text = read_file(path, LIST).decode("utf-8", "surrogateescape")
    names = [shown(line.strip()) for line in text.splitlines() if line.strip()]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InnerloopError(f"{path} names class {brief(twice)!r} twice")
    return names
