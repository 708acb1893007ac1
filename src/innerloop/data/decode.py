"""Many image files, sorted into classes, become one ClassImages."""

from collections.abc import Mapping, Sequence

import torch

from innerloop.core.episodes import ClassImages
from innerloop.data.archive import Archive
from innerloop.data.picture import picture
from innerloop.data.progress import Progress, silent
from innerloop.errors import brief, shown

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2")
"""files with another ending are not images and are skipped"""


def decode(
    name: str,
    files: Mapping[str, Sequence[tuple[Archive, str]]],
    *,
    size: int,
    channels: int,
    invert: bool = False,
    progress: Progress = silent,
) -> ClassImages:
    """Read class -> files to uint8 [images, channels, size, size], classes in the order given, no splits.

    `invert` makes black white. Raises DataCorrupt naming the first file that cannot be read.
    """
    everything = [file for group in files.values() for file in group]
    images = torch.empty(len(everything), channels, size, size, dtype=torch.uint8)
    for i, (archive, path) in enumerate(everything):
        pixels = picture(archive.read(path), size, channels, f"{brief(path)} in {shown(archive.root)}")
        images[i] = torch.from_numpy(255 - pixels if invert else pixels)
        if i % 500 == 0:
            progress(f"reading {name}", i, len(everything))
    progress(f"reading {name}", len(everything), len(everything))
    count = torch.tensor([len(group) for group in files.values()], dtype=torch.int64)
    return ClassImages(name, images, count.cumsum(0) - count, count, torch.zeros_like(count), tuple(files))
