"""One training run on disk.

config.json      what was asked
env.json         what it was made with
metrics.jsonl    one line a logged step
checkpoints/     STEP/weights.safetensors, STEP/optimizer.safetensors, STEP/state.json; index.json names last and best,
                 and as stepSTEP those that are kept for good
finished.json    only once training has reached its last step
eval.json        test results
.lock            held while a process trains here
.eval.lock       held while a process adds to eval.json: also while another one trains
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.notebook import html_table
from innerloop.runs.environment import environment
from innerloop.runs.files import (
    append_line,
    check_regular,
    locked,
    read_lines,
    read_object,
    write_bytes,
    write_json,
)

T = TypeVar("T")
Kind = type | tuple[type, ...] | list[type]
_EVALUATION_KEYS = {"enlarged": "augment_support"}
"""entries of eval.json that had another name in earlier versions"""
WEIGHTS, OPTIMIZER = "weights.safetensors", "optimizer.safetensors"


class RunError(InnerloopError):
    """A run folder that cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what else is needed to continue from `step`."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    folder: Path = Path()
    """where it was read from; errors name its files"""

    def entries(self, **kinds: Kind) -> tuple[Any, ...]:
        """These entries of the state; RunError, naming file and entry, for one that lacks or is not of its kind.

        Kinds: float (any finite number), int (0 or more), types, and lists of kinds, one an element.
        """
        for name, kind in kinds.items():
            if name not in self.state or not _is_of(self.state[name], kind):
                what = f"has no good {name!r}" if name in self.state else f"lacks {name!r}"
                raise RunError(f"{self.folder / 'state.json'} {what}; train again")
        return tuple(self.state[name] for name in kinds)


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run folder; every file in it is whole or absent."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether training has reached its last step."""
        return (self.path / "finished.json").exists()

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.json").exists()

    @property
    def config(self) -> dict[str, Any]:
        """config.json"""
        if not self.exists:
            raise RunError(f"{self.path} is not a run folder: it has no config.json")
        return read_object(self.path / "config.json")

    @property
    def environment(self) -> dict[str, Any]:
        """env.json"""
        return read_object(self.path / "env.json")

    def config_as(self, make: Callable[[dict[str, Any]], T]) -> T:
        """config.json as `make` reads it; errors name the file."""
        config = self.config
        try:
            return make(config)
        except ValueError as error:
            raise RunError(f"{self.path / 'config.json'}: {error}") from None

    @contextmanager
    def start(
        self, config: Mapping[str, Any], *, resume: bool, read: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Iterator[Checkpoint | None]:
        """Claim the folder for training; gives the checkpoint to continue from, or None at the beginning.

        A finished run is never overwritten, an unfinished one only continued (with `resume`, and the same config),
        and two processes never write to one folder. `read` brings the config of an earlier version, which may lack
        settings that have come since, into the form of this one.
        """
        config = json.loads(json.dumps(config))
        self._refuse()  # before anything is written into a folder that is not ours
        with self.alone():
            self._refuse()  # again: another process may have trained here in the meantime
            if self.exists and not resume:
                raise RunError(f"{self.path} holds an unfinished run; continue it with --resume, or give another --out")
            if self.exists:
                try:
                    found = self.config_as(read)
                except RunError as error:
                    raise RunError(f"{error}; to train, give another --out") from None
                different = differences(json.loads(json.dumps(found)), config)
                if different:
                    instead = (
                        "" if self.has("last") else "; it has no checkpoint yet, so nothing is lost by deleting it"
                    )
                    raise RunError(
                        f"{self.path} was started with another configuration ({'; '.join(different)}); "
                        f"resume with the same one, or give another --out{instead}"
                    )
                checkpoint = self.load("last") if self.has("last") else None
                self._tidy()
                self._cut_metrics(checkpoint.step if checkpoint else 0)
            else:
                write_json(self.path / "env.json", environment())
                write_json(self.path / "config.json", config)
                checkpoint = None
            yield checkpoint

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for this process. RunError if another one is training in it."""
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.path / ".lock", wait=False))
            except BlockingIOError:
                raise RunError(
                    f"another process is training in {self.path} now; wait for it, or give another --out"
                ) from None
            yield

    def _refuse(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a folder; give another --out")
        if self.finished:
            raise RunError(
                f"{self.path} holds a finished run, which is never overwritten; test it with 'innerloop evaluate', "
                "or give another --out"
            )
        names = [p.name for p in self.path.iterdir()] if self.path.is_dir() else []
        if self.exists:  # looked at after the names: another process may begin at this moment
            return
        # what a process leaves that was killed at its very start
        ours = (".lock", "env.json", ".env.json.", ".config.json.")
        if any(name not in ours and not name.startswith(ours[2:]) for name in names):
            raise RunError(f"{self.path} is not empty and holds no run; give another --out")

    def _tidy(self) -> None:
        """Remove checkpoints that a killed process could not finish, or could not enter into the index."""
        root = self.path / "checkpoints"
        index = self._index()
        loose = [p for p in root.iterdir() if p.is_dir() and p.name not in index.values()] if root.is_dir() else []
        if not index and sum(not p.name.startswith(".") for p in loose) > 1:  # the first is named before the second
            raise RunError(f"{root / 'index.json'} names none of the checkpoints there; restore it, or train again")
        for p in loose:
            shutil.rmtree(p, ignore_errors=True)

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        append_line(self.path / "metrics.jsonl", dict(row))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return self.metrics_with()

    def metrics_with(self, *names: str) -> list[dict[str, Any]]:
        """The same; a line without a step or one of these names is an error."""
        path = self.path / "metrics.jsonl"
        rows = read_lines(path)
        for i, row in enumerate(rows, 1):
            needed = ("step", *names)
            for name in dict.fromkeys([*needed, *row] if isinstance(row, dict) else needed):
                value = row.get(name) if isinstance(row, dict) else None
                if not _is_of(value, float) and (name in needed or not isinstance(value, bool)):
                    raise RunError(f"{path}, line {i}, has no number {name!r}; mend or delete that line")
        return rows

    def save(self, checkpoint: Checkpoint, *, best: bool = False, for_good: bool = False) -> None:
        """Write a checkpoint as the last one (and the best one, and `for_good`); older ones that are none of it are
        removed."""
        root = self.path / "checkpoints"
        root.mkdir(exist_ok=True)
        name = f"{checkpoint.step:07d}"
        part = root / f".{name}.{os.getpid()}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            digests = {}
            for file, tensors in ((WEIGHTS, checkpoint.weights), (OPTIMIZER, checkpoint.optimizer)):
                content = save(_plain(tensors))
                digests[file] = hashlib.sha256(content).hexdigest()
                write_bytes(part / file, content)
            write_json(part / "state.json", {**checkpoint.state, "step": checkpoint.step, "sha256": digests})
            if (root / name).exists():  # left by a process killed before it could write the index, which names others
                shutil.rmtree(root / name)
            part.rename(root / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        index = self._index()
        index["last"] = name
        if best:
            index["best"] = name
        if for_good:
            index[f"step{checkpoint.step}"] = name
        write_json(root / "index.json", index)
        for old in root.iterdir():
            if old.is_dir() and old.name not in index.values():
                shutil.rmtree(old, ignore_errors=True)

    def has(self, which: str) -> bool:
        """Whether there is a checkpoint 'last', 'best' or 'stepN'."""
        return which in self._index()

    @property
    def kept(self) -> list[int]:
        """The steps whose checkpoints are kept for good, in order; ``load(f"step{n}")`` reads one."""
        return sorted(int(name) for which, name in self._index().items() if which.startswith("step"))

    def step(self, which: str) -> int:
        """The step of the checkpoint 'last', 'best' or, if it was kept, 'stepN'."""
        return int(self._name(which))

    def _name(self, which: str) -> str:
        index = self._index()
        if which not in index:
            have = ", ".join(sorted(index, key=lambda k: (len(k), k)))
            if self.finished and not (self.path / "checkpoints").exists():
                raise RunError(
                    f"{self.path} holds the results of a finished run without its weights (no checkpoints): train it "
                    "again, or give a folder that has them"
                )
            what = f"give one that it has{did_you_mean(which, index)}" if have else "train it first"
            raise RunError(f"{self.path} has no {quoted(which)} checkpoint (it has: {have or 'none'}); {what}")
        return index[which]

    def load(self, which: str) -> Checkpoint:
        """The checkpoint 'last', 'best' or, if it was kept, 'stepN'."""
        while True:
            name = self._name(which)
            try:
                return self._read(name)
            except RunError:
                if self._name(which) == name:
                    raise
                # a process that trains here has put another one in its place meanwhile

    def _read(self, name: str) -> Checkpoint:
        where = self.path / "checkpoints" / name
        try:
            state = read_object(where / "state.json")
            digests = state.pop("sha256", {})  # checkpoints from before they were kept have none
            weights, optimizer = (_tensors(where / file, digests) for file in (WEIGHTS, OPTIMIZER))
        except (OSError, ValueError) as error:
            raise RunError(f"the checkpoint {where} cannot be read ({error}); train again") from None
        if (step := state.pop("step", None)) != int(name):
            raise RunError(f"{where / 'state.json'} is of step {step!r}; restore it, or train again")
        return Checkpoint(int(name), weights, optimizer, state, where)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the run as finished."""
        write_json(self.path / "finished.json", dict(summary))

    @property
    def summary(self) -> dict[str, Any]:
        """finished.json: steps, seconds, and of what validates best_step and best_validation."""
        return self.summary_with()

    def summary_with(self, *names: str) -> dict[str, Any]:
        """The same; without one of these numbers it is an error."""
        if not self.finished:
            raise RunError(f"{self.path} is not finished; continue with --resume")
        path = self.path / "finished.json"
        value = read_object(path)
        for name in dict.fromkeys(("steps", "seconds", *names, *value)):
            if not _is_of(value.get(name), float):
                raise RunError(f"{path} has no number {name!r}; restore it, or train again")
        return value

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The rows of eval.json."""
        path = self.path / "eval.json"
        rows = read_object(path).get("evaluations") if path.exists() else []
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise RunError(f"{path} does not hold evaluations; move it away")
        return [{_EVALUATION_KEYS.get(k) or k: v for k, v in row.items()} for row in rows]

    def _repr_html_(self) -> str:
        """What the run is, how far it is, and its tests, for notebooks."""
        if not self.exists:
            return html_table(str(self.path), (), [], "no run was started here")
        config = self.config
        names = ("kind", "method", "data", "env", "way", "shot", "seed")
        rows = [
            (name, config[name]) for name in names if isinstance(config.get(name), str | int) and config[name] != ""
        ]
        if self.finished:
            summary = self.summary
            rows += [(name.replace("_", " "), summary[name]) for name in ("steps", "best_step") if name in summary]
        else:
            rows.append(("state", "unfinished"))
        for e in self.evaluations:
            if {"method", "mean", "ci95"} <= e.keys():
                what = f"{e['method']}, {e.get('split', 'test')}, {e.get('metric', 'score')}"
                rows.append((what, f"{e['mean']:.4f} ± {e['ci95']:.4f} (ci95, {e.get('episodes')} episodes)"))
        return html_table(f"Run {self.path}", ("", ""), rows)

    def add_evaluation(self, row: dict[str, Any], same: Sequence[str], **before: Any) -> None:
        """Add a row to eval.json in the place of one that is equal in the entries `same`.

        `before` is what a row stands for that was written before an entry came. Several processes can add at once.
        """
        with locked(self.path / ".eval.lock"):
            rows = [r for r in self.evaluations if any({**before, **r}.get(k) != row[k] for k in same)]
            write_json(self.path / "eval.json", {"evaluations": [*rows, row]})

    def _index(self) -> dict[str, str]:
        path = self.path / "checkpoints" / "index.json"
        index = read_object(path) if path.exists() else {}
        for which, name in index.items():
            good = isinstance(name, str) and re.fullmatch("[0-9]{7,18}", name)
            if not good or which not in ("last", "best", f"step{int(name)}"):
                raise RunError(f"{path} does not name checkpoints (see {which!r}); restore it, or train again")
        return index

    def _cut_metrics(self, step: int) -> None:
        rows = [r for r in self.metrics if r["step"] <= step]
        write_bytes(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())


def _is_of(value: Any, kind: Kind) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and len(value) == len(kind) and all(map(_is_of, value, kind))
    if isinstance(kind, tuple):
        return any(_is_of(value, k) for k in kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return isinstance(value, kind)


def _tensors(path: Path, digests: Any) -> dict[str, Tensor]:
    check_regular(path)
    content = path.read_bytes()
    if digests and (not isinstance(digests, dict) or digests.get(path.name) != hashlib.sha256(content).hexdigest()):
        raise RunError(f"{path} is not the file that was written with its state.json: its checksum is another")
    try:
        return load(content)
    except SafetensorError as error:
        raise RunError(f"{path}: {error}") from None


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Where two values of JSON differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{at}.{k}" if at else k)]
    return [] if old == new else [f"{at}: {old!r} there, {new!r} now"]


def load_weights(own: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into `own`; those of another model are refused with the first difference named."""
    check_tensors(own, checkpoint.weights, checkpoint.folder / WEIGHTS)
    with torch.no_grad():
        for n, p in own.items():
            p.copy_(checkpoint.weights[n])


def check_tensors(own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: Path) -> None:
    """RunError if `found` has not the names, shapes and dtypes of `own`, or values that are not finite."""
    check_shapes(own, found, source)
    for n, value in found.items():
        if not bool(value.isfinite().all()):
            raise RunError(f"{source} is damaged: {n!r} has values that are not finite; train again")


def check_shapes(own: Mapping[str, Tensor], found: Mapping[str, Tensor], source: Path) -> None:
    """RunError if `found` has not the names, shapes and dtypes of `own`."""
    for n in dict.fromkeys([*own, *found]):
        if n not in found:
            what = f"lacks {n!r}"
        elif n not in own:
            what = f"has {n!r}, which the model lacks"
        elif found[n].shape != own[n].shape:
            what = f"has {n!r} of shape {tuple(found[n].shape)}, the model of {tuple(own[n].shape)}"
        elif found[n].dtype != own[n].dtype:
            what = f"has {n!r} as {found[n].dtype}, the model as {own[n].dtype}"
        else:
            continue
        raise RunError(f"{source} is of another model: it {what}")
