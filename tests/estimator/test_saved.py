"""A saved classifier gives the same probabilities to the last bit; a changed or hostile file is refused."""

import json
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from sklearn.base import clone
from torch import nn

from innerloop.core.episodes import ImageTasks
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.estimator import Example, FewShotClassifier, bodies, saved
from innerloop.models import conv4
from innerloop.models.pretrained import ImageFeatures, Preprocessing
from innerloop.training import build, train
from naming import names
from planting import plants
from tiny import CONFIG, blobs, glyphs_of_16_pixels

RNG = np.random.default_rng(0)
CENTRES = RNG.random((3, 6, 6, 3)).astype(np.float32)
Y = np.array(["ant", "bee", "cat"] * 3)
X = (0.8 * CENTRES[[0, 1, 2] * 3] + 0.2 * RNG.random((9, 6, 6, 3))).astype(np.float32)
QUERY = RNG.random((5, 6, 6, 3)).astype(np.float32)
ROWS = X.reshape(9, -1)[:, :4]


def body(head: int = 0) -> nn.Sequential:
    blocks: dict[str, nn.Module] = {"features": nn.Sequential(nn.Flatten(), nn.Linear(108, 7))}
    if head:
        blocks["head"] = nn.Linear(7, head)
    model = nn.Sequential(OrderedDict(blocks))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator_for(0)))
    return model


def colours() -> nn.Sequential:
    """Stands in for the pre-trained body."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(
        OrderedDict(features=ImageFeatures(net, Preprocessing(8, (0.5,) * 3, (0.5,) * 3, (0.9, None))))
    )


def empty() -> nn.Sequential:
    with torch.device("meta"):
        return colours()


def same(few: FewShotClassifier, path: Path, query: Any, **how: Any) -> FewShotClassifier:
    few.save(path)
    loaded = FewShotClassifier.load(path, **how)
    for name in ("predict_proba", "predict", "features", "nearest_support"):
        found, expected = getattr(loaded, name)(query), getattr(few, name)(query)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected), name
    assert loaded.classes_.dtype == few.classes_.dtype
    assert loaded.get_params() | {"model": 0, "cache": 0} == few.get_params() | {"model": 0, "cache": 0}
    again = path.with_name("again.innerloop")
    loaded.save(again)
    assert {n: t.tolist() for n, t in load(again.read_bytes()).items()} == {
        n: t.tolist() for n, t in load(path.read_bytes()).items()
    }
    return loaded


@pytest.mark.parametrize("method", ["nil", "means", "anil", "finetune"])
@pytest.mark.parametrize("head", [0, 3])
def test_a_network_of_the_users_own(tmp_path: Path, method: str, head: int) -> None:
    """With a head of the model's own, or one that is made of the support set."""
    model = FewShotClassifier(body(head), method=method, steps=3).fit(X, Y)
    other = body(head)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    same(model, tmp_path / "a.innerloop", QUERY, model=other)
    assert not any(p.any() for p in other.parameters()), "the one that was given is not changed"
    with pytest.raises(InnerloopError, match=names(tmp_path / "a.innerloop", "network")):
        FewShotClassifier.load(tmp_path / "a.innerloop")
    with pytest.raises(InnerloopError, match=names(tmp_path / "a.innerloop", "model")):
        FewShotClassifier.load(tmp_path / "a.innerloop", model=nn.Sequential(OrderedDict(features=nn.Linear(3, 3))))


@pytest.mark.parametrize(("method", "dtype"), [("nil", np.float32), ("means", np.float64), ("anil", np.float64)])
def test_features(tmp_path: Path, method: str, dtype: type) -> None:
    for y in (
        Y,
        np.repeat([5, -1, 2], 3),
        np.repeat([2, 1, 0], 3).astype(np.uint8),
        Y.astype(object),
        [True, False, True] * 3,
    ):
        loaded = same(
            FewShotClassifier(method=method, steps=5).fit(ROWS.astype(dtype), y), tmp_path / "a.innerloop", ROWS[:3] + 1
        )
        with pytest.raises(ValueError, match=names("features", 3, 4)):
            loaded.predict(ROWS[:, :3])
    with pytest.raises(InnerloopError, match=names(tmp_path / "a.innerloop", "network")):
        FewShotClassifier(tmp_path / "a.innerloop").fit(X, Y)


