"""CIFAR-100 in both layouts, made small."""

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from innerloop.data.cifar import CIFAR_FS, FC100, read, read_official, read_pictures
from innerloop.data.paths import DataCorrupt, DataMissing
from innerloop.data.splits import split_lines
from naming import names

Png = Callable[..., bytes]
NAMES = ("zebra", "apple", "tulip")


def pixels(i: int) -> np.ndarray:
    """Channels, rows and columns all differ."""
    return np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)


FILES = [(i, i % 3, f"f_{(7 * i) % 13:06}.png") for i in range(12)]
"""(which picture, class, file name)"""


def official(folder: Path, protocol: int) -> Path:
    """cifar-100-python.tar.gz with nine pictures in `train` and three in `test`."""
    path = folder / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:

        def add(name: str, value: object) -> None:
            content = pickle.dumps(value, protocol)
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for name, part in (("train", FILES[:9]), ("test", FILES[9:])):
            rows = np.stack([pixels(i).transpose(2, 0, 1).reshape(-1) for i, _, _ in part])
            add(
                name,
                {
                    "data": rows,
                    "fine_labels": [label for _, label, _ in part],
                    "coarse_labels": [0 for _ in part],
                    "filenames": [file for _, _, file in part],
                    "batch_label": name,
                },
            )
        add("meta", {"fine_label_names": list(NAMES), "coarse_label_names": ["all"]})
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_both_layouts_give_the_same_tensor(tmp_path: Path, png: Png, protocol: int) -> None:
    """Catches: planes mistaken for pixels, test left out, labels by another order, order by position."""
    zipped = tmp_path / "cifar100.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for i, label, file in FILES:
            archive.writestr(f"cifar100/data/{NAMES[label]}/{file}", png(pixels(i)))
        archive.writestr("cifar100/splits/bertinetto/train.txt", "apple\n")
    pictures, pickles = read_pictures(zipped), read_official(official(tmp_path, protocol))
    assert pictures.class_names == pickles.class_names == ("apple", "tulip", "zebra")
    assert pictures.count.tolist() == pickles.count.tolist() == [4, 4, 4]
    assert pictures.first.tolist() == pickles.first.tolist()
    assert torch.equal(pictures.images, pickles.images)
    first_apple = min((f, i) for i, label, f in FILES if label == 1)[1]
    assert np.array_equal(pickles.images[0].numpy(), pixels(first_apple).transpose(2, 0, 1))
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    assert torch.equal(read_official(tmp_path / "cifar-100-python").images, pictures.images)
    with pytest.raises(DataCorrupt, match=names(zipped, 12, 3, 100, 600)):
        read([zipped])


def test_a_bad_archive_is_named(tmp_path: Path) -> None:
    path = official(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataCorrupt, match=names(path)):
        read_official(path)
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(DataCorrupt, match=names(path, "train", "test", "meta")):
        read_official(path)


def test_the_shipped_splits() -> None:
    """CIFAR-FS 64/16/20; FC100 by 12/4/4 superclasses of five; each shares out the same 100 classes."""
    bertinetto = split_lines("cifar_fs")
    assert {s: len(set(names)) for s, names in bertinetto.items()} == {"train": 64, "val": 16, "test": 20}
    everything = {name for names in bertinetto.values() for name in names}
    assert len(everything) == 100
    groups = {s: [line.split(" ") for line in lines] for s, lines in split_lines("fc100").items()}
    assert {s: len(g) for s, g in groups.items()} == {"train": 12, "val": 4, "test": 4}
    assert all(len(g) == 6 for lines in groups.values() for g in lines)
    assert {name for lines in groups.values() for g in lines for name in g[1:]} == everything
    assert sorted(g[0] for g in groups["test"]) == ["aquatic_mammals", "insects", "medium_mammals", "people"]


def test_missing_names_both_layouts(tmp_path: Path) -> None:
    for data in (CIFAR_FS, FC100):
        with pytest.raises(
            DataMissing, match=names("cifar-100-python.tar.gz", "cifar100.zip", f"innerloop data fetch {data.name}")
        ):
            data.load(tmp_path, tmp_path / "cache")


def test_a_second_file_of_one_name_is_not_silently_taken(tmp_path: Path) -> None:
    path = official(tmp_path, 2)
    content = pickle.dumps({})
    with tarfile.open(path) as old, tarfile.open(tmp_path / "new.tar.gz", "w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        info = tarfile.TarInfo("elsewhere/test")
        info.size = len(content)
        new.addfile(info, io.BytesIO(content))
    with pytest.raises(DataCorrupt, match=names(tmp_path / "new.tar.gz", "test")):
        read_official(tmp_path / "new.tar.gz")


@pytest.mark.parametrize(
    ("part", "key", "value", "named"),
    [
        ("train", "data", [[0] * 3072], ("train", "data", "fine_labels", "filenames")),
        ("train", "data", np.zeros((1, 3072), np.int64), ("train", "data", "fine_labels", "filenames")),
        ("train", "fine_labels", ["0" * 10_000], ("train", "fine_labels", "str", "int")),
        ("train", "fine_labels", [1.5], ("train", "fine_labels", "float", "int")),
        ("train", "filenames", [["a"]], ("train", "filenames", "list", "str")),
        ("train", "fine_labels", [3], ("label", 3)),
        ("meta", "fine_label_names", "abc", ("meta", "fine_label_names", "str")),
        ("meta", "other", [], ("meta", "fine_label_names")),
    ],
)
def test_parts_of_another_kind_are_named_and_not_quoted(
    tmp_path: Path, part: str, key: str, value: object, named: tuple[object, ...]
) -> None:
    one = {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0], "filenames": ["a.png"]}
    parts = {"train": one, "test": one, "meta": {"fine_label_names": list(NAMES)}}
    parts[part] = {key: value} if part == "meta" else parts[part] | {key: value}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(pickle.dumps(content))
    with pytest.raises(DataCorrupt, match=names(tmp_path, *named)) as caught:
        read_official(tmp_path)
    assert len(str(caught.value)) < 400


def test_labels_may_be_an_array(tmp_path: Path) -> None:
    names = np.array(["a.png", "b.png", "c.png"])
    one = {"data": np.zeros((3, 3072), np.uint8), "fine_labels": np.array([2, 0, 2]), "filenames": names}
    two = {"data": np.zeros((3, 3072), np.uint8), "fine_labels": list(np.array([1, 1, 1])), "filenames": names}
    for name, content in {"train": one, "test": two, "meta": {"fine_label_names": list(NAMES)}}.items():
        (tmp_path / name).write_bytes(pickle.dumps(content))
    found = read_official(tmp_path)
    assert dict(zip(found.class_names, found.count.tolist(), strict=True)) == {"apple": 3, "tulip": 2, "zebra": 1}
