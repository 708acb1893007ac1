"""Replay: does a change of the code leave every result as it was, to the last bit?

python benchmarks/replay.py record OUT    run all of `every_run` and write OUT/NAME.json, in minutes on one core
python benchmarks/replay.py compare A B   say for each run: equal, or which file, step and tensor differ, by how much
python benchmarks/replay.py pack OUT FILE one small file of all records, to be committed
python benchmarks/replay.py list          the names and their commands

``--only NAME,NAME`` takes some of them. Before a refactor record into A, afterwards into B, and compare; A and B are
folders of records, or packed files such as benchmarks/replay/366cfc7.json.gz. The package that is on the path is run:
``PYTHONPATH=OTHER/src`` records another version. compare exits with 1 where anything differs or is missing.

A record holds all numbers and texts of the JSON files that the commands leave (without times, commands and
configurations), and of each tensor in checkpoints its shape, norm and the beginning of its SHA-256. record skips a run
whose commands and source are unchanged since its record; OUT/runs keeps the run folders, so that compare can
tell by how much a tensor differs. Everything is seeded and runs on one thread of the CPU, and yet bits depend on the
processor and on PyTorch: between two machines, compare says how they differ and allows `TOLERANCE` instead.

Not replayed, as it needs downloads: Omniglot, mini-ImageNet, CIFAR-FS, FC100, Caltech-101, domain shift. Needs the
extras rl and pretrained, and a system that can fork.
"""

import argparse
import gzip
import hashlib
import importlib
import json
import math
import multiprocessing
import os
import pkgutil
import re
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when these are imported

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

TINY = (
    "--way 3 --query 2 --model.filters 4 --outer.steps 4 --outer.meta-batch 2 --validation.every 2 "
    "--validation.episodes 4 --test.episodes 6 --test.query 3 --device cpu --threads 1"
)
QUICK = f"train --preset quick {TINY} --out run"
MAML = f"{QUICK} --method maml"
RL = (
    "--iterations 2 --meta-batch 2 --rollouts 3 --trpo.curvature-rollouts 2 --horizon 6 --policy.hidden 5 4 "
    "--validation.every 1 --validation.tasks 2 --test.tasks 2 --test.rollouts 2 --test.steps 2 --threads 1 --out run"
)
NAVIGATION = f"rl train --preset navigation-cpu {RL}"
SINUSOID = (
    "train --preset sinusoid-10shot --model.hidden 6 5 --outer.steps 4 --outer.meta-batch 3 --validation.every 2 "
    "--validation.episodes 4 --test.episodes 6 --device cpu --threads 1 --out run"
)
DAGAN = (
    "dagan --critic-steps 2 --batch 4 --sizes.widths 4 8 --sizes.noise 4 --images 4 --samples 2 --device cpu "
    "--threads 1"
)
SMOKE = "reproduce {} --budget smoke --threads 1 --out made"
SMOKE_IMAGES = f"{SMOKE} --way 3 --device cpu"
CLASSIFY = (
    "classify --support ../../pictures/examples --images ../../pictures/new --device cpu --threads 1 --no-gallery"
)

EACH_METHOD = [
    QUICK + " --method {}",
    "evaluate run --which last --statistics support --inner-steps 1 --seed 7",
    "analyse run",
]
EACH_METHOD_AT_TEST = "evaluate run --method {}"
EACH_ENVIRONMENT = {
    f"{{}}-{method}-{outer}": [
        f"rl train --env {{}} {RL} --method {method} --outer {outer}",
        "rl evaluate run --which last --steps 1 --seed 7",
        "rl evaluate run --learner random-search",
        "rl analyse run",
    ]
    for method in ("maml", "anil")
    for outer in ("trpo", "ppo")
}
VARIANTS = {
    "max-pool-flatten": "--model.downsample max_pool --model.readout flatten",
    "no-affine": "--model.no-affine",
    "resnet12": "--model.arch resnet12 --outer.steps 1 --outer.meta-batch 1 --validation.every 1 "
    "--validation.episodes 2 --test.episodes 2",
    "mlp": "--model.arch mlp --model.hidden 6 5",
    "first-order": "--inner.first-order",
    "second-order-from": "--inner.second-order-from 2",
    "learned-rates": "--inner.learn-rates",
    "adapt-norm": "--inner.adapt-norm",
    "recompute": "--inner.recompute",
    "support-statistics": "--inner.statistics support --test.statistics support",
    "augment": "--augment affine",
    "task-chunk": "--task-chunk 2 --shot 2",
    "sgd-norm": "--outer.optimizer sgd --outer.schedule step --outer.halve-every 2 --outer.clip norm "
    "--outer.clip-at 0.1",
    "sum-value": "--outer.reduction sum --outer.schedule constant --outer.clip value --outer.clip-at 0.05",
    "keep-every": "--validation.keep-every 2 --seed 3",
    "proto-cosine": "--method proto --metric.distance cosine --metric.normalise centre --train-way 4",
    "matching-context": "--method matching --metric.full-context",
    "baseline++-scale": "--method baseline++ --metric.scale 5",
}
"""besides `QUICK`"""

