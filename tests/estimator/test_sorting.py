"""Folders of pictures: what is found, what is left out and why, and that every guess stays with its file."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier
from innerloop.estimator.sorting import (
    NotUsed,
    Sorted,
    find_pictures,
    least_certain,
    read_picture,
    read_support,
    shown,
    sort_pictures,
)
from naming import names

COLOURS = {"blue": (20, 30, 220), "green": (20, 200, 40), "red": (220, 30, 20)}


def save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    for name, (r, g, b) in COLOURS.items():
        for i in range(2):
            save(tmp_path / "examples" / name / f"{i}.png", (r + i, g + i, b + i))
    return tmp_path / "examples"


def test_a_class_is_a_folder(examples: Path) -> None:
    save(examples / "red" / ".hidden.png", (0, 0, 0))
    save(examples / ".git" / "x.png", (0, 0, 0))
    save(examples / "stray.png", (0, 0, 0))
    (examples / "red" / "notes.txt").write_text("nothing")
    (examples / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    support = read_support(examples)
    assert support.classes == {"blue": 2, "green": 2, "red": 2}
    assert [p.parent.name for p in support.files] == list(support.labels)
    assert support.images[0].getpixel((0, 0)) == COLOURS["blue"]
    assert {Path(n.name).name: n.reason for n in support.not_used} == {
        "stray.png": "it lies in no class folder",
        "notes.txt": "its name ends in '.txt', a format that is not read",
        "broken.jpg": next(n.reason for n in support.not_used if n.name.endswith("broken.jpg")),
    }


def test_what_lies_too_deep_or_is_no_file_is_named(examples: Path, tmp_path: Path) -> None:
    """Links that lead nowhere or in a circle, folders and pipes; they were passed over without a word, and a pipe that
    was given as a picture was waited for."""
    for place in (examples / "red", tmp_path / "new"):
        save(place / "deep" / "a.png", (9, 9, 9))
        (place / "gone.png").symlink_to("nothing")
        (place / "round.png").symlink_to("round.png")
        (place / "up").symlink_to("..")
        os.mkfifo(place / "pipe.png")
    support = read_support(examples)
    assert support.classes["red"] == 2
    reasons = {Path(n.name).name: n.reason for n in support.not_used}
    assert reasons["deep"] == "it is a folder, and the pictures of a class lie in the class folder itself"
    assert reasons.keys() == {"deep", "gone.png", "round.png", "up", "pipe.png"}
    found, not_used = find_pictures([tmp_path / "new", tmp_path / "new" / "pipe.png"])
    assert found == [tmp_path / "new" / "deep" / "a.png"]
    reasons = {Path(n.name).name: n.reason for n in not_used}
    assert reasons["gone.png"] == "it is a link to nothing"
    assert "symbolic links" in reasons["round.png"]
    assert reasons["up"] == "it is a link to a folder, which is not followed"
    assert reasons["pipe.png"] == "it is not a regular file"


def test_a_name_that_cannot_be_asked_for_is_named(tmp_path: Path) -> None:
    """It ended the whole call."""
    a = save(tmp_path / "a.png", (0, 0, 0))
    long = tmp_path / ("x" * 300 + ".png")
    found, not_used = find_pictures([long, a / "b.png", a])
    assert found == [a]
    assert [n.name for n in not_used] == [str(long), str(a / "b.png")]
    assert all(n.reason.startswith("it cannot be opened: ") for n in not_used)


def test_a_folder_that_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "closed" / "a.png", (0, 0, 0))
    b = save(tmp_path / "open" / "b.png", (0, 0, 0))
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):  # whoever runs the tests may be allowed everything
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_pictures([tmp_path]) == (
        [b],
        [NotUsed(str(tmp_path / "closed"), "it cannot be opened: Permission denied")],
    )


def test_one_picture_is_one_example(examples: Path) -> None:
    """A copy within a class would make leave-one-out right for nothing; in two classes it says nothing."""
    Image.open(examples / "red" / "0.png").save(examples / "red" / "copy.bmp")
    support = read_support(examples)
    assert support.classes["red"] == 2
    assert [n.reason for n in support.not_used] == ["it shows the same as 0.png"]
    Image.open(examples / "blue" / "1.png").save(examples / "red" / "copy.bmp")
    with pytest.raises(InnerloopError, match=names(examples / "blue" / "1.png", examples / "red" / "copy.bmp")):
        read_support(examples)


def test_what_is_wrong_with_the_examples_is_said(examples: Path, tmp_path: Path) -> None:
    (examples / "yellow").mkdir()
    with pytest.raises(InnerloopError, match=names(examples / "yellow")):
        read_support(examples)
    (examples / "yellow" / "a.png").write_bytes(b"text")
    with pytest.raises(InnerloopError, match=names(examples / "yellow", examples / "yellow" / "a.png")):
        read_support(examples)
    with pytest.raises(InnerloopError, match=names(tmp_path / "none")):
        read_support(tmp_path / "none")
    save(tmp_path / "one" / "only" / "a.png", (0, 0, 0))
    with pytest.raises(InnerloopError, match=names(tmp_path / "one", "'only'", "DIR/CLASS/PICTURE")):
        read_support(tmp_path / "one")
    with pytest.raises(InnerloopError, match=names(examples / "red", "DIR/CLASS/PICTURE")):
        read_support(examples / "red")


def test_each_picture_is_found_once_at_any_depth(examples: Path, tmp_path: Path) -> None:
    deep = save(tmp_path / "new" / "a" / "b" / "1.PNG", (0, 0, 0))
    top = save(tmp_path / "new" / "2.webp", (0, 0, 0))
    save(tmp_path / "new" / ".thumbs" / "3.png", (0, 0, 0))
    save(tmp_path / "new" / "a" / ".4.png", (0, 0, 0))
    result = save(tmp_path / "new" / "a" / "result.png", (0, 0, 0))
    (tmp_path / "new" / "film.txt").write_text("")
    bare = save(tmp_path / "5.png", (0, 0, 0)).rename(tmp_path / "bare")
    own = save(tmp_path / "new" / "own.png", (0, 0, 0))
    found, not_used = find_pictures(
        [tmp_path / "new", bare, tmp_path / "new" / ".." / "new" / "a", tmp_path / "gone"],
        examples=[own],
        without=[result],
    )
    assert found == [top, deep, bare]
    assert {Path(n.name).name: n.reason for n in not_used} == {
        "own.png": "it is an example itself",
        "film.txt": "its name ends in '.txt', a format that is not read",
        "gone": "there is no such file or folder",
    }


def test_a_guess_stays_with_its_file(examples: Path, tmp_path: Path) -> None:
    """Files that cannot be read lie between the others, at the borders of batches too."""
    support = read_support(examples)
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    few = FewShotClassifier(model, image_size=8, device="cpu").fit(list(support.images), list(support.labels))
    files, truth = [], []
    for i, name in enumerate(["red", "bad", "blue", "blue", "bad", "green", "bad", "bad", "red"]):
        path = tmp_path / f"{i}.png"
        if name == "bad":
            path.write_bytes(b"no picture")
        else:
            save(path, COLOURS[name])
        files.append(path)
        truth.append(name)
    for batch in (1, 2, 3, 16):
        found = list(sort_pictures(few, files, batch=batch))
        assert [f.name for f in found] == [str(p) for p in files]
        assert [isinstance(f, NotUsed) for f in found] == [t == "bad" for t in truth]
        for f, name in zip(found, truth, strict=True):
            if isinstance(f, Sorted):
                assert few.classes_[f.probabilities.argmax()] == support.labels[f.nearest] == name
                np.testing.assert_allclose(f.probabilities, few.predict_proba([f.image])[0], atol=1e-6)


def test_a_large_picture_is_held_small(tmp_path: Path) -> None:
    save(tmp_path / "large.png", (1, 2, 3), (2100, 4300))
    read = read_picture(tmp_path / "large.png")
    assert isinstance(read, Image.Image)
    assert read.size == (1050, 2150)


def test_names_are_one_line_of_text(tmp_path: Path) -> None:
    assert shown("a\nb\x1b[31m\u202e.png") == "a\\nb\\x1b[31m\\u202e.png"
    assert shown(os.fsdecode(b"caf\xe9.png")) == "caf\\udce9.png"
    assert shown("Käse 图.png") == "Käse 图.png"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, set()), (0.1, {1}), (0.2, {1}), (0.4, {1, 3}), (1.0, set(range(5)))]
)
def test_the_least_certain(share: float, expected: set[int]) -> None:
    assert least_certain([0.9, 0.3, 0.8, 0.4, 0.9], share) == expected
