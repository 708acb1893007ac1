"""Several trainings at once end as one after the other: stopped, killed, failed, by each launcher."""

import functools
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder
from innerloop.studies import Lab
from innerloop.studies.fan_out import Training, fan_out, train_one
from tiny import SINES, assert_same

RUNS = [replace(SINES, seed=s) for s in (0, 1)]


def wanted(folder: Path) -> list[Training]:
    return [Training(c, folder / f"seed{c.seed}") for c in RUNS]


def tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """In other processes too."""
    here = Path(__file__).parent
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(here), str(here.parent), before])))


def fails(item: int) -> None:
    if item == 1:
        raise InnerloopError("the second cannot be")
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def test_two_at_a_time_give_the_files_of_one_at_a_time(tmp_path: Path) -> None:
    """Catches a run that got another one's configuration, seed or folder, and threads that differ."""
    for jobs, name in ((1, "one"), (2, "two")):
        assert fan_out(train_one, wanted(tmp_path / name), jobs=jobs) == {}
    for c in RUNS:
        assert_same(tmp_path / "one" / f"seed{c.seed}", tmp_path / "two" / f"seed{c.seed}")
    assert [w.done for w in wanted(tmp_path / "two")] == [SINES.outer.steps] * 2
    began = [(w.folder / "finished.json").stat().st_mtime_ns for w in wanted(tmp_path / "two")]
    assert fan_out(train_one, wanted(tmp_path / "two"), jobs=2) == {}  # what is finished is left alone
    assert [(w.folder / "finished.json").stat().st_mtime_ns for w in wanted(tmp_path / "two")] == began
    others = [replace(w, config=replace(w.config, shot=4)) for w in wanted(tmp_path / "two")]
    assert set(fan_out(train_one, others[:1])) == {0}


def test_those_that_fail_are_named_and_the_others_end() -> None:
    found = fan_out(fails, [0, 1, 2, 3], jobs=2)
    assert set(found) == {1, 2}
    assert "second" in found[1]
    assert str(-signal.SIGKILL) in found[2]


def test_ctrl_c_stops_all_and_the_same_call_goes_on(tmp_path: Path) -> None:
    """The first process alone is told, as the others have process groups of their own."""
    long = [
        replace(w, config=replace(w.config, outer=replace(w.config.outer, steps=100_000))) for w in wanted(tmp_path)
    ]

    def soon() -> None:
        while not (long[0].folder / "metrics.jsonl").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=soon)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fan_out(train_one, long, jobs=1)
    thread.join()
    folder = RunFolder(long[0].folder)
    assert folder.has("last")
    assert not folder.finished
    with folder.alone():  # nobody trains there now
        pass
    assert not long[1].folder.exists()


def test_a_worker_killed_on_its_way_to_a_step_goes_on_to_there(tmp_path: Path, monkeypatch) -> None:
    """A training that is to pause, killed before: the same call pauses it there, and the rest is as without a pause."""
    tests_are_importable(monkeypatch)
    longer = replace(SINES, outer=replace(SINES.outer, steps=200))
    part = Training(longer, tmp_path / "part", until=160)
    assert set(fan_out(killed_once, [part])) == {0}
    assert RunFolder(part.folder).step("last") < 160
    for _ in range(2):
        assert fan_out(train_one, [part]) == {}
        assert (RunFolder(part.folder).step("last"), part.done, part.steps) == (160, 160, 160)
    whole = Training(longer, tmp_path / "whole")
    assert fan_out(train_one, [replace(part, until=0), whole]) == {}
    assert_same(part.folder, whole.folder)


@pytest.mark.slow
def test_slurm_by_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit's own executor of local processes in the place of a cluster."""
    tests_are_importable(monkeypatch)
    pytest.importorskip("submitit")
    options = {"cluster": "local", "timeout_min": "5"}
    assert fan_out(train_one, wanted(tmp_path / "a"), launcher="slurm", options=options, logs=tmp_path / "logs") == {}
    assert all(RunFolder(w.folder).finished for w in wanted(tmp_path / "a"))
    found = fan_out(fails, [0, 1], launcher="slurm", options=options, logs=tmp_path / "logs")
    assert set(found) == {1}
    assert "second" in found[1]
    with pytest.raises(InnerloopError, match="patience"):
        fan_out(fails, [0], launcher="slurm", options={"cluster": "local", "patience": "5"}, logs=tmp_path / "logs")


def killed_once(wanted: Training) -> None:
    """Train; the first worker is killed after a checkpoint."""
    mark = wanted.folder.with_suffix(".killed")
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        threading.Thread(target=functools.partial(_kill_with_a_checkpoint, wanted.folder), daemon=True).start()
    train_one(wanted)


def _kill_with_a_checkpoint(folder: Path) -> None:
    while not RunFolder(folder).has("last"):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_ray_starts_a_killed_worker_again_and_nothing_is_lost(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    tests_are_importable(monkeypatch)
    longer = replace(SINES, outer=replace(SINES.outer, steps=400))
    runs = [Training(replace(longer, seed=s), tmp_path / "ray" / f"seed{s}") for s in (0, 1)]
    assert fan_out(killed_once, runs, jobs=2, launcher="ray") == {}
    whole = [replace(r, folder=tmp_path / "local" / r.folder.name) for r in runs]
    for r in whole:
        train_one(r)
    for a, b in zip(runs, whole, strict=True):
        assert a.folder.with_suffix(".killed").exists()
        assert_same(a.folder, b.folder)


def test_a_lab_trains_its_runs_together_as_one_by_one(tmp_path: Path) -> None:
    """Catches a run in another one's folder, and methods that share a training and get two."""
    labs = [Lab("glyphs", "smoke", tmp_path / n, way=3, seeds=(0, 1)) for n in ("one", "two")]
    for name in ("multiclass", "anil"):
        for seed in (0, 1):
            labs[0].train(name, seed)
    labs[1].train_together(("multiclass", "baseline", "random", "anil"), 2)
    runs = [sorted(p.name for p in (tmp_path / n / "runs").iterdir()) for n in ("one", "two")]
    assert runs[0] == runs[1]
    for name in runs[0]:
        assert_same(tmp_path / "one" / "runs" / name, tmp_path / "two" / "runs" / name)


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InnerloopError, match="0"):
        fan_out(fails, [0], jobs=0)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(InnerloopError, match=r"innerloop\[slurm\]"):
        fan_out(fails, [0], launcher="slurm")
