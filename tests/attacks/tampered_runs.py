"""Run folders that were damaged, mixed up or forged, given to every command that reads them.

    python tests/attacks/tampered_runs.py

A folder is survived if each command either ends with status 1 and one sentence that names the file, or with status 0
and the same numbers as the folder that was not touched. No traceback, no waiting, no number from other weights.
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from kill_and_resume import timeless
from safetensors.torch import load_file, save_file
from torch import Tensor

from forks import COMMANDS, OUT, prepared, report, run_to_the_end
from innerloop import cli
from innerloop.runs import RunFolder

SECONDS = 120
"""that a command may take"""
READERS: dict[str, tuple[list[str], ...]] = {
    "train": (["evaluate", OUT], ["analyse", OUT, "--episodes", "4"]),
    "ppo": (["rl", "evaluate", OUT],),
    "dagan": (COMMANDS["dagan"][1],),
    "cut train": ([*COMMANDS["train"][0], "--resume"], ["evaluate", OUT, "--which", "last"]),
    "cut ppo": ([*COMMANDS["ppo"][0], "--resume"],),
    "cut dagan": ([*COMMANDS["dagan"][0], "--resume"],),
    "reproduce": (COMMANDS["reproduce"][0],),
}
"""by kind of run, finished or cut off: the commands that read it"""


@dataclass(frozen=True)
class Tamper:
    """One way to spoil a run."""

    run: str
    file: str
    what: str
    do: Callable[[Path], object]
    """with the path of the file"""
    names: tuple[str, ...] = ()
    """what the sentence may name instead of the file"""

    def __str__(self) -> str:
        return f"{self.run}, {self.file}: {self.what}"


def text(content: bytes) -> Callable[[Path], object]:
    """Another content."""
    return lambda p: p.write_bytes(content)


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else of that name."""
    return lambda p: (p.unlink(), make(p))


GENERIC: dict[str, Callable[[Path], object]] = {
    "empty": text(b""),
    "half": lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]),
    "no text": text(b"\xff\xfe\x00\x01"),
    "a list": text(b"[1]\n"),
    "null": text(b"null\n"),
    "a number": text(b"7\n"),
    "nested 20,000 deep": text(b"[" * 20_000 + b"]" * 20_000 + b"\n"),
    "nested 500 deep": text(b'{"a":' * 500 + b"1" + b"}" * 500 + b"\n"),
    "NaN": text(b'{"step": NaN}\n'),
    "beyond a float": text(b'{"step": 1e999}\n'),
    "5,000 digits": text(b'{"step": ' + b"9" * 5000 + b"}\n"),
    "a name twice": text(b'{"step": 1, "step": 2}\n'),
    "other names": text(b'{"x": {"y": ["z"]}}\n'),
    "missing": Path.unlink,
    "a folder": instead(Path.mkdir),
    "a link to nothing": instead(lambda p: p.symlink_to("nowhere")),
    "a link to /dev/zero": instead(lambda p: p.symlink_to("/dev/zero")),
    "a pipe": instead(os.mkfifo),
}


def edited(**changes: Any) -> Callable[[Path], object]:
    """A JSON object with other entries (None: without); `a__b` is b in a."""

    def edit(path: Path) -> None:
        whole = json.loads(path.read_text())
        for name, new in changes.items():
            *outer, last = name.split("__")
            value = whole
            for key in outer:
                value = value[key]
            if new is None:
                del value[last]
            else:
                value[last] = new
        path.write_text(json.dumps(whole))

    return edit


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    """A file of tensors with a change, and the checksum that goes with it."""

    def edit(path: Path) -> None:
        found = load_file(path)
        change(found)
        save_file({n: t.contiguous() for n, t in found.items()}, path)
        sign(path)

    return edit


