"""The pre-trained body on Caltech-101, without any training: 5-way 1-shot and 5-shot on classes drawn by a seed.

    python benchmarks/caltech_pretrained.py --out results/caltech101-pretrained.json

Reads 101_ObjectCategories.tar.gz under INNERLOOP_DATA. BACKGROUND_Google is left out, and Faces_easy, which shows the
same people as Faces. Each image's features are made once; each episode is a `FewShotClassifier` fitted on the features
of its support set.
"""

import argparse
import io
import json
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes
from innerloop.data.paths import data_root, find
from innerloop.estimator import FewShotClassifier
from innerloop.runs import environment, write_json

LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
METHODS = ("nil", "means", "anil")
WAY, QUERY = 5, 15


def in_order(seed: int) -> dict[str, list[bytes]]:
    """Class -> its files; the classes in the order that the seed draws."""
    archive = find(data_root(), ("caltech101_short84", "caltech101"), ("101_ObjectCategories.tar.gz",))
    if archive is None:
        sys.exit(f"there is no 101_ObjectCategories.tar.gz under {data_root()}; set INNERLOOP_DATA")
    found = pictures(archive)
    names = list(found)
    order = torch.randperm(len(names), generator=generator_for(seed, "caltech classes")).tolist()
    return {names[i]: found[names[i]] for i in order}


def pictures(archive: Path) -> dict[str, list[bytes]]:
    """Class -> its files in the order of their names."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.isfile() and len(parts) == 3 and parts[2].endswith(".jpg") and parts[1] not in LEFT_OUT:
                content = tar.extractfile(member)
                assert content is not None
                found.setdefault(parts[1], {})[parts[2]] = content.read()
    return {name: [files[f] for f in sorted(files)] for name, files in sorted(found.items())}


def episodes(counts: list[int], shot: int, n: int, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """n episodes: rows of the support and the query images [way, shot], [way, query] in the classes' features."""
    generator, first = generator_for(seed, "episodes", shot), np.cumsum([0, *counts])
    found = []
    for _ in range(n):
        classes = torch.randperm(len(counts), generator=generator)[:WAY].tolist()
        rows = np.stack(
            [first[c] + torch.randperm(counts[c], generator=generator)[: shot + QUERY].numpy() for c in classes]
        )
        found.append((rows[:, :shot], rows[:, shot:]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classes", type=int, default=30, help="classes to test on")
    parser.add_argument("--images", type=int, default=100, help="images per class at most, the first by name")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    made_with = environment()
    everything = in_order(given.seed)
    tested = sorted(list(everything)[: given.classes])
    files = {name: everything[name][: given.images] for name in tested}

    body = FewShotClassifier().fit([Image.new("RGB", (9, 9), c) for c in ("black", "white")], [0, 1])
    made, began = [], time.perf_counter()
    for name, contents in files.items():
        made.append(body.features([Image.open(io.BytesIO(c)) for c in contents]))
        print(f"{name}: {len(contents)} images, {time.perf_counter() - began:.0f} s")
    features = np.concatenate(made)

    results = []
    for shot in (1, 5):
        drawn = episodes([len(f) for f in files.values()], shot, given.episodes, given.seed)
        for method in METHODS:
            right = []
            for support, query in drawn:
                y = np.arange(WAY)
                few = FewShotClassifier(method=method).fit(features[support.ravel()], y.repeat(support.shape[1]))
                right.append(few.score(features[query.ravel()], y.repeat(QUERY)))
            e = over_episodes(torch.tensor(right))
            results.append({"shot": shot, "method": method, "accuracy": round(e.mean, 5), "ci95": round(e.ci95, 5)})
            print(f"{WAY}-way {shot}-shot {method}: {e}")
    if given.out:
        write_json(
            given.out,
            {
                "data": "caltech101, shorter side 84 pixels",
                "body": "innerloop.models.pretrained.pretrained(), no training on this data",
                "left out": LEFT_OUT,
                "classes": {name: len(contents) for name, contents in files.items()},
                "way": WAY,
                "query": QUERY,
                "episodes": given.episodes,
                "seed": given.seed,
                "results": results,
                "environment": made_with,
            },
        )
        print(json.dumps(results))


if __name__ == "__main__":
    main()