RUNS = {
    **{name: [f"{QUICK} {options}"] for name, options in VARIANTS.items()},
    **{
        f"sinusoid-{m}": [f"{SINUSOID} --method {m}", "evaluate run --inner-steps 3"]
        for m in ("maml", "anil", "reptile")
    },
    "folder": [
        f"{MAML} --data folder --folder.root ../../pictures/classes --folder.size 20",
        "evaluate run --split val --shot 2",
    ],
    "augment-support": [
        MAML,
        f"{DAGAN} --steps 2 --every 1 --out dagan",
        *(f"evaluate run --augment-support {how} --copies 2" for how in ("affine", "elastic", "crop", "flip", "dagan")),
    ],
    "dagan": [f"{DAGAN} --steps 4 --every 2 --sizes.inner 2 --seed 1 --out run"],
    **{
        f"navigation-{m}": [f"{NAVIGATION} --method {m}", "rl evaluate run --steps 1 --later-lr 0.05"]
        for m in ("fomaml", "boil", "multitask", "oracle")
    },
    "navigation-variant": [
        f"{NAVIGATION} --inner.steps 2 --inner.loss log_probability --inner.no-adapt-log-std --precision float64 "
        "--policy.activation tanh --lam 0.9 --task-chunk 1",
        "rl evaluate run --adapt head",
        "rl evaluate run --which untrained --tasks 3",
    ],
    "classify": [
        f"{MAML} --data folder --folder.root ../../pictures/classes --folder.size 20",
        *(f"{CLASSIFY} --run run --method {m} --out {m}" for m in ("auto", "nil", "means", "anil", "finetune", "maml")),
    ],
    "classify-pretrained": [f"{CLASSIFY} --out auto", f"{CLASSIFY} --method means --out means"],
    "study": [f"study --preset quick {TINY} --out study"],
    "reproduce": [SMOKE_IMAGES.format("all")],
    "reproduce-families": [SMOKE_IMAGES.format("families") + " --seeds 0"],
    "reproduce-rl": [
        f"{SMOKE.format(name)} --env navigation --seeds 0 1" for name in ("table2-rl", "rl-features", "rl-baselines")
    ],
}
"""Command lines by the name of their run, beside those of `every_run`. Each run starts in a folder of its own, and its
commands follow one another there."""

UNTOLD = re.compile(r"seconds|^(command|commit|config|date|env|innerloop|cost|notes?|sha256)$|\bms\b|_ms$|\(min\)")
"""JSON entries that are times, are not results, or repeat what is recorded of the tensors"""
UNTOLD_FILES = re.compile(r"(^|/)(env|config)\.json$|/cost/")
TENSOR = re.compile(r"(\w+ \[[\dx]*\]) (\S+) (\w{16})")
"""what `described` says"""
RENAMED = {
    '"enlarged":': '"augment_support":',
    "--enlarge ": "--augment-support ",
    '"enlarge":': '"augment-support":',
}
"""entries, options and runs that have another name in records of earlier versions"""
TOLERANCE = 1e-3
"""of numbers between two machines, relative above 1 and absolute below"""
LINES = 6
"""of each run that differs"""


def every_run() -> dict[str, list[str]]:
    """`RUNS`, and one for each method and for each environment that there is."""
    from innerloop.methods.catalogue import METHODS
    from innerloop.rl.catalogue import ENVIRONMENTS

    methods = [m.name for m in METHODS]
    return {
        **{name: [line.format(name) for line in EACH_METHOD] for name in methods},
        "maml-tested-as": [MAML, *(EACH_METHOD_AT_TEST.format(name) for name in methods)],
        **{
            run.format(env.name): [line.format(env.name) for line in lines]
            for env in ENVIRONMENTS
            for run, lines in EACH_ENVIRONMENT.items()
        },
        **RUNS,
    }


def record(out: Path, only: list[str]) -> bool:
    """Run what is not yet recorded; False where a run could not be made."""
    import innerloop

    for module in pkgutil.walk_packages(innerloop.__path__, "innerloop."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)  # once, not in each forked process
    runs = chosen(every_run(), only)
    out = out.resolve()
    draw_pictures(out / "pictures")
    os.environ |= {"INNERLOOP_CACHE": str(out / "cache"), "INNERLOOP_DATA": str(out / "data")}
    about = {"machine": machine(), "source": source(Path(str(innerloop.__file__)).parent)}
    whole = True
    for name, lines in runs.items():
        file = out / f"{name}.json"
        if file.exists():
            there = json.loads(file.read_text())
            if (there["source"], list(there["commands"])) == (about["source"], lines):
                continue
            file.unlink()
        folder = out / "runs" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.perf_counter()
        status = {}
        for line in lines:
            status[line] = run_line(line, folder)
            if status[line]:
                said = (folder / "output.log").read_text().strip().rpartition("\n")[2]
                print(f"{name}: status {status[line]} of {line}\n    {said}")
            if status[lines[0]]:  # then the others have nothing to work on
                break
        if status[lines[0]]:
            whole = False
            continue
        write(file, {**about, "commands": status, "files": dict(found_in(folder))})
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
    return whole


