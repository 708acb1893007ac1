"""One training run on disk.

config.json      what was asked
env.json         what it was made with
metrics.jsonl    one line a logged step
checkpoints/     STEP/weights.safetensors, STEP/optimizer.safetensors, STEP/state.json; index.json names last and best,
                 and as stepSTEP those that are kept for good
finished.json    only once training has reached its last step
eval.json        test results
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.runs.environment import environment
from innerloop.runs.files import append_line, read_json, read_lines, write_bytes, write_json

try:
    import fcntl
except ImportError:  # Windows: no advisory locks; two trainings in one folder are then not told apart
    fcntl = None


T = TypeVar("T")


class RunError(InnerloopError):
    """A run folder that cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what else is needed to go on from `step`."""

    step: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]

    def entries(self, source: Path, **kinds: type | tuple[type, ...]) -> tuple[Any, ...]:
        """These entries of the state; RunError for one that is not there or of another type than its name says."""
        for name, kind in kinds.items():
            if name not in self.state or not isinstance(self.state[name], kind):
                what = "has no good" if name in self.state else "lacks"
                raise RunError(f"the checkpoint at step {self.step} in {source} {what} {name!r}; train again")
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
        config = read_json(self.path / "config.json")
        if not isinstance(config, dict):
            raise RunError(f"{self.path / 'config.json'} is not a configuration; restore it, or train again")
        return config

    def config_as(self, make: Callable[[dict[str, Any]], T]) -> T:
        """config.json as `make` reads it; what is wrong in it is said with the file's name."""
        config = self.config
        try:
            return make(config)
        except ValueError as error:
            raise RunError(f"{self.path / 'config.json'}: {error}") from None

    @contextmanager
    def start(
        self, config: Mapping[str, Any], *, resume: bool, read: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Iterator[Checkpoint | None]:
        """Claim the folder for training; gives the checkpoint to go on from, or None at the beginning.

        A finished run is never overwritten, an unfinished one only continued (with `resume`, and the same config),
        and two processes never write to one folder. `read` brings the config of an earlier version, which may lack
        settings that have come since, into the form of this one.
        """
        config = json.loads(json.dumps(config))
        self._refuse(resume=resume)  # before anything is written into a folder that is not ours
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as lock:
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"another process is training in {self.path}; wait for it or give another --out"
                ) from None
            self._refuse(resume=resume)  # again: another process may have trained here in the meantime
            if self.exists:
                try:
                    found = self.config_as(read)
                except RunError as error:
                    raise RunError(f"{error}; to train, give another --out") from None
                differences = _differences(json.loads(json.dumps(found)), config)
                if differences:
                    instead = (
                        "" if self.has("last") else "; it has no checkpoint yet, so nothing is lost by deleting it"
                    )
                    raise RunError(
                        f"{self.path} was started with another configuration ({'; '.join(differences)}); "
                        f"resume with the same one, or give another --out{instead}"
                    )
                checkpoint = self.load("last") if self.has("last") else None
                self._cut_metrics(checkpoint.step if checkpoint else 0)
            else:
                write_json(self.path / "env.json", environment())
                write_json(self.path / "config.json", config)
                checkpoint = None
            yield checkpoint

    def _refuse(self, *, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a folder; give another --out")
        if self.finished:
            raise RunError(
                f"{self.path} holds a finished run, which is never overwritten; test it with 'innerloop evaluate', "
                "or give another --out"
            )
        if self.exists and not resume:
            raise RunError(f"{self.path} holds an unfinished run; continue it with --resume, or give another --out")
        if self.exists or not self.path.is_dir():
            return
        # what a process leaves that was killed at its very start
        ours = (".lock", "env.json", ".env.json.", ".config.json.")
        if any(p.name not in ours and not p.name.startswith(ours[2:]) for p in self.path.iterdir()):
            raise RunError(f"{self.path} is not empty and holds no run; give another --out")

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
            for name in ("step", *names):
                value = row.get(name) if isinstance(row, dict) else None
                if isinstance(value, bool) or not isinstance(value, int | float):
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
            write_bytes(part / "weights.safetensors", save(_plain(checkpoint.weights)))
            write_bytes(part / "optimizer.safetensors", save(_plain(checkpoint.optimizer)))
            write_json(part / "state.json", checkpoint.state)
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
        name = self._name(which)
        where = self.path / "checkpoints" / name
        try:
            state = dict(read_json(where / "state.json"))
            weights = load_file(where / "weights.safetensors")
            optimizer = load_file(where / "optimizer.safetensors")
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise RunError(f"the checkpoint {where} cannot be read ({error}); remove it, or train again") from None
        return Checkpoint(int(name), weights, optimizer, state)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the run as finished."""
        write_json(self.path / "finished.json", dict(summary))

    @property
    def summary(self) -> dict[str, Any]:
        """finished.json: steps, seconds, best step and validation score."""
        if not self.finished:
            raise RunError(f"{self.path} is not finished; go on with --resume")
        return read_json(self.path / "finished.json")

    def _index(self) -> dict[str, str]:
        path = self.path / "checkpoints" / "index.json"
        index = read_json(path) if path.exists() else {}
        if not isinstance(index, dict) or not all(isinstance(v, str) and v.isdecimal() for v in index.values()):
            raise RunError(f"{path} does not name checkpoints; restore it, or train again")
        return index

    def _cut_metrics(self, step: int) -> None:
        rows = [r for r in self.metrics if r["step"] <= step]
        write_bytes(self.path / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().to("cpu", copy=True).contiguous() for n, t in tensors.items()}


def _differences(old: Any, new: Any, at: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{at}.{k}" if at else k)]
    return [] if old == new else [f"{at}: {old!r} there, {new!r} now"]


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into the model; a checkpoint of another model is refused with the first difference named.

    Names with a colon are not the model's: learned rates and the like.
    """
    own = dict(model.named_parameters())
    missing = [n for n in own if n not in weights]
    extra = [n for n in weights if n not in own and ":" not in n]
    shapes = [n for n in own if n in weights and own[n].shape != weights[n].shape]
    if missing or extra or shapes:
        what = (
            f"lacks {missing[0]!r}"
            if missing
            else f"has {extra[0]!r}, which the model lacks"
            if extra
            else f"has {shapes[0]!r} of shape {tuple(weights[shapes[0]].shape)}, "
            f"the model of {tuple(own[shapes[0]].shape)}"
        )
        raise RunError(f"{source} is of another model: it {what}")
    with torch.no_grad():
        for n, p in own.items():
            p.copy_(weights[n])
