"""A run that was stopped, by whatever, and resumed ends as one that was not: equal to the last bit."""

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from forks import fork, wait
from innerloop.runs import RunError, RunFolder
from innerloop.runs import folder as run_folder
from innerloop.training import Config, Interrupted, Model, Progress, build, train
from naming import names
from planting import plants
from tiny import CONFIG, SINES, assert_same, blobs, load_blobs

pytestmark = pytest.mark.usefixtures("made_images")

training = sys.modules["innerloop.training.train"]  # the name in the package is the function
LEARNED = replace(CONFIG, inner=replace(CONFIG.inner, learn_rates=True))


def at(step: int, do: Callable[[], object]) -> Callable[[Progress], None]:
    """A report that does something once `step` steps are done."""

    def report(p: Progress) -> None:
        if p.step == step:
            do()

    return report


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


class Crash(Exception):
    """Something that went wrong in a step."""


def crash() -> None:
    raise Crash


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Config], Path]:
    """whole(config) -> the run that was never stopped, trained once."""
    root = tmp_path_factory.mktemp("whole")
    there: dict[Config, Path] = {}

    def run(config: Config) -> Path:
        if config not in there:
            there[config] = train(config, root / str(len(there))).path
        return there[config]

    return run


@plants("Adam begins anew on resume", "training.loop:restore_optimizer", lambda right: lambda *given: None)
@pytest.mark.parametrize(
    ("config", "stop_at"),
    [
        (CONFIG, 3),
        (CONFIG, 4),
        (LEARNED, 3),
        (SINES, 3),
        (replace(CONFIG, method="nil"), 3),
        (replace(CONFIG, model=Model(filters=4, downsample="max_pool", readout="flatten")), 3),
        (replace(CONFIG, model=Model(arch="mlp", hidden=(5,)), task_chunk=1), 3),
    ],
    ids=["conv4", "at a validation", "learned rates", "sinusoid", "nil", "max-pool", "mlp"],
)
def test_resumed_after_ctrl_c_equals_uninterrupted(
    config: Config, stop_at: int, tmp_path: Path, whole: Callable[[Config], Path]
) -> None:
    with pytest.raises(Interrupted, match=names(f"step {stop_at}", "--resume", "--out", tmp_path / "cut")):
        train(config, tmp_path / "cut", report=at(stop_at, ctrl_c))
    assert RunFolder(tmp_path / "cut").load("last").step == stop_at
    assert not RunFolder(tmp_path / "cut").finished
    train(config, tmp_path / "cut", resume=True)
    assert_same(whole(config), tmp_path / "cut")


def test_the_comparison_sees_a_difference(whole: Callable[[Config], Path]) -> None:
    with pytest.raises(AssertionError):
        assert_same(whole(CONFIG), whole(replace(CONFIG, seed=1)))


def test_stopped_twice(tmp_path: Path, whole: Callable[[Config], Path]) -> None:
    for first, resume in ((1, False), (5, True)):
        with pytest.raises(Interrupted):
            train(LEARNED, tmp_path / "cut", resume=resume, report=at(first, ctrl_c))
    train(LEARNED, tmp_path / "cut", resume=True)
    assert_same(whole(LEARNED), tmp_path / "cut")


def test_metrics_are_means_over_all_steps_since_the_last_line(tmp_path: Path) -> None:
    """A line's mean must not lose the steps before an interruption."""
    losses: list[float] = []
    config = replace(CONFIG, validation=replace(CONFIG.validation, every=6))
    with pytest.raises(Interrupted):
        train(
            config, tmp_path / "r", report=lambda p: (losses.append(p.numbers["loss"]), ctrl_c() if p.step == 4 else 0)
        )
    train(config, tmp_path / "r", resume=True, report=lambda p: losses.append(p.numbers["loss"]))
    (row,) = RunFolder(tmp_path / "r").metrics
    assert len(losses) == 6
    assert row["loss"] == pytest.approx(sum(losses) / 6, rel=1e-12)