@pytest.mark.parametrize("method", ["nil", "anil", "finetune"])
def test_the_pretrained_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Its weights are in the file: those of the package are not needed."""
    monkeypatch.setattr(bodies, "pretrained", colours)
    monkeypatch.setattr(bodies, "without_weights", empty)
    model = FewShotClassifier(method=method, steps=2, cache=tmp_path / "cache").fit(X, Y)
    monkeypatch.delattr(bodies, "pretrained")
    loaded = same(model, tmp_path / "a.innerloop", QUERY)
    assert np.array_equal(clone(loaded).fit(X, Y).predict_proba(QUERY), model.predict_proba(QUERY))
    assert loaded._body is not None
    assert loaded._body.wanted.crops == (0.9, None)


@pytest.mark.usefixtures("made_images")
@pytest.mark.parametrize("trained", ["maml++", "proto-maml", "matching"])
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: str) -> None:
    """Without its folder: config, weights, learned rates, batch statistics are in the file."""
    glyphs_of_16_pixels(monkeypatch)
    run = tmp_path / "run"
    train(replace(CONFIG, method=trained, outer=replace(CONFIG.outer, steps=2)), run)  # type: ignore[arg-type]
    e = ImageTasks(blobs(16).split("test"), 3, 2, 4).sample(1, generator_for(0, "test episode"))
    x, y, query = e.support_x[0].numpy(), e.support_y[0].numpy(), e.query_x[0].numpy()
    settings = [("nil", "support"), ("finetune", "batch"), ("maml", "support")][: 2 if trained == "matching" else 3]
    fitted = [FewShotClassifier(str(run), method=m, steps=2, statistics=s).fit(x, y) for m, s in settings]  # type: ignore[arg-type]
    run.rename(tmp_path / "gone")
    monkeypatch.setattr(build, "load_images", lambda *_: None)
    for model in fitted:
        loaded = same(model, tmp_path / "a.innerloop", query)
    assert np.array_equal(clone(loaded).fit(x, y).predict_proba(query), model.predict_proba(query))


@plants(
    "the examples stay behind",
    "estimator.saved:Saved.examples",
    lambda right: property(lambda self: None),
)
def test_examples_are_kept(tmp_path: Path) -> None:
    examples = tuple(Example(f"{i}.jpg", bytes([i]) * i) for i in range(9))
    model = FewShotClassifier().fit(ROWS, Y)
    model.save(tmp_path / "a.innerloop", examples=examples)
    loaded = FewShotClassifier.load(tmp_path / "a.innerloop")
    assert loaded.examples_ == examples
    loaded.save(tmp_path / "b.innerloop")
    assert FewShotClassifier.load(tmp_path / "b.innerloop").examples_ == examples
    assert not hasattr(loaded.fit(ROWS, Y), "examples_")
    with pytest.raises(InnerloopError, match=names(8, 9)):
        model.save(tmp_path / "a.innerloop", examples=examples[1:])
    with pytest.raises(InnerloopError, match=names("bytes")):
        model.save(tmp_path / "a.innerloop", examples=[Example("x", b"x" * 100_000)] * 9)


@plants("the checksum is taken of any content", "estimator.saved:_digest", lambda right: lambda content: "1" * 64)
def test_every_byte_is_under_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.innerloop"
    FewShotClassifier(method="anil").fit(ROWS, Y).save(path)
    content = path.read_bytes()
    for i in range(0, len(content), 5):
        changed = bytearray(content)
        changed[i] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InnerloopError, match=names(path)):
            FewShotClassifier.load(path)
    for cut in (0, 5, 8, 100, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(InnerloopError, match=names(path)):
            FewShotClassifier.load(path)
    path.write_bytes(content + b"x")
    with pytest.raises(InnerloopError, match=names(path)):
        FewShotClassifier.load(path)


def forged(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    """Write the file anew with other content and a checksum that holds: anybody can."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    value = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["innerloop"])
    tensors = load(content)
    change(value, tensors)
    new = save(tensors, {"innerloop": json.dumps(value), "sha256": saved._UNSEALED})
    path.write_bytes(new.replace(saved._seal(saved._UNSEALED), saved._seal(saved._digest(new)), 1))


