"""The run folder: claimed once, never overwritten, whole whatever happens."""

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from innerloop.runs import RunError, RunFolder, append_line, environment, read_json, write_json
from innerloop.runs import files as run_files
from innerloop.runs.folder import Checkpoint, load_weights
from planting import plants

ONE = Checkpoint(1, {"w": torch.arange(6.0).reshape(2, 3).T}, {"step/w": torch.tensor(1.0)}, {"best": 0.5})


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """One that was started, and stopped after a checkpoint."""
    folder = RunFolder(tmp_path / "run")
    with folder.start({"a": 1, "b": {"c": [1, 2]}}, resume=False):
        folder.save(ONE, best=True)
    return folder


def test_what_lies_in_a_run_folder(folder: RunFolder) -> None:
    names = {str(p.relative_to(folder.path)) for p in folder.path.rglob("*") if p.is_file()}
    assert names == {
        ".lock",
        "config.json",
        "env.json",
        "checkpoints/index.json",
        "checkpoints/0000001/weights.safetensors",
        "checkpoints/0000001/optimizer.safetensors",
        "checkpoints/0000001/state.json",
    }
    assert torch.equal(load_file(folder.path / "checkpoints/0000001/weights.safetensors")["w"], ONE.weights["w"])
    assert {"innerloop", "python", "torch", "processor", "command", "commit"} <= set(
        read_json(folder.path / "env.json")
    )
    assert read_json(folder.path / "env.json") == environment()


def start(path: Path, config: dict[str, Any], *, resume: bool = False) -> Checkpoint | None:
    with RunFolder(path).start(config, resume=resume) as checkpoint:
        return checkpoint


def test_an_unfinished_run_needs_resume_and_the_same_config(folder: RunFolder) -> None:
    config = folder.config
    with pytest.raises(RunError, match="--resume"):
        start(folder.path, config)
    with pytest.raises(RunError, match=r"b\.c: \[1, 2\] there, \[1, 3\] now"):
        start(folder.path, {**config, "b": {"c": [1, 3]}}, resume=True)
    with pytest.raises(RunError, match="d: None there, 4 now"):
        start(folder.path, {**config, "d": 4}, resume=True)
    found = start(folder.path, {"a": 1, "b": {"c": (1, 2)}}, resume=True)  # a tuple is JSON's list
    assert found is not None
    assert found.step == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_run_is_never_overwritten(folder: RunFolder, resume: bool) -> None:
    folder.finish({"steps": 1})
    with pytest.raises(RunError, match="never overwritten"):
        start(folder.path, folder.config, resume=resume)
    assert folder.load("best").step == 1