def sign(path: Path) -> None:
    """Put the checksum of a tensor file into the state beside it."""
    state = json.loads((path.parent / "state.json").read_text())
    state["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "state.json").write_text(json.dumps(state))


def signed(do: Callable[[Path], object]) -> Callable[[Path], object]:
    """The same with its checksum."""
    return lambda p: (do(p), sign(p))


def one(name: str, new: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    """Another tensor of that name."""
    return lambda t: t.update({name: new(t[name])})


def tensor_tampers(name: str) -> dict[str, Callable[[Path], object]]:
    """Those of a file of tensors in which one is called `name`."""
    return {
        "a bit flipped": lambda p: p.write_bytes(
            p.read_bytes()[:-2] + bytes([p.read_bytes()[-2] ^ 64, p.read_bytes()[-1]])
        ),
        "empty": signed(text(b"")),
        "half": signed(lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2])),
        "a header of 2^60 bytes": signed(text((1 << 60).to_bytes(8, "little") + b"{}")),
        "no tensors": signed(text((2).to_bytes(8, "little") + b"{}")),
        "a torch file": signed(lambda p: torch.save({"a": torch.zeros(2)}, p)),
        "missing": Path.unlink,
        "a folder": instead(Path.mkdir),
        "a link to /dev/zero": instead(lambda p: p.symlink_to("/dev/zero")),
        "a pipe": instead(os.mkfifo),
        "int64": tensors(one(name, lambda t: t.long())),
        "int8": tensors(one(name, lambda t: t.to(torch.int8))),
        "bool": tensors(one(name, lambda t: t.bool())),
        "half precision": tensors(one(name, lambda t: t.half())),
        "double precision": tensors(one(name, lambda t: t.double())),
        "transposed": tensors(one(name, lambda t: t.reshape(1, *t.shape))),
        "longer": tensors(one(name, lambda t: torch.cat([t.reshape(-1), t.reshape(-1)]))),
        "a number alone": tensors(one(name, lambda t: t.reshape(-1)[0].clone())),
        "NaN": tensors(one(name, lambda t: t * float("nan"))),
        "infinite": tensors(one(name, lambda t: t + float("inf"))),
        "one missing": tensors(lambda t: t.pop(name)),
        "one more": tensors(lambda t: t.update({"other": torch.zeros(1)})),
        "another name": tensors(lambda t: t.update({f"{name}x": t.pop(name)})),
    }


def _renamed(index: Path) -> None:
    (index.parent / "0000002").rename(index.parent / "0000004")
    index.write_text('{"last": "0000004", "best": "0000004"}')


