"""benchmarks/replay.py finds a difference of one bit, and nothing where there is none."""

import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from naming import names

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "replay.py"


@pytest.fixture(scope="module")
def replay() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("replay", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("OMP_NUM_THREADS", "1")  # the script sets it
        spec.loader.exec_module(module)
        yield module


def leave_run(folder: Path, change: Callable[[Path], None] = lambda _: None) -> None:
    """A run folder with one file of each kind, then changed."""
    steps = folder / "run" / "checkpoints" / "0000004"
    steps.mkdir(parents=True)
    g = torch.Generator().manual_seed(0)
    weights = {"conv1.weight": torch.randn(4, 3, generator=g), "head.bias": torch.randn(5, generator=g)}
    save_file(weights, steps / "weights.safetensors")
    rows = [{"step": s, "loss": 1.5 / s, "seconds": s * 1.0} for s in (2, 4)]
    (folder / "run" / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    test = {"evaluations": [{"mean": 0.5, "command": ["x"], "commit": "abc", "per_episode": [0.25, 0.75]}]}
    (folder / "run" / "eval.json").write_text(json.dumps(test))
    change(folder / "run")


def keep(replay: ModuleType, out: Path, name: str = "one", machine: dict[str, str] | None = None, **of: Any) -> Path:
    """A record in `out`, as `record` makes one."""
    folder = out / "runs" / name
    leave_run(folder, **of)
    found = dict(replay.found_in(folder))
    value = {"machine": machine or replay.machine(), "source": "s", "commands": {"train": 0}, "files": found}
    replay.write(out / f"{name}.json", value)
    return out


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / file).read_text()
        assert old in text
        (run / file).write_text(text.replace(old, new))

    return change


def flip(run: Path) -> None:
    """The last bit of one number of one tensor."""
    file = run / "checkpoints" / "0000004" / "weights.safetensors"
    weights = load_file(file)
    weights["head.bias"].view(torch.int32)[3] ^= 1
    save_file(weights, file)


def flip_loss(run: Path) -> None:
    (bits,) = struct.unpack("<q", struct.pack("<d", 1.5 / 4))
    (near,) = struct.unpack("<d", struct.pack("<q", bits ^ 1))
    edit("metrics.jsonl", repr(1.5 / 4), repr(near))(run)


def test_equal_runs_are_equal_whatever_the_time(
    replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = keep(replay, tmp_path / "a")
    b = keep(replay, tmp_path / "b", change=edit("metrics.jsonl", '"seconds": 2.0', '"seconds": 7.0'))
    assert replay.compare(a, b, [])
    assert "one: equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip, ["weights.safetensors", "1 of 2", "head.bias"]),
        (flip_loss, ["metrics.jsonl", "1 of 4", "step 4", "loss"]),
        (edit("eval.json", "[0.25", "[0.5"), ["eval.json", "per_episode.0", "0.25 → 0.5", "difference 0.25"]),
        (
            edit("eval.json", '"mean"', '"average"'),
            ["only in A: evaluations.0.mean", "only in B: evaluations.0.average"],
        ),
        (edit("eval.json", "[0.25, 0.75]", "[]"), ["only in B: evaluations.0.per_episode"]),
        (edit("eval.json", "0.5", "true"), ["evaluations.0.mean", "0.5 → True"]),
        (lambda run: (run / "eval.json").unlink(), ["eval.json: only in A"]),
    ],
)
def test_the_smallest_difference_is_found_and_named(
    replay: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    said: list[str],
) -> None:
    a, b = keep(replay, tmp_path / "a"), keep(replay, tmp_path / "b", change=change)
    replay.pack(a, packed := tmp_path / "a.json.gz")
    for side in (a, packed):
        assert not replay.compare(side, b, [])
        out = capsys.readouterr().out
        assert "one: different" in out
        assert all(s in out for s in said), out
        assert "difference inf" not in out