def run_line(line: str, folder: Path) -> int:
    """The exit status of a command line in that folder; 70: a traceback.

    In a forked copy of this process, which has everything imported: a new one takes seconds to do that.
    """
    process = multiprocessing.get_context("fork").Process(target=_run_line, args=(line, folder))
    process.start()
    process.join()
    return process.exitcode or 0


def _run_line(line: str, folder: Path) -> None:
    from innerloop import cli

    os.chdir(folder)
    log = os.open("output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    print(f"$ innerloop {line}", flush=True)
    try:
        status = cli.run(shlex.split(line))
    except Exception:
        traceback.print_exc()
        status = 70
    sys.exit(status)


def found_in(folder: Path) -> Iterator[tuple[str, Any]]:
    """What a run left, by file."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not UNTOLD_FILES.search(name):
            if path.suffix == ".json":
                yield name, told(json.loads(path.read_text()))
            elif path.suffix == ".jsonl":
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                yield name, {f"row {i}, step {r.get('step')}": told(r) for i, r in enumerate(rows, 1)}
            elif path.suffix == ".safetensors":
                yield name, {n: described(t) for n, t in sorted(load_file(path).items())}


def told(value: Any) -> Any:
    """Without times, and without what is no result."""
    if isinstance(value, dict):
        if UNTOLD.search(f"{value.get('unit')} {value.get('x')} {value.get('y')}"):  # a row or drawing of times
            return "times"
        return {k: told(v) for k, v in value.items() if not UNTOLD.search(k)}
    return [told(v) for v in value] if isinstance(value, list) else value


def described(tensor: torch.Tensor) -> str:
    """Type, shape, norm, and the first 64 bits of the SHA-256 of its bytes."""
    raw = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    shape = "x".join(map(str, tensor.shape))
    norm = math.sqrt(math.fsum(x * x for x in tensor.flatten().double().tolist()))
    return f"{str(tensor.dtype)[6:]} [{shape}] {norm:.6g} {hashlib.sha256(raw).hexdigest()[:16]}"


def machine() -> dict[str, str]:
    """All that bits may depend on, besides the source."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.*)$", info.read_text(), re.M) if info.exists() else []
    found = {"processor": names[0] if names else os.uname().machine, "vectors": torch.backends.cpu.get_cpu_capability()}
    for package in ("torch", "numpy", "pillow", "matplotlib", "mujoco"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def source(package: Path) -> str:
    """A digest of the package's code."""
    files = sorted(p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()


def draw_pictures(folder: Path) -> None:
    """Coloured noise: classes/ to train on, examples/ and new/ to classify."""
    sizes = {"classes": (30, 5), "examples": (3, 3), "new": (3, 2)}
    for k, (kind, (classes, pictures)) in enumerate(sizes.items()):
        for c in range(classes):
            centre = np.random.default_rng(c).uniform(0, 255, (4, 4, 3))
            for p in range(pictures):
                path = folder / kind / f"class{c:02}" / f"{p}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng([k, c, p]).normal(0, 40, centre.shape)
                pixels = np.clip(centre + noise, 0, 255).repeat(6, 0).repeat(6, 1)
                Image.fromarray(pixels.astype(np.uint8)).save(path)


def pack(out: Path, file: Path) -> None:
    """All records in one compressed file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(json.dumps(read(out)).encode(), mtime=0))


def read(path: Path) -> dict[str, Any]:
    """The records of a folder or of a packed file, by name."""
    if path.is_file():
        text = gzip.decompress(path.read_bytes()).decode()
    else:
        text = json.dumps({p.stem: json.loads(p.read_text()) for p in sorted(path.glob("*.json"))})
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    found = json.loads(text)
    if not found:
        raise SystemExit(f"{path} holds no records; make them with 'record {path}'")
    return found


def compare(a: Path, b: Path, only: list[str]) -> bool:
    """Print what differs; True where nothing does."""
    one, other = read(a), read(b)
    names = chosen(dict.fromkeys([*one, *other]), only)
    made_on = [{k: {r["machine"].get(k) for r in side.values()} for k in machine()} for side in (one, other)]
    for key in (unlike := [k for k in machine() if made_on[0][k] != made_on[1][k]]):
        print(f"warning: {key} differs: {made_on[0][key]} in {a}, {made_on[1][key]} in {b}")
    for side, where in ((one, a), (other, b)):
        if len({r["source"] for r in side.values()}) > 1:
            print(f"warning: {where} holds records of several sources; record there again")
    equal = 0
    for name in names:
        if name not in one or name not in other:
            print(f"{name}: missing in {b if name in one else a}")
            continue
        found = differences(one[name], other[name], exact=not unlike, raw=(a / "runs" / name, b / "runs" / name))
        print("\n    ".join([f"{name}: {'different' if found else 'equal'}", *found[:LINES]]))
        if len(found) > LINES:
            print(f"    and {len(found) - LINES} more files")
        equal += not found
    within = f" within {TOLERANCE} (machines differ: no digests)" if unlike else ""
    print(f"{equal} of {len(names)} runs are equal{within}")
    return equal == len(names)


def differences(a: dict[str, Any], b: dict[str, Any], *, exact: bool, raw: tuple[Path, Path]) -> list[str]:
    """One line for each file that differs (or the exit statuses); `raw`: the run folders, if there are any."""
    sides = [{"exit status": list(r["commands"].values()), **r["files"]} for r in (a, b)]
    found = []
    for file in dict.fromkeys([*sides[0], *sides[1]]):
        if file not in sides[0] or file not in sides[1]:
            found.append(f"{file}: only in {'A' if file in sides[0] else 'B'}")
            continue
        left, right = (dict(leaves(side[file])) for side in sides)
        off = {k: d for k in left if k in right and (d := apart(left[k], right[k], exact=exact)) is not None}
        said = [
            f"only in {side}: {', '.join(alone[:LINES])}{' …' if len(alone) > LINES else ''}"
            for side, alone in (("A", [k for k in left if k not in right]), ("B", [k for k in right if k not in left]))
            if alone
        ]
        if off:
            first = next(iter(off))
            said.append(f"{len(off)} of {len(left)} differ, first {first}: {left[first]!s:.60} → {right[first]!s:.60}")
            files = [folder / file for folder in raw]
            if file.endswith(".safetensors") and all(f.exists() for f in files):
                off = tensors_apart(*files)
            largest = max(off, key=off.__getitem__)
            if math.isfinite(off[largest]):  # texts and digests have no difference
                said.append(f"largest difference {off[largest]:.3g} in {largest}")
        if said:
            found.append(f"{file}: {'; '.join(said)}")
    return found


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers and texts in a JSON value, by where they are."""
    if not value or not isinstance(value, dict | list):
        yield at, value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(inner, f"{at}.{key}" if at else str(key))


def apart(a: Any, b: Any, *, exact: bool) -> float | None:
    """How far two leaves are apart, infinity where that is no number; None: they are the same."""
    if repr(a) == repr(b):
        return None
    if not exact and (one := TENSOR.fullmatch(str(a))) and (other := TENSOR.fullmatch(str(b))) and one[1] == other[1]:
        a, b = float(one[2]), float(other[2])
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (a, b)):
        return math.inf
    gap = abs(a - b)
    return None if not exact and gap <= TOLERANCE * max(1, abs(a)) else math.inf if math.isnan(gap) else gap


def tensors_apart(a: Path, b: Path) -> dict[str, float]:
    """The largest difference in each tensor that two files share."""
    one, other = load_file(a), load_file(b)
    shared = [n for n in one if n in other and one[n].shape == other[n].shape]
    return {n: (one[n].double() - other[n].double()).abs().max().item() for n in shared} or {"all": math.inf}


def chosen(runs: dict[str, Any], only: list[str]) -> dict[str, Any]:
    """Those that are named; all where none is."""
    if unknown := [n for n in only if n not in runs]:
        raise SystemExit(f"no run {', '.join(unknown)}; there are {', '.join(runs)}")
    return {n: r for n, r in runs.items() if not only or n in only}


def write(file: Path, value: dict[str, Any]) -> None:
    """JSON, whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value))
    part.replace(file)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, places in {"record": ["out"], "compare": ["a", "b"], "pack": ["out", "file"], "list": []}.items():
        sub = actions.add_parser(action)
        for place in places:
            sub.add_argument(place, type=Path)
        sub.add_argument("--only", type=lambda names: names.split(","), default=[])
    args = parser.parse_args()
    if args.action == "record":
        sys.exit(0 if record(args.out, args.only) else 1)
    if args.action == "compare":
        sys.exit(0 if compare(args.a, args.b, args.only) else 1)
    if args.action == "pack":
        pack(args.out, args.file)
    else:
        for name, lines in chosen(every_run(), args.only).items():
            print("\n    ".join([name, *lines]))


if __name__ == "__main__":
    main()
