"""How hard glyphs is without learning: the nearest support image in raw pixels (Euclidean) gives the label.

    python benchmarks/glyphs_nearest_neighbour.py --out results/glyphs_nearest_neighbour.json

With --picture PATH it also writes a sheet of samples.
Test split, 1 shot, 15 query images per class, evaluation seed 0; mean accuracy over episodes and its ci95.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import PIL
import torch
from PIL import Image

from innerloop.core.episodes import ClassImages, ImageTasks
from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes
from innerloop.data.glyphs import GLYPHS, VERSION
from innerloop.methods.metric import nearest_neighbour


def accuracies(data: ClassImages, way: int, shot: int, episodes: int, chunk: int = 50) -> torch.Tensor:
    """Accuracy of each episode [episodes]."""
    tasks = ImageTasks(data, way, shot, query=15)
    generator = generator_for(0, "evaluation", way, shot)
    accuracy = []
    for start in range(0, episodes, chunk):
        e = tasks.sample(min(chunk, episodes - start), generator)
        accuracy.append(nearest_neighbour(e))
    return torch.cat(accuracy)


def sheet(data: ClassImages, classes: int = 8, samples: int = 10) -> Image.Image:
    """Random classes of each split (train, val, test from left to right), a row each."""
    blocks = []
    for split, members in data.splits.items():
        chosen = torch.randperm(len(members), generator=generator_for(0, "sheet", split))[:classes].tolist()
        first = [int(data.first[members[c]]) for c in chosen]
        rows = torch.stack([data.images[f : f + samples, 0] for f in first])  # [classes, samples, 28, 28]
        blocks.append(rows.permute(0, 2, 1, 3).reshape(classes * rows.shape[2], -1))
        blocks.append(torch.full((blocks[-1].shape[0], 6), 90, dtype=torch.uint8))
    return Image.fromarray(torch.cat(blocks[:-1], 1).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    data = GLYPHS.load()
    if given.picture:
        sheet(data).save(given.picture, optimize=True)
    rows = []
    for way in (5, 20):
        estimate = over_episodes(accuracies(data.split("test"), way, 1, given.episodes))
        rows.append({"way": way, "shot": 1, "accuracy": round(estimate.mean, 5), "ci95": round(estimate.ci95, 5)})
        print(f"{way}-way 1-shot: {estimate}")
    if given.out:
        record = {
            "data": "glyphs",
            "version": VERSION,
            "classes": {split: len(members) for split, members in data.splits.items()},
            "split": "test",
            "method": "nearest support image, Euclidean distance of raw pixels",
            "episodes": given.episodes,
            "query": 15,
            "seed": 0,
            "results": rows,
            "versions": {
                "matplotlib": matplotlib.__version__,
                "pillow": PIL.__version__,
                "torch": torch.__version__,
            },
        }
        given.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
