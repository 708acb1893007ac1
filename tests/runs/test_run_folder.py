"""The run folder: claimed once, never overwritten, whole whatever happens."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from forks import all_of
from innerloop.errors import InnerloopError
from innerloop.runs import RunError, RunFolder, append_line, environment, read_json, write_json
from innerloop.runs import files as run_files
from innerloop.runs import folder as run_folder
from innerloop.runs.folder import Checkpoint, load_weights
from naming import names
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
    with pytest.raises(RunError, match=names(folder.path, "--resume", "--out")):
        start(folder.path, config)
    with pytest.raises(RunError, match=names(folder.path, "b.c", [1, 2], [1, 3])):
        start(folder.path, {**config, "b": {"c": [1, 3]}}, resume=True)
    with pytest.raises(RunError, match=names(folder.path, "d", None, 4)):
        start(folder.path, {**config, "d": 4}, resume=True)
    found = start(folder.path, {"a": 1, "b": {"c": (1, 2)}}, resume=True)  # a tuple is JSON's list
    assert found is not None
    assert found.step == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_finished_run_is_never_overwritten(folder: RunFolder, resume: bool) -> None:
    folder.finish({"steps": 1})
    with pytest.raises(RunError, match=names(folder.path, "innerloop evaluate", "--out")):
        start(folder.path, folder.config, resume=resume)
    assert folder.load("best").step == 1


@plants("two trainings in one folder", "runs.files:fcntl", lambda right: None)
def test_two_processes_in_one_folder(folder: RunFolder) -> None:
    with RunFolder(folder.path).start(folder.config, resume=True):
        for resume in (True, False):  # --resume would not help while the other one trains
            with pytest.raises(RunError, match=names("process", folder.path, "--out")):
                start(folder.path, folder.config, resume=resume)
    start(folder.path, folder.config, resume=True)  # and the lock is let go


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=names(tmp_path, "--out")):
        start(tmp_path, {})
    with pytest.raises(RunError, match=names(tmp_path, "--out")):
        start(tmp_path, {}, resume=True)
    with pytest.raises(RunError, match=names(tmp_path / "thesis.tex", "--out")):
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
            with pytest.raises(OSError, match=names(f"Errno {errno.ENOSPC}")):
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
    ("file", "content", "more"),
    [
        ("checkpoints/index.json", b"garbage", ()),
        ("checkpoints/index.json", b"\xff\xfe", ()),
        ("checkpoints/index.json", b"[1]", ("index.json", [1])),
        ("checkpoints/index.json", b'{"last": "../../x"}', ("index.json", "last")),
        ("checkpoints/index.json", b'{"last": 7}', ("index.json", "last")),
        ("checkpoints/index.json", b'{"last": "0000009"}', ("0000009",)),
        ("checkpoints/index.json", b"{}", ("last",)),
        ("checkpoints/0000001/weights.safetensors", b"", ()),
        ("checkpoints/0000001/optimizer.safetensors", None, ()),
        ("checkpoints/0000001/state.json", b"[3]", ("state.json", [3])),
        ("config.json", b"{", ()),
        ("config.json", b"[]", ("config.json", [])),
        ("config.json", b"[" * 20_000, ()),
        ("config.json", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", ()),
        ("config.json", b'{"a": 1, "a": 2}', ("config.json", "'a'")),
        ("config.json", b'{"a": NaN}', ("config.json", "NaN")),
        ("config.json", b'{"a": 1e999}', ("config.json", "1e999")),
        ("config.json", b'{"a": ' + b"9" * 5000 + b"}", ()),
        ("checkpoints/index.json", b'{"last": "' + b"9" * 5000 + b'"}', ()),
        ("checkpoints/index.json", b'{"last": "0000001", "step30": "0000001"}', ("index.json", "step30")),
    ],
)
def test_spoilt_files_are_named(folder: RunFolder, file: str, content: bytes | None, more: tuple[object, ...]) -> None:
    path = folder.path / file
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    with pytest.raises(InnerloopError, match=names(*(more or [path]), folder.path)):
        _ = folder.load("last") if file.startswith("checkpoints") else folder.config


def test_a_spoilt_line_of_metrics_is_named(folder: RunFolder) -> None:
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\nxx\n{"step": 2}\n')
    with pytest.raises(InnerloopError, match=names(folder.path / "metrics.jsonl", "line 2")):
        _ = folder.metrics
    (folder.path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5, "accepted": true}\n{"step": 2, "loss": "x"}\n')
    with pytest.raises(InnerloopError, match=names(folder.path / "metrics.jsonl", "line 2", "loss")):
        _ = folder.metrics


def test_a_cut_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    append_line(path, {"step": 1, "name": "a\u2028b"})
    with path.open("a") as f:
        f.write('{"step": 2')
    assert run_files.read_lines(path) == [{"step": 1, "name": "a\u2028b"}]


def test_nan_is_no_result(tmp_path: Path) -> None:
    for write in (write_json, append_line):
        with pytest.raises(ValueError, match=names("JSON")):
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
    with pytest.raises(OSError, match=names(f"Errno {errno.EIO}", tmp_path / "x.json")):
        write_json(tmp_path / "x.json", {"v": 2})
    assert json.loads((tmp_path / "x.json").read_text()) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    monkeypatch.undo()
    write_json(tmp_path / "folders" / "that lack" / "x.json", {"v": 3})
    assert read_json(tmp_path / "folders" / "that lack" / "x.json") == {"v": 3}


def test_weights_of_another_model(tmp_path: Path) -> None:
    own = dict(torch.nn.Sequential(torch.nn.Linear(2, 3)).named_parameters())
    fits = {n: p.detach() + 1 for n, p in own.items()}
    bias = fits["0.bias"]
    for weights, more in (
        ({"0.weight": fits["0.weight"]}, ["0.bias"]),
        ({**fits, "1.bias": torch.zeros(1)}, ["1.bias"]),
        ({**fits, "rate:1": torch.zeros(1)}, ["rate:1"]),
        ({**fits, "0.bias": torch.zeros(4)}, ["0.bias", (4,), (3,)]),
        ({**fits, "0.bias": bias.long()}, ["0.bias", "int64", "float32"]),
        ({**fits, "0.bias": bias.bool()}, ["0.bias", "bool", "float32"]),
        ({**fits, "0.bias": bias.half()}, ["0.bias", "float16", "float32"]),
        ({**fits, "0.bias": bias.double()}, ["0.bias", "float64", "float32"]),
        ({**fits, "0.bias": bias / 0}, ["0.bias"]),
    ):
        before = own["0.bias"].clone()
        with pytest.raises(RunError, match=names(tmp_path / "weights.safetensors", *more)):
            load_weights(own, Checkpoint(1, weights, {}, {}, tmp_path))
        assert torch.equal(own["0.bias"], before)
    load_weights(own, Checkpoint(1, fits, {}, {}))
    assert torch.equal(own["0.weight"], fits["0.weight"])


def test_a_changed_or_exchanged_tensor_file_is_found(folder: RunFolder) -> None:
    where = folder.path / "checkpoints" / "0000001"
    whole = (where / "weights.safetensors").read_bytes()
    (where / "weights.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match=names(where / "weights.safetensors")):
        folder.load("last")
    (where / "weights.safetensors").write_bytes(whole)
    state = read_json(where / "state.json")
    del state["sha256"]  # of a checkpoint from before there were checksums
    write_json(where / "state.json", state)
    assert torch.equal(folder.load("last").weights["w"], ONE.weights["w"])
    where.rename(where.with_name("0000003"))
    write_json(folder.path / "checkpoints" / "index.json", {"last": "0000003"})
    with pytest.raises(RunError, match=names(where.with_name("0000003") / "state.json", "step 1")):
        folder.load("last")


def test_a_lost_index_does_not_cost_the_checkpoints(folder: RunFolder) -> None:
    folder.save(replace(ONE, step=2))
    (folder.path / "checkpoints" / "index.json").unlink()
    with pytest.raises(RunError, match=names(folder.path / "checkpoints" / "index.json")):
        start(folder.path, folder.config, resume=True)
    assert len(list((folder.path / "checkpoints").iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of Unix")
@pytest.mark.parametrize("file", ["config.json", ".lock", "metrics.jsonl", "checkpoints/0000001/weights.safetensors"])
def test_a_pipe_is_not_waited_for(folder: RunFolder, file: str) -> None:
    config, path = folder.config, folder.path / file
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(InnerloopError, match=names(path)):
        start(folder.path, config, resume=True)


def test_a_lock_that_is_a_link_spoils_nothing(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    (folder.path / ".lock").unlink()
    (folder.path / ".lock").symlink_to(tmp_path / "thesis.tex")
    start(folder.path, folder.config, resume=True)
    assert (tmp_path / "thesis.tex").read_text() == "x"


@pytest.mark.parametrize("value", ["[]", "{}", '{"steps": "x", "seconds": 1}', '{"steps": 1, "seconds": true}', "{"])
def test_a_spoilt_summary_is_named(folder: RunFolder, value: str) -> None:
    (folder.path / "finished.json").write_text(value)
    with pytest.raises(InnerloopError, match=names(folder.path / "finished.json")):
        _ = folder.summary
    folder.finish({"steps": 1, "seconds": 2.0})
    with pytest.raises(RunError, match=names(folder.path / "finished.json", "best_step")):
        folder.summary_with("best_step")


def test_evaluations_are_added_replaced_and_kept(folder: RunFolder) -> None:
    folder.add_evaluation({"a": 1, "b": "x", "mean": 0.1}, ("a", "b"))
    folder.add_evaluation({"a": 2, "b": "x", "mean": 0.2}, ("a", "b"))
    folder.add_evaluation({"a": 1, "b": "x", "mean": 0.3}, ("a", "b"))
    assert [r["mean"] for r in folder.evaluations] == [0.2, 0.3]
    write_json(folder.path / "eval.json", {"evaluations": [{"a": 1, "mean": 0.4}, {"a": 1, "b": "y", "mean": 0.5}]})
    folder.add_evaluation({"a": 1, "b": "x", "mean": 0.6}, ("a", "b"), b="x")  # what rows of before "b" stand for
    assert [r["mean"] for r in folder.evaluations] == [0.5, 0.6]
    (folder.path / "eval.json").write_text("{")
    with pytest.raises(InnerloopError, match=names(folder.path / "eval.json")):
        folder.add_evaluation({"a": 1, "b": "x"}, ("a", "b"))
    assert (folder.path / "eval.json").read_text() == "{"


def test_no_evaluation_is_lost_while_others_are_added(folder: RunFolder, tmp_path: Path) -> None:
    def adding(who: str) -> Callable[[], int]:
        def work() -> int:
            for i in range(10):
                RunFolder(folder.path).add_evaluation({"who": who, "i": i}, ("who", "i"))
            return 0

        return work

    with RunFolder(folder.path).start(folder.config, resume=True):  # nor does a training stand in their way
        assert all_of([adding(str(n)) for n in range(3)], [tmp_path / f"process{n}" for n in range(3)]) == [0, 0, 0]
    assert {(r["who"], r["i"]) for r in folder.evaluations} == {(str(n), i) for n in range(3) for i in range(10)}


@pytest.mark.parametrize("call", range(1, 4))
@pytest.mark.parametrize("what", ["open", "fsync"])
def test_files_are_written_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, what: str
) -> None:
    """The disk is full at the first, second or third of them."""
    old = dict.fromkeys(("a", "b/c", "d", "e"), b"old")
    run_files.write_all(tmp_path, old)
    calls: list[int] = []
    whole = {"open": Path.open, "fsync": os.fsync}[what]

    def full(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*args, **kwargs)

    new = {"a": b"new", "b/c": b"new", "d": b"new", "e": None}
    with monkeypatch.context() as m:
        m.setattr(Path if what == "open" else run_files.os, what, full)
        with pytest.raises(OSError, match=names(f"Errno {errno.ENOSPC}")):
            run_files.write_all(tmp_path, new)
    assert {n: (tmp_path / n).read_bytes() for n in old} == old
    assert not list(tmp_path.rglob("*.part"))
    run_files.write_all(tmp_path, new)
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"a", "c", "d"}


def test_the_part_of_a_living_process_is_left(tmp_path: Path) -> None:
    other = tmp_path / f".x.json.{os.getppid()}-0a1b2c3d.part"
    other.write_text("{")
    write_json(tmp_path / "x.json", {})
    assert other.exists()


def test_a_checkpoint_that_a_training_replaces_while_it_is_read(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = run_folder.load, []

    def replaced(content: bytes) -> dict[str, torch.Tensor]:
        if not calls:
            calls.append(1)
            folder.save(replace(ONE, step=2), best=True)
        return whole(content)

    monkeypatch.setattr(run_folder, "load", replaced)
    assert folder.load("last").step == 2


def test_another_process_that_begins_at_this_moment_is_not_taken_for_a_stranger(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, there = Path.iterdir, tmp_path / "new"
    there.mkdir()

    def begun(path: Path) -> Iterator[Path]:
        if path == there and not (there / "config.json").exists():
            shutil.copytree(folder.path, there, dirs_exist_ok=True)
        return whole(path)

    monkeypatch.setattr(Path, "iterdir", begun)
    with pytest.raises(RunError, match=names(there, "--resume")):
        start(there, folder.config)