def setting(name: str, value: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    return lambda found, _: found.__setitem__(name, value)


def inside(part: str, name: str, value: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    return lambda found, _: found[part].__setitem__(name, value)


def tensor(name: str, value: torch.Tensor | None) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    def change(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value

    return change


HOSTILE = {
    "an unknown setting": setting("command", "rm"),
    "an unknown setting inside": inside("settings", "command", "rm"),
    "an unknown tensor": tensor("code/x", torch.zeros(1)),
    "settings that are no object": setting("settings", 3),
    "an unknown method": inside("settings", "method", "os:system"),
    "a method that needs a network": inside("settings", "method", "maml"),
    "images for rows": setting("rows", False),
    "a temperature of nothing": setting("temperature", 0),
    "a huge batch": inside("settings", "batch_size", 10**9),
    "huge images": inside("images", "size", 10**6),
    "a thousand views": inside("images", "crops", [0.5] * 1000),
    "one class": setting("classes", ["ant"]),
    "a class twice": setting("classes", ["ant", "ant", "bee"]),
    "classes in another order": setting("classes", ["bee", "ant", "cat"]),
    "another number of classes": setting("classes", ["ant", "bee"]),
    "numbers as text": setting("classes", [1, 2, 3]),
    "classes beyond their type": lambda found, _: found.update(classes=[1, 2, 300], labels="int8"),
    "classes of an unknown type": setting("labels", "datetime64"),
    "a run without its config": setting("body", "run"),
    "a config without a run": setting("config", {}),
    "no features": tensor("support/features", None),
    "flat features": tensor("support/features", torch.zeros(9)),
    "features of integers": tensor("support/features", torch.zeros(9, 4, dtype=torch.int64)),
    "features that are not finite": tensor("support/features", torch.full((9, 4), torch.nan)),
    "labels beyond the classes": tensor("support/labels", torch.full((9,), 7)),
    "negative labels": tensor("support/labels", torch.full((9,), -1)),
    "too few labels": tensor("support/labels", torch.tensor([0, 1, 2])),
    "no head": tensor("head/weight", None),
    "a head of another shape": tensor("head/weight", torch.zeros(3, 5, dtype=torch.float64)),
    "names without pictures": setting("examples", ["x"] * 9),
    "pictures out of bounds": lambda found, tensors: (
        found.update(examples=["x"] * 9),
        tensors.update({"examples/jpeg": torch.zeros(9, dtype=torch.uint8)}),
        tensors.update({"examples/ends": torch.arange(-4, 5) * 2**40}),
    ),
}  # fmt: skip


@plants(
    "what a file says is not checked against itself",
    "estimator.saved:Layout.__post_init__",
    lambda right: lambda self: None,
)
def test_hostile_content_is_refused_though_its_checksum_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.innerloop"
    FewShotClassifier(method="anil", steps=5).fit(ROWS, Y).save(path)
    content = path.read_bytes()
    forged(path, lambda *_: None)
    FewShotClassifier.load(path)
    for name, change in HOSTILE.items():
        path.write_bytes(content)
        forged(path, change)
        with pytest.raises(InnerloopError, match=names(path)) as error:
            FewShotClassifier.load(path)
        assert "\n" not in str(error.value), name


def test_a_hostile_network_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_images: object
) -> None:
    """Catches a config of a network that would fill the memory, and weights, statistics of another."""
    glyphs_of_16_pixels(monkeypatch)
    train(CONFIG, tmp_path / "run")
    x = blobs(16).images[:6].numpy()
    path = tmp_path / "a.innerloop"
    model = FewShotClassifier(str(tmp_path / "run"), method="maml").fit(x, [0, 0, 1, 1, 2, 2])
    first = next(n for n in model._network.fast)  # type: ignore[union-attr]
    norm = next(n for n in model._network.statistics)  # type: ignore[union-attr]
    for change in (
        lambda found, _: found["config"]["model"].update(filters=2**16),
        lambda found, _: found["config"].update(way=10**9),
        lambda found, _: found["config"].update(data="sinusoid"),
        lambda found, _: found["config"].update(command="rm"),
        lambda found, _: found["config"].update(method="antigravity:geohash"),
        lambda found, _: found["config"].update(data="antigravity:geohash"),
        tensor("body/head.weight", torch.zeros(3)),
        tensor("body/conv1.conv.weight", None),
        tensor("body/conv1.conv.weight", torch.zeros(())),
        tensor("body/extra", torch.zeros(3)),
        tensor(f"fast/{first}", torch.zeros(1, 2)),
        tensor("fast/extra", torch.zeros(1, 2)),
        tensor(f"statistics/{norm}/mean", torch.zeros(1, 2)),
        tensor(f"statistics/{norm}/mean", None),
        tensor("statistics/extra/mean", torch.zeros(1, 2)),
        inside("settings", "statistics", "batch"),
        inside("images", "size", 17),
    ):
        model.save(path)
        forged(path, change)  # type: ignore[arg-type]
        with pytest.raises(InnerloopError, match=names(path)):
            FewShotClassifier.load(path)
    assert "antigravity" not in sys.modules


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.innerloop"
    contents = {
        "a header beyond the file": struct.pack("<Q", 1 << 40) + b"{}",
        "a header of many megabytes": struct.pack("<Q", 20 << 20) + b" " * (20 << 20),
        "a deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "a safetensors file": save({"x": torch.zeros(2)}),
        "a list for metadata": struct.pack("<Q", 19) + b'{"__metadata__":[]}',
        "a pickle": b"\x80\x04\x95cos\nsystem\n",
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(InnerloopError, match=names(path)):
            FewShotClassifier.load(path)
    with path.open("wb") as file:
        file.truncate(saved.LARGEST + 1)
    with pytest.raises(InnerloopError, match=names(path)):
        FewShotClassifier.load(path)
    path.unlink()
    with pytest.raises(InnerloopError, match=names(path)):
        FewShotClassifier.load(path)
    with pytest.raises(InnerloopError, match=names(tmp_path, "folder")):
        FewShotClassifier.load(tmp_path)


def test_labels_that_no_file_can_hold_are_refused(tmp_path: Path) -> None:
    y = np.array(["2020-01-01", "2021-01-01", "2022-01-01"] * 3, dtype="datetime64[D]")
    with pytest.raises(ValueError, match=r"cannot be saved|label"):
        FewShotClassifier().fit(ROWS, y).save(tmp_path / "a.innerloop")


def test_batch_statistics_of_a_model_of_the_users_own(tmp_path: Path) -> None:
    model = conv4(3, channels=3, image_size=16, filters=4, generator=generator_for(0))
    x = np.random.default_rng(0).random((6, 16, 16, 3)).astype(np.float32)
    few = FewShotClassifier(model, method="nil").fit(x, [0, 0, 1, 1, 2, 2])
    same(few, tmp_path / "a.innerloop", x[:2], model=conv4(3, channels=3, image_size=16, filters=4))
