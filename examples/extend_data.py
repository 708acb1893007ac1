"""A data set of your own, here characters in an .npz file, as a peer of Omniglot.

python examples/extend_data.py

From the folder of this file, every command takes it by its name:

innerloop train --data extend_data:characters --data-dir FOLDER --out run
innerloop evaluate run --data-dir FOLDER
innerloop data check extend_data:characters --data-dir FOLDER
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from innerloop import ClassImages, Dataset, Download
from innerloop.cli import run
from innerloop.data import shared_out


def read(paths: Sequence[Path], _progress: object) -> ClassImages:
    """One tensor of images per class, from the file that was found."""
    with np.load(paths[0]) as file:
        images, label, names = torch.from_numpy(file["images"]), file["label"], file["names"].tolist()
    return ClassImages.from_tensors("characters", [images[label == c][:, None] for c in range(len(names))], names)


characters = Dataset(
    name="characters",
    shape=(1, 28, 28),
    read=read,
    splits=shared_out(seed=0),  # or lists, or `by_group` for whole alphabets
    files=(Download("characters.npz"),),  # in the data folder: --data-dir, or INNERLOOP_DATA
    drawn=True,  # light strokes on black
    title="made-up characters of five strokes",
    licence="CC0",
)


def draw(path: Path, classes: int = 40, each: int = 20) -> None:
    """Make the file: every character is a line through random points, which move a little from image to image."""
    rng = np.random.default_rng(0)
    points = rng.uniform(4, 24, (classes, 1, 6, 2)) + rng.normal(0, 1, (classes, each, 6, 2))
    images = []
    for line in points.reshape(-1, 12).tolist():
        images.append(Image.new("L", (28, 28)))
        ImageDraw.Draw(images[-1]).line(line, fill=255, width=2)
    names = [f"made/character{c:02}" for c in range(classes)]
    np.savez(path, images=np.stack(images), label=np.arange(classes).repeat(each), names=names)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "characters.npz")
        steps = "--outer.steps 8 --validation.every 4 --validation.episodes 5 --test.episodes 20 --model.filters 16"
        command = f"train --preset quick --data extend_data:characters --data-dir {folder} {steps} --out {folder}/run"
        assert run(command.split()) == 0