@plants("two trainings in one folder", "runs.folder:fcntl", lambda right: None)
def test_two_processes_in_one_folder(folder: RunFolder) -> None:
    with (
        RunFolder(folder.path).start(folder.config, resume=True),
        pytest.raises(RunError, match="another process"),
    ):
        start(folder.path, folder.config, resume=True)
    start(folder.path, folder.config, resume=True)  # and the lock is let go


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        start(tmp_path, {})
    with pytest.raises(RunError, match="not empty"):
        start(tmp_path, {}, resume=True)
    with pytest.raises(RunError, match="is a file"):
        start(tmp_path / "thesis.tex", {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_was_killed_before_its_config_can_be_repeated(tmp_path: Path) -> None:
    write_json(tmp_path / "env.json", {})
    (tmp_path / ".env.json.16.part").write_text("{")
    (tmp_path / ".config.json.17.part").write_text("{")
    (tmp_path / ".lock").touch()
    assert start(tmp_path, {"a": 1}) is None


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json", "index.json", "log"])
def test_a_full_disk_leaves_the_old_checkpoint(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Whichever file it is that does not fit any more."""

    def full(path: Path, content: bytes) -> None:
        if path.name == file:
            path.with_name(f".{path.name}.1.part").write_bytes(content[:3])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    write = run_files.write_bytes
    with monkeypatch.context() as m:
        m.setattr(run_files, "write_bytes", full)
        m.setattr("innerloop.runs.folder.write_bytes", full)
        if file == "log":
            (folder.path / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
        else:
            with pytest.raises(OSError, match="No space"):
                folder.save(replace(ONE, step=2), best=True)
    assert (folder.load("last").step, folder.load("best").step) == (1, 1)
    assert torch.equal(folder.load("last").weights["w"], ONE.weights["w"])
    assert start(folder.path, folder.config, resume=True) is not None
    folder.save(replace(ONE, step=2))  # and there is room again
    assert (folder.load("last").step, folder.load("best").step) == (2, 1)
    left = {p.name for p in (folder.path / "checkpoints").iterdir() if p.is_dir()}
    assert left == {"0000001", "0000002"}


@plants(
    "the last checkpoint for the best",
    "runs.folder:RunFolder.load",
    lambda right: lambda self, which: right(self, "last"),
)
def test_only_best_and_last_are_kept(folder: RunFolder) -> None:
    for step, best in ((2, False), (3, True), (4, False), (5, False)):
        folder.save(replace(ONE, step=step), best=best)
    assert (folder.load("best").step, folder.load("last").step) == (3, 5)
    assert {p.name for p in (folder.path / "checkpoints").iterdir() if p.is_dir()} == {"0000003", "0000005"}


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("checkpoints/index.json", b"garbage", "index.json is not valid JSON"),
        ("checkpoints/index.json", b"\xff\xfe", "index.json is not valid JSON"),
        ("checkpoints/index.json", b"[1]", "index.json"),
        ("checkpoints/index.json", b'{"last": "../../x"}', "index.json"),
        ("checkpoints/index.json", b'{"last": 7}', "index.json"),
        ("checkpoints/index.json", b'{"last": "0000009"}', "0000009 cannot be read"),
        ("checkpoints/index.json", b"{}", "no 'last' checkpoint"),
        ("checkpoints/0000001/weights.safetensors", b"", "cannot be read"),
        ("checkpoints/0000001/optimizer.safetensors", None, "cannot be read"),
        ("checkpoints/0000001/state.json", b"[3]", "cannot be read"),
        ("config.json", b"{", "config.json is not valid JSON"),
        ("config.json", b"[]", "config.json is not a configuration"),
    ],
)
def test_spoilt_files_are_named(folder: RunFolder, file: str, content: bytes | None, says: str) -> None:
    path = folder.path / file
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    with pytest.raises((RunError, ValueError), match=says) as found:
        _ = folder.load("last") if file.startswith("checkpoints") else folder.config
    assert str(folder.path) in str(found.value)


def test_a_spoilt_line_of_metrics_is_named(folder: RunFolder) -> None:
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\nxx\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl has a line"):
        _ = folder.metrics


def test_a_cut_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    append_line(path, {"step": 1, "name": "a\u2028b"})
    with path.open("a") as f:
        f.write('{"step": 2')
    assert run_files.read_lines(path) == [{"step": 1, "name": "a\u2028b"}]


def test_nan_is_no_result(tmp_path: Path) -> None:
    for write in (write_json, append_line):
        with pytest.raises(ValueError, match="JSON compliant"):
            write(tmp_path / "x", {"v": float("nan")})
    assert not [p for p in tmp_path.iterdir() if p.stat().st_size]


@plants(
    "files are written in place",
    "runs.files:write_bytes",
    lambda right: lambda path, content: path.write_bytes(content),
)
def test_write_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "x.json", {"v": 1})

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(run_files.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_json(tmp_path / "x.json", {"v": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    monkeypatch.undo()
    write_json(tmp_path / "folders" / "that lack" / "x.json", {"v": 3})
    assert read_json(tmp_path / "folders" / "that lack" / "x.json") == {"v": 3}


def test_weights_of_another_model(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    fits = {n: p.detach() + 1 for n, p in model.named_parameters()}
    for weights, says in (
        ({"0.weight": fits["0.weight"]}, "lacks '0.bias'"),
        ({**fits, "1.bias": torch.zeros(1)}, "has '1.bias', which the model lacks"),
        ({**fits, "0.bias": torch.zeros(4)}, r"of shape \(4,\), the model of \(3,\)"),
    ):
        before = model[0].bias.clone()
        with pytest.raises(RunError, match=says):
            load_weights(model, weights, "x")
        assert torch.equal(model[0].bias, before)
    load_weights(model, {**fits, "rate:0": torch.ones(2)}, "x")  # learned rates are not the model's
    assert torch.equal(model[0].weight, fits["0.weight"])