def test_how_far_a_tensor_is_off_is_said_where_its_run_is_there(
    replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not replay.compare(keep(replay, tmp_path / "a"), keep(replay, tmp_path / "b", change=flip), [])
    said = float(capsys.readouterr().out.split("largest difference ")[1].split()[0])
    assert 0 < said < 1e-6


def test_an_exit_status_is_compared(replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = keep(replay, tmp_path / "a"), keep(replay, tmp_path / "b")
    (b / "one.json").write_text((b / "one.json").read_text().replace('{"train": 0}', '{"train": 1}'))
    assert not replay.compare(a, b, [])
    assert "exit status: 1 of 1 differ, first 0: 0 → 1" in capsys.readouterr().out


def test_a_missing_run_is_said(replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = keep(replay, tmp_path / "a"), keep(replay, tmp_path / "b")
    keep(replay, a, "two")
    assert not replay.compare(a, b, [])
    assert f"two: missing in {b}" in capsys.readouterr().out
    assert replay.compare(a, b, ["one"])
    with pytest.raises(SystemExit, match=names("three")):
        replay.compare(a, b, ["three"])


def test_on_another_machine_numbers_have_a_tolerance_and_digests_do_not_count(
    replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {**replay.machine(), "processor": "another one"}
    a = keep(replay, tmp_path / "a")
    assert replay.compare(a, keep(replay, tmp_path / "b", machine=machine, change=flip), [])
    assert "processor differs" in capsys.readouterr().out
    far = keep(replay, tmp_path / "c", machine=machine, change=edit("eval.json", "[0.25", "[0.26"))
    assert not replay.compare(a, far, [])


def test_what_a_tensor_is_recorded_as(replay: ModuleType) -> None:
    """Norm, type and shape are in it, and bytes that compare equal but are not the same differ."""
    zeros = torch.zeros(2, 3)
    assert replay.described(torch.full((2, 2), 3.0)).startswith("float32 [2x2] 6 ")
    assert len({replay.described(t) for t in (zeros, -zeros, zeros.T, zeros.double(), zeros.int())}) == 5


def test_every_method_and_environment_has_a_run_of_its_own(replay: ModuleType) -> None:
    from innerloop.methods.catalogue import METHODS
    from innerloop.rl.catalogue import NAMES

    runs = replay.every_run()
    assert all(f"--method {m.name}" in runs[m.name][0] for m in METHODS)
    for env in NAMES:
        assert all(f"{env}-{m}-{o}" in runs for m in ("maml", "anil") for o in ("trpo", "ppo"))
    flat = [line for lines in runs.values() for line in lines]
    assert all("{" not in line for line in flat), "a name was not filled in"


def test_pictures_are_always_the_same(replay: ModuleType, tmp_path: Path) -> None:
    for side in ("a", "b"):
        replay.draw_pictures(tmp_path / side)
    files = [sorted((tmp_path / s).rglob("*.png")) for s in ("a", "b")]
    assert len(files[0]) == 30 * 5 + 3 * 3 + 3 * 2
    assert all(x.read_bytes() == y.read_bytes() for x, y in zip(*files, strict=True))
    assert len({x.read_bytes() for x in files[0]}) == len(files[0])


@pytest.mark.slow
def test_a_run_that_is_recorded_twice_is_equal(tmp_path: Path) -> None:
    """From the command line; a finished record is not made again."""

    def call(*args: str) -> str:
        done = subprocess.run([sys.executable, str(SCRIPT), *args], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    only = ("--only", "sinusoid-maml,navigation-anil-ppo")
    for side in ("a", "b"):
        said = call("record", str(tmp_path / side), *only)
        assert "sinusoid-maml: " in said
    assert call("record", str(tmp_path / "a"), *only) == ""
    assert "2 of 2 runs are equal" in call("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    files = json.loads((tmp_path / "a" / "sinusoid-maml.json").read_text())["files"]
    assert len(files["run/metrics.jsonl"]) == 2
    assert len(files["run/eval.json"]["evaluations"]) == 2
    assert "run/checkpoints/0000004/optimizer.safetensors" in files