def tampers() -> Iterator[Tamper]:
    """All of them; of what is read by the same code in runs of each kind, a part only for the others."""
    best, last = "checkpoints/BEST/", "checkpoints/LAST/"
    few = {w: GENERIC[w] for w in ("half", "a list", "nested 20,000 deep", "other names", "missing", "a pipe")}
    files = ("config.json", "checkpoints/index.json")
    generic: list[tuple[str, Sequence[str]]] = [
        ("train", (*files, f"{best}state.json", "eval.json")),
        ("ppo", (*files, f"{best}state.json", "eval.json")),
        ("dagan", (*files, f"{last}state.json")),
        *((f"cut {run}", (*files, f"{last}state.json", "metrics.jsonl")) for run in ("train", "ppo", "dagan")),
        ("reproduce", ("FIRST/config.json", "FIRST/env.json", "FIRST/finished.json", "TABLE/result.json")),
    ]
    for run, names in generic:
        for file in names:
            for what, do in (GENERIC if run.endswith("train") else few).items():
                yield Tamper(run, file, what, do)

    heads = {"train": "head.weight", "ppo": "head.weight", "dagan": "generator.down.0.0.conv.weight"}
    for run, name in heads.items():
        place = last if run == "dagan" else best
        kept = tensor_tampers("").keys() if run == "train" else ("a bit flipped", "half", "int64", "NaN", "one missing")
        for what, do in ((w, d) for w, d in tensor_tampers(name).items() if w in kept):
            yield Tamper(run, f"{place}weights.safetensors", what, do)
            yield Tamper(f"cut {run}", f"{last}weights.safetensors", what, do)
        for what, do in ((w, d) for w, d in tensor_tampers(f"exp_avg/{name}").items() if w in kept):
            yield Tamper(f"cut {run}", f"{last}optimizer.safetensors", what, do)
        step = f"step/{name}"
        for what, do in {
            "step of three": one(step, lambda _: torch.ones(3)),
            "step −5": one(step, lambda t: t * 0 - 5),
            "step 1.5": one(step, lambda t: t * 0 + 1.5),
            "negative squares": one(f"exp_avg_sq/{name}", lambda t: -t - 1),
        }.items():
            yield Tamper(f"cut {run}", f"{last}optimizer.safetensors", what, tensors(do))
        for what, changes in {
            "another step": {"step": 1},
            "a step in words": {"step": "3"},
            "seconds in words": {"seconds": "x"},
            "seconds true": {"seconds": True},
            "no seconds": {"seconds": None},
            "another checksum": {"sha256__weights.safetensors": "0" * 64},
            "a checksum of another kind": {"sha256": 7},
        }.items():
            yield Tamper(f"cut {run}", f"{last}state.json", what, edited(**changes), ("weights.safetensors",))
        for what, index in {
            "a path": '"../../x"',
            "an absolute path": '"/etc/passwd"',
            "a number instead of a name": "7",
            "a checkpoint that is not there": '"0000099"',
            "5,000 digits in a name": f'"{"9" * 5000}"',
            "digits of another script": '"０００００01"',
        }.items():
            content = f'{{"last": {index}, "best": {index}}}'.encode()
            yield Tamper(run, "checkpoints/index.json", what, text(content), ("0000099",))
            yield Tamper(f"cut {run}", "checkpoints/index.json", what, text(content), ("0000099",))
    for what, changes in {
        "sums of one": {"sums": [1]},
        "sums of words": {"sums": ["a", "b"]},
        "count negative": {"count": -1},
        "count of 400 digits": {"count": 10**400},
        "best in words": {"best": "0.5"},
        "best of 400 digits": {"best": 10**400},
        "validation a list": {"validation": [0.5]},
    }.items():
        yield Tamper("cut train", f"{last}state.json", what, edited(**changes))
    for what, changes in {
        "way of 31 digits": {"way": 10**30},
        "way 0": {"way": 0},
        "way in words": {"way": "5"},
        "another way": {"way": 2},
        "another method": {"method": "nope"},
        "another width": {"model__filters": 8},
        "no widths": {"model__arch": "mlp", "model__hidden": []},
        "a setting of a later version": {"flux": 1},
        "a device": {"device": "privateuseone"},
        "negative episodes": {"test__episodes": -1},
    }.items():
        yield Tamper(
            "train", "config.json", what, edited(**changes), ("weights.safetensors", "device", "privateuseone")
        )
        yield Tamper(
            "cut train",
            "config.json",
            what,
            edited(**changes),
            ("weights.safetensors", "another configuration", "privateuseone"),
        )
    yield Tamper("train", "checkpoints/index.json", "another kept step", edited(step4="0000002"))
    yield Tamper(
        "train", f"{best}weights.safetensors", "of a policy", lambda p: shutil.copy(p.parents[4] / "weights", p)
    )
    yield Tamper(
        "cut train",
        f"{last}optimizer.safetensors",
        "the weights",
        lambda p: shutil.copy(p.with_name("weights.safetensors"), p),
    )
    yield Tamper(
        "cut train",
        f"{last}weights.safetensors",
        "of an earlier step",
        lambda p: shutil.copy(p.parents[1] / "0000002" / p.name, p),
    )
    yield Tamper(
        "cut train", "checkpoints/index.json", "an earlier checkpoint under a later name", _renamed, ("0000004",)
    )
    for what, line in {
        "no step": '{"loss": 1}',
        "a step in words": '{"step": "1"}',
        "a loss in words": '{"step": 1, "loss": "x"}',
    }.items():
        yield Tamper("cut train", "metrics.jsonl", what, text(line.encode() + b"\n"))
    for what, changes in {
        "rows a number": {"rows": 7},
        "rows of numbers": {"rows": [1]},
        "no claims": {"claims": None},
        "another kind of drawing": {"drawing": {"kind": "x"}},
        "a drawing in words": {"drawing": "x"},
        "another title": {"name": 7},
    }.items():
        yield Tamper("reproduce", "TABLE/result.json", what, edited(**changes))


def make_runs(place: Path, wanted: Iterable[str]) -> dict[str, Path]:
    """One run of each kind that is wanted, finished or cut off; by name, where it lies."""
    found = {name: place / name for name in READERS if name in wanted}
    for name, path in found.items():
        cut = name.removeprefix("cut ")
        in_folder(path, lambda name=name, cut=cut: run_to_the_end(name) if cut == name else _cut(cut))
    return found


def in_folder(folder: Path, work: Callable[[], int]) -> tuple[int, str, str]:
    """Exit status, output and errors of a command in that folder; a traceback is status 70."""
    folder.mkdir(parents=True, exist_ok=True)
    out, err, before = io.StringIO(), io.StringIO(), Path.cwd()

    def late(*_: object) -> None:
        raise TimeoutError(f"after {SECONDS} seconds")

    os.chdir(folder)
    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = work()
            except BaseException:
                traceback.print_exc()
                status = 70
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        os.chdir(before)
    return status, out.getvalue(), err.getvalue()