def test_resumed_after_an_exception_in_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Callable[[Config], Path]
) -> None:
    right, calls = training.objective_gradient, []

    def failing(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise Crash
        return right(*args, **kwargs)  # pyright: ignore

    with monkeypatch.context() as m:
        m.setattr(training, "objective_gradient", failing)
        with pytest.raises(Crash):
            train(LEARNED, tmp_path / "cut")
    assert RunFolder(tmp_path / "cut").load("last").step == 2  # what the last validation kept
    train(LEARNED, tmp_path / "cut", resume=True)
    assert_same(whole(LEARNED), tmp_path / "cut")


def test_rows_after_the_checkpoint_are_written_once(tmp_path: Path, whole: Callable[[Config], Path]) -> None:
    """A crash between the line of a validation and its checkpoint: the resumed run writes that line again, alone."""
    with pytest.raises(Crash):
        train(CONFIG, tmp_path / "r", report=at(3, crash))
    with (tmp_path / "r" / "metrics.jsonl").open("a") as f:
        f.write('{"step": 4, "loss": 9.0}\n{"step": 6, "lo')
    train(CONFIG, tmp_path / "r", resume=True)
    assert_same(whole(CONFIG), tmp_path / "r")


def test_killed_between_checkpoint_and_index(tmp_path: Path, whole: Callable[[Config], Path]) -> None:
    write = run_folder.write_json

    def killed(path: Path, value: Any) -> None:
        if path.name == "index.json" and value["last"] == "0000004":
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, value)

    def work() -> int:
        run_folder.write_json = killed
        train(SINES, tmp_path / "cut")
        return 0

    assert wait(fork(work, tmp_path / "process")) == -signal.SIGKILL
    folder = RunFolder(tmp_path / "cut")
    assert (folder.path / "checkpoints" / "0000004").is_dir()
    assert folder.load("last").step == 2
    # what the dead process left must not be taken for this one's checkpoint, even if it is not the same
    (folder.path / "checkpoints" / "0000004" / "weights.safetensors").write_bytes(b"cut off")
    (folder.path / "checkpoints" / ".0000004.1.part").mkdir()
    train(SINES, folder.path, resume=True)
    assert_same(whole(SINES), folder.path)
    assert {p.name for p in (folder.path / "checkpoints").iterdir()} == {
        "index.json",
        f"{folder.load('best').step:07d}",
        "0000006",
    }


def test_channels_last_weights_and_their_moments_keep_their_layout(tmp_path: Path) -> None:
    def last_layout(*given: object) -> torch.nn.Sequential:
        return original(*given).to(memory_format=torch.channels_last)  # pyright: ignore

    original = build.build_model
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "build_model", last_layout)
        train(CONFIG, tmp_path / "whole")
        with pytest.raises(Interrupted):
            train(CONFIG, tmp_path / "cut", report=at(3, ctrl_c))
        train(CONFIG, tmp_path / "cut", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_ctrl_c_in_the_last_step_leaves_a_finished_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path / "r", report=at(6, ctrl_c))
    assert RunFolder(tmp_path / "r").finished


