"""`innerloop dagan`: a whole run on made images."""

import shlex
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.cli import dagan, explain
from innerloop.runs import RunError, RunFolder, read_json
from innerloop.training.dagan import DaganConfig

FLAGS = shlex.split("""
    --sizes.widths 4 4 --sizes.noise 2 --steps 2 --critic-steps 1 --batch 4 --every 1 --device cpu
    --images 3 --samples 2
""")


@pytest.mark.usefixtures("made_images")
def test_train_draw_and_draw_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert dagan.run([*FLAGS, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for words in ("generated", "affine copies", "real, same class", "test classes"):
        assert words in shown
    assert RunFolder(out).finished
    assert DaganConfig.from_json(RunFolder(out).config).sizes.widths == (4, 4)
    assert (out / "generated.png").read_bytes().startswith(b"\x89PNG")
    first = read_json(out / "generated.json")
    assert [s["name"] for s in first["spreads"]] == ["generated", "affine", "real"]
    assert (first["step"], first["split"], first["images"], first["samples"]) == (2, "test", 3, 2)
    assert all(name.split()[-1] in map(str, range(12, 18)) for name in first["classes"])  # the test split's

    with pytest.raises(RunError, match="never overwritten") as refused:
        dagan.run([*FLAGS, "--out", str(out)])
    assert "never overwritten" in (explain(refused.value) or "")

    (out / "generated.json").unlink()
    again = ["--samples-only", "--out", str(out), "--images", "3", "--samples", "2", "--device", "cpu"]
    assert dagan.run(again) == 0  # of the run's own sizes, not of the defaults
    second = read_json(out / "generated.json")
    assert second["spreads"] == first["spreads"]
    assert dagan.run([*again, "--split", "val"]) == 0
    assert read_json(out / "generated.json")["classes"] != first["classes"]


def test_help_and_wrong_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as done:
        dagan.run(["--help-all"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--data", "--out", "--resume", "--paper-sizes", "--sizes.widths", "--samples-only", "--steps"):
        assert flag in shown
    with pytest.raises(SystemExit) as done:
        dagan.run(["--stpes", "3"])
    assert done.value.code == 2
    with pytest.raises(RunError, match="not a run folder"):
        dagan.run(["--samples-only", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("option", "value"),
    [("images", "0"), ("samples", "0"), ("images", "1"), ("lr", "nan"), ("penalty", "nan"), ("beta1", "inf")],
)
def test_what_cannot_be_done_is_refused_before_the_training(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["dagan", *FLAGS, "--out", str(tmp_path / "r"), f"--{option}", value]) in (1, 2)
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"{option} must be " in said
    assert f"got {value}" in said
    assert not (tmp_path / "r").exists()
