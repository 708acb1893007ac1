"""mini-ImageNet: 100 classes × 600 images, 84×84 RGB (Vinyals et al. 2016), split of Ravi & Larochelle.

The images cannot be downloaded lawfully without ImageNet's terms: the user brings them, in one of two
layouts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from innerloop.core.episodes import SPLITS, ClassImages
from innerloop.data.archive import open_archive
from innerloop.data.bounded import read_file
from innerloop.data.dataset import Dataset, Download, path_of
from innerloop.data.decode import decode
from innerloop.data.paths import DataCorrupt, find
from innerloop.data.progress import Progress, silent
from innerloop.data.splits import numbered, split_lines
from innerloop.data.unpickle import unpickle
from innerloop.errors import brief

SIZE = 84
PICKLE = 1 << 31
"""bytes of a pickle: 813 MB of pixels, at half as much again in protocol 2"""
PICKLES = tuple(f"mini-imagenet-cache-{split}.pkl" for split in SPLITS)


def ravi() -> dict[str, dict[str, list[str]]]:
    """split -> class (WordNet id, as n01532829) -> its 600 file names (as n0153282900000005.jpg)."""
    return {
        split: {wnid: [f"{wnid}{i:08}.jpg" for i in ids] for wnid, ids in map(numbered, lines)}
        for split, lines in split_lines("mini_imagenet").items()
    }


def locate(data: Dataset, root: Path) -> list[Path]:
    """The three pickles, or else the folder (or zip) of images; raises DataMissing."""
    if any(find(root, data.places, (name,)) for name in PICKLES):
        return [path_of(data, Download(name), root) for name in PICKLES]
    folders = [root / place for place in data.places]
    for path in (place for f in folders for place in (f / "images", f / "images.zip", f)):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            return [path]
    return [path_of(data, data.files[0], root)]


def read(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """All 100 classes with 600 images each, or DataCorrupt."""
    lists = {wnid: files for classes in ravi().values() for wnid, files in classes.items()}
    if len(paths) == 1:
        return read_pictures(paths[0], lists, progress)
    data = read_pickles(paths, progress)
    if set(data.class_names) != set(lists) or data.count.tolist() != [600] * len(lists):
        raise DataCorrupt(
            f"{paths[0].parent}: the pickles hold {len(data.images)} images in {len(data.class_names)} "
            f"classes; mini-ImageNet has {len(lists)} classes × 600, called by WordNet ids"
        )
    return data


def read_pictures(path: Path, lists: Mapping[str, Sequence[str]], progress: Progress = silent) -> ClassImages:
    """The named files of class -> file names, wherever under `path` (a folder or a zip) they lie."""
    with open_archive(path) as archive:
        place = {name.rsplit("/", 1)[-1]: name for name in archive.paths}
        wanted = [name for names in lists.values() for name in names]
        absent = [name for name in wanted if name not in place]
        if absent:
            raise DataCorrupt(
                f"{path} lacks {len(absent)} of the {len(wanted)} images of mini-ImageNet, for instance {absent[0]}"
            )
        files = {wnid: [(archive, place[name]) for name in sorted(lists[wnid])] for wnid in sorted(lists)}
        return decode("mini_imagenet", files, size=SIZE, channels=3, progress=progress)


def read_pickles(paths: Sequence[Path], progress: Progress = silent) -> ClassImages:
    """The common pickles: each a dict of image_data (uint8 [n, 84, 84, 3]) and class_dict (class -> rows)."""
    parts, counts, names = [], [], []
    for done, path in enumerate(paths):
        progress("reading mini_imagenet", done, len(paths))
        match unpickle(read_file(path, PICKLE), path):
            case {"image_data": np.ndarray() as images, "class_dict": dict() as classes}:
                pass
            case _:
                raise DataCorrupt(f"{path} is not a pickle of mini-ImageNet: image_data and class_dict")
        if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 3):
            raise DataCorrupt(
                f"{path} is not a pickle of mini-ImageNet: image_data is {images.dtype} {images.shape}, not uint8 "
                f"[n, {SIZE}, {SIZE}, 3]"
            )
        left = len(images)
        for name in sorted(classes, key=str):
            rows = _rows(classes[name], len(images))
            left -= 0 if rows is None else len(rows)
            if rows is None or left < 0:
                raise DataCorrupt(
                    f"{path} is not a pickle of mini-ImageNet: class {brief(name)} does not name rows of the "
                    f"{len(images)} images, each once"
                )
            parts.append(torch.from_numpy(images[rows].transpose(0, 3, 1, 2)))
            counts.append(len(rows))
            names.append(name if isinstance(name, str) else name.decode("latin1"))
    progress("reading mini_imagenet", len(paths), len(paths))
    count = torch.tensor(counts, dtype=torch.int64)
    return ClassImages(
        "mini_imagenet",
        torch.cat(parts).contiguous(),
        count.cumsum(0) - count,
        count,
        torch.zeros_like(count),
        tuple(names),
    )


def _rows(rows: Any, images: int) -> NDArray[np.int64] | None:
    """A class's list (or array) of rows; None if it is anything else."""
    if isinstance(rows, list) and all(type(i) is int or isinstance(i, np.integer) for i in rows):
        rows = np.array([int(i) if abs(i) <= images else -1 for i in rows], dtype=np.int64)
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or rows.dtype.kind not in "iu":
        return None
    return rows.astype(np.int64) if ((rows >= 0) & (rows < images)).all() else None


MINI_IMAGENET = Dataset(
    name="mini_imagenet",
    title="mini-ImageNet, 84×84 RGB, split of Ravi & Larochelle",
    shape=(3, SIZE, SIZE),
    read=read,
    splits=lambda _: {split: list(classes) for split, classes in ravi().items()},
    version="84x84 rgb lanczos 1",
    cache="mini-imagenet-84.safetensors",
    folders=("mini_imagenet", "mini-imagenet", "miniImageNet"),
    files=(Download("images", alternatives=("images.zip", *PICKLES)),),
    locate=locate,
    by_hand="put the folder images/ (or images.zip) with the files of Ravi & Larochelle's lists, as "
    "n0153282900000005.jpg, or the three pickles mini-imagenet-cache-{train,val,test}.pkl,",
    classes=100,
    images=60_000,
    licence="ImageNet's terms of access (research, non-commercial); the images may not be passed on",
    citation="O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra. Matching networks for one "
    "shot learning. NeurIPS 2016. Split: S. Ravi, H. Larochelle. Optimization as a model for few-shot "
    "learning. ICLR 2017.",
)