def test_handlers_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        train(SINES, tmp_path / "r", report=at(2, lambda: signal.raise_signal(signal.SIGTERM)))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.fixture(scope="module")
def cut_at_3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after three steps."""
    path = tmp_path_factory.mktemp("cut") / "r"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        with pytest.raises(Interrupted):
            train(CONFIG, path, report=at(3, ctrl_c))
    return path


@pytest.mark.parametrize(
    ("file", "what", "spoil"),
    [
        ("optimizer", "'exp_avg/conv1.conv.weight'", lambda o, s: o.pop("exp_avg/conv1.conv.weight")),
        ("optimizer", "'step/head.bias'", lambda o, s: [o.pop(k) for k in list(o) if k.endswith("/head.bias")]),
        ("optimizer", "'exp_avg/other'", lambda o, s: o.update({"exp_avg/other": torch.zeros(1)})),
        ("optimizer", ("(7,)", "(3,)"), lambda o, s: o.update({"exp_avg/head.bias": torch.zeros(7)})),
        (
            "optimizer",
            ("exp_avg/head.bias", "torch.int8", "torch.float32"),
            lambda o, s: o.update({"exp_avg/head.bias": o["exp_avg/head.bias"].char()}),
        ),
        ("optimizer", "'step/head.bias'", lambda o, s: o.update({"step/head.bias": torch.ones(3)})),
        ("optimizer", "'step/head.bias'", lambda o, s: o.update({"step/head.bias": torch.tensor(-5.0)})),
        ("optimizer", "'step/head.bias'", lambda o, s: o.update({"step/head.bias": torch.tensor(2.5)})),
        ("optimizer", "'exp_avg_sq/head.bias'", lambda o, s: o["exp_avg_sq/head.bias"].sub_(1)),
        ("optimizer", "'exp_avg/head.bias'", lambda o, s: o["exp_avg/head.bias"].fill_(math.nan)),
        ("state", "'best'", lambda o, s: s.pop("best")),
        ("state", "'best'", lambda o, s: s.update(best=True)),
        ("state", "'best'", lambda o, s: s.update(best=10**400)),
        ("state", "'validation'", lambda o, s: s.update(validation="0.5")),
        ("state", "'sums'", lambda o, s: s.update(sums=[1])),
        ("state", "'sums'", lambda o, s: s.update(sums=["a", "b"])),
        ("state", "'count'", lambda o, s: s.update(count=-1)),
    ],
)
def test_a_spoilt_optimizer_or_state_is_refused(
    file: str, what: str | tuple[object, ...], spoil: Callable, tmp_path: Path, cut_at_3: Path
) -> None:
    shutil.copytree(cut_at_3, tmp_path / "r")
    folder = RunFolder(tmp_path / "r")
    c = folder.load("last")
    optimizer, state = dict(c.optimizer), dict(c.state)
    spoil(optimizer, state)
    folder.save(replace(c, step=3, optimizer=optimizer, state=state))
    with pytest.raises(RunError, match=names(f"0000003/{file}.", *(what if isinstance(what, tuple) else [what]))):
        train(CONFIG, folder.path, resume=True)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a signal of Unix")
def test_a_closed_terminal_leaves_a_checkpoint_unless_it_is_ignored(tmp_path: Path) -> None:
    def hang_up() -> None:
        signal.raise_signal(signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(Interrupted):
            train(SINES, tmp_path / "cut", report=at(3, hang_up))
        assert RunFolder(tmp_path / "cut").load("last").step == 3
        train(SINES, tmp_path / "cut", resume=True)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        train(SINES, tmp_path / "whole", report=at(3, hang_up))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_report_that_cannot_be_written_leaves_a_checkpoint(tmp_path: Path, whole: Callable[[Config], Path]) -> None:
    """The terminal is gone, or the reader of a pipe."""

    def gone() -> None:
        raise BrokenPipeError

    with pytest.raises(Interrupted):
        train(SINES, tmp_path / "cut", report=at(3, gone))
    assert RunFolder(tmp_path / "cut").load("last").step == 3
    train(SINES, tmp_path / "cut", resume=True)
    assert_same(whole(SINES), tmp_path / "cut")


def test_leftovers_of_killed_processes_are_cleared(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(SINES, tmp_path / "r", report=at(3, ctrl_c))
    root = tmp_path / "r" / "checkpoints"
    shutil.copytree(root / "0000003", root / "0000005")  # whole, but not in the index
    (root / ".0000006.99999999.part").mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in ("finished.json", "metrics.jsonl", "checkpoints/index.json"):
        path = tmp_path / "r" / name
        path.with_name(f".{path.name}.{dead.pid}.part").write_text("{")
        path.with_name(f".{path.name}.{dead.pid}-0a1b2c3d.part").write_text("{")
    with pytest.raises(Interrupted):
        train(SINES, tmp_path / "r", resume=True, report=at(5, ctrl_c))
    assert not [p.name for p in root.iterdir() if p.name.startswith(".")]
    best = f"{RunFolder(tmp_path / 'r').step('best'):07d}"
    assert {p.name for p in root.iterdir() if p.is_dir()} == {best, "0000005"}
    train(SINES, tmp_path / "r", resume=True)
    assert not list((tmp_path / "r").rglob("*.part"))


def test_blobs_have_what_the_tests_assume() -> None:
    images = blobs()
    assert images.image_shape == (1, 16, 16)
    assert [len(images.split(s).class_names) for s in ("train", "val", "test")] == [6, 6, 6]
