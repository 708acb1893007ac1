"""Features on disk: the same numbers, never those of another image, body or a damaged file."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop.core.random import generator_for
from innerloop.estimator import FewShotClassifier
from innerloop.estimator.feature_cache import FeatureCache, identity
from planting import plants

X = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
Y = [0, 1, 2] * 2


class Counting(nn.Module):
    """Counts the images that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(5, 192, generator=generator_for(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        global passed
        passed += len(x)
        return x.flatten(1) @ self.weight.T


passed = 0


def body() -> nn.Sequential:
    return nn.Sequential(OrderedDict(features=Counting()))


def count() -> int:
    global passed
    n, passed = passed, 0
    return n


def test_nothing_is_computed_twice_and_nothing_changes(tmp_path: Path) -> None:
    count()
    plain = FewShotClassifier(body()).fit(X, Y)
    assert count() == 6
    first = FewShotClassifier(body(), cache=tmp_path).fit(X, Y)
    assert count() == 6
    again = FewShotClassifier(body(), cache=str(tmp_path)).fit(X[::-1], Y)
    assert again.predict(X).shape == (6,)
    assert count() == 0
    assert np.array_equal(first.support_features_, plain.support_features_)
    assert np.array_equal(again.support_features_, plain.support_features_[::-1])
    first.predict(np.concatenate([X[:1], 255 - X[:1]]))
    assert count() == 1


@plants(
    "a damaged file is believed",
    "estimator.feature_cache:_seal",
    lambda right: lambda key, payload: bytes(len(right(key, payload))),
)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "of another image"])
def test_a_damaged_file_is_never_trusted(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    good = FewShotClassifier(body(), cache=tmp_path).fit(X, Y).support_features_
    files = sorted(tmp_path.rglob("*.features"))
    assert len(files) == 6
    content = files[0].read_bytes()
    new = {
        "flip": content[:-1] + bytes([content[-1] ^ 1]),
        "cut": content[:-4],
        "empty": b"",
        "of another image": files[1].read_bytes(),
    }
    files[0].write_bytes(new[damage])
    count()
    again = FewShotClassifier(body(), cache=tmp_path).fit(X, Y).support_features_
    np.testing.assert_allclose(again, good, rtol=1e-6)
    assert count() == 1
    assert "corrupt" in caplog.text
    FewShotClassifier(body(), cache=tmp_path).fit(X, Y)
    assert count() == 0, "the file is whole again"
    assert not list(tmp_path.rglob("*.part"))


@plants(
    "other weights, the same features",
    "estimator.feature_cache:identity",
    lambda right: lambda body, recipe: "one body",
)
def test_another_body_size_or_pixel_is_another_key(tmp_path: Path) -> None:
    """Catches a cache that serves the features of an earlier model."""
    one, other = body(), body()
    with torch.no_grad():
        other[0].weight[0, 0] += 1e-3  # pyright: ignore
    assert identity(one, "a") == identity(body(), "a")
    assert len({identity(one, "a"), identity(other, "a"), identity(one, "b")}) == 3
    a, b = (FewShotClassifier(m, cache=tmp_path).fit(X, Y).support_features_ for m in (one, other))
    assert not np.array_equal(a, b)


def test_files_and_pictures_are_cached_too(tmp_path: Path) -> None:
    paths = []
    for i, x in enumerate(X):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(x).save(paths[-1])
    model = FewShotClassifier(body(), image_size=8, cache=tmp_path / "cache").fit(paths, Y)
    count()
    model.predict(paths)
    assert count() == 0
    model.predict([Image.open(p) for p in paths])
    assert count() == 6, "a picture in memory is another key than its file"
    Image.fromarray(255 - X[0]).save(paths[0])
    model.predict(paths)
    assert count() == 1, "a file's key is its content, not its name"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "body")
    cache.write("image", np.ones(3, np.float32))
    (kept,) = tmp_path.rglob("*.features")
    kept.with_name(f".{kept.name}.{2**22 + 1}-0.part").write_bytes(b"half")  # no process has such a number
    cache.write("image", np.ones(3, np.float32))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [kept]


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    good = FewShotClassifier(body()).fit(X, Y).predict_proba(X)
    assert np.array_equal(FewShotClassifier(body(), cache=tmp_path / "file").fit(X, Y).predict_proba(X), good)
    assert caplog.text.count("cannot keep") == caplog.text.count("cannot read") == 1, "not once an image"
    assert FeatureCache(tmp_path / "none", "b").read("i") is None