def _cut(name: str) -> int:
    """Stopped by Ctrl-C after three steps of four."""
    from innerloop.training import loop

    progress = loop.Progress

    def stop(step: int, *given: Any) -> Any:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return progress(step, *given)

    loop.Progress = stop  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return cli.run(COMMANDS[name][0])
    finally:
        loop.Progress = progress


def contents(run: Path, but_for: Sequence[str] = ()) -> dict[Path, bytes]:
    """Of the files that hold numbers, but for what that command writes or shows even if it finds it there."""
    names = {"eval.json", "result.json", "generated.json"}
    names -= {"eval.json"} if "evaluate" in but_for else {"result.json"} if "reproduce" in but_for else set()
    return {p: p.read_bytes() for n in names for p in run.rglob(n) if p.is_file() and not p.is_symlink()}


def numbers(run: Path, before: dict[Path, bytes], *, trained: bool) -> dict[str, Any]:
    """What a command has found: the last evaluation, the analysis, the samples, the results, the last checkpoint."""
    found: dict[str, Any] = {}
    for path, content in contents(run).items():
        if before.get(path) != content:
            value = timeless(json.loads(content))
            found[path.name] = value["evaluations"][-1] if path.name == "eval.json" else value
    if trained:
        last = RunFolder(run).load("last")
        found["last"] = {n: t.numpy().tobytes() for n, t in [*last.weights.items(), *last.optimizer.items()]}
    return found


def attack(t: Tamper, whole: Path, place: Path, truth: Sequence[dict[str, Any]]) -> list[str]:
    """What broke."""
    broken = []
    for command, right in zip(READERS[t.run], truth, strict=True):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        file = located(place / OUT, t.file)
        t.do(file)
        before = contents(place / OUT, command)
        status, out, err = in_folder(place, lambda c=command: cli.run(c))
        said = f"{shlex.join(command)}: status {status}: {(err or out)[-400:]}"
        named = any(n in err for n in (file.name, *t.names, *([OUT] if t.what in _ABSENT else [])))
        if status == 1 and len(err.strip().splitlines()) == 1 and err.startswith("innerloop: ") and named:
            continue
        if status == 0 and numbers(place / OUT, before, trained="--resume" in command) == right:
            continue
        broken.append(f"{t}: {said}")
    return broken


_ABSENT = ("missing", "a link to nothing")


def located(run: Path, file: str) -> Path:
    """The path of a file of a run, with the names that only the run knows."""
    for which in ("best", "last"):
        if which.upper() in file:
            file = file.replace(which.upper(), RunFolder(run)._name(which))
    for word, pattern in (("FIRST", "runs/*"), ("TABLE", "*/table2")):
        if word in file:
            (first, *_) = sorted(run.glob(pattern))
            file = file.replace(word, str(first.relative_to(run)))
    return run / file


def main(wanted: Callable[[int, Tamper], bool] = lambda _i, _t: True) -> bool:
    """All that are wanted; prints the figures."""
    broken: list[str] = []
    chosen = [t for i, t in enumerate(tampers()) if wanted(i, t)]
    with prepared() as folder:
        runs = make_runs(folder / "whole", {"ppo", *(t.run for t in chosen)})
        shutil.copy(located(runs["ppo"] / OUT, "checkpoints/BEST/weights.safetensors"), folder / "weights")
        truth: dict[str, list[dict[str, Any]]] = {}
        for name, whole in runs.items():
            truth[name] = []
            for command in READERS[name]:
                shutil.copytree(whole, folder / "t")
                before = contents(folder / "t" / OUT, command)
                status, _, err = in_folder(folder / "t", lambda c=command: cli.run(c))
                assert status == 0, (name, err)
                truth[name].append(numbers(folder / "t" / OUT, before, trained="--resume" in command))
                shutil.rmtree(folder / "t")
        for t in chosen:
            bad = attack(t, runs[t.run], folder / "t", truth[t.run])
            for line in bad:
                print(f"  {line}", flush=True)
            broken += [str(t)] if bad else []
    return report("tampered_runs", len(chosen), broken)


if __name__ == "__main__":
    sys.exit(not main())
