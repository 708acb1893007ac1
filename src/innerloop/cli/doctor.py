"""`innerloop doctor`: what this installation has, and what it would need."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from innerloop.cli import options, show
from innerloop.data.catalogue import DATASETS
from innerloop.data.paths import DataMissing, cache_root, data_root
from innerloop.models.kernel import kernel_status
from innerloop.runs import environment

ABOUT = """Show what this installation has: versions, processor, compiled kernel, data sets, extras.

Give its output with a report of a problem."""

EXTRAS = {
    "pretrained": ("efficientnet_lite_pytorch", "classify by a pre-trained body"),
    "rl": ("mujoco", "half-cheetah, films, Gymnasium"),
    "serve": ("fastapi", "a classifier on a web page"),
    "onnx": ("onnx", "export --onnx"),
    "tensorboard": ("tensorboard", "train --tensorboard"),
    "slurm": ("submitit", "sweep --launcher slurm"),
    "ray": ("ray", "sweep --launcher ray"),
}
"""name -> a package of it, and what it is for"""


@dataclass(frozen=True)
class DoctorArgs:
    """Options of `innerloop doctor`."""

    data_dir: Path | None = None
    """where the archives lie (default: INNERLOOP_DATA, else the user's data folder)"""


def run(args: Sequence[str]) -> int:
    """Print the table."""
    asked = options.parse(DoctorArgs, args, "doctor", about=ABOUT)
    show.table("innerloop doctor", ("", "found"), found(asked.data_dir), words=True)
    return 0


def found(data_dir: Path | None) -> list[tuple[str, str]]:
    """What is here, by name."""
    env = environment()
    kernel = kernel_status()
    root, here = data_root(data_dir), []
    for data in DATASETS:
        try:
            data.locate(data, root)
            here.append(data.name)
        except DataMissing:
            pass
    lines = [
        ("innerloop", f"{env['innerloop']}, commit {env['commit'] or 'not known'}"),
        ("Python, PyTorch", f"{env['python']}, {env['torch']}"),
        ("system", env["platform"]),
        ("processor", f"{env['processor']}, {env['cpus']} cores, {env['threads']} threads in use"),
        ("GPU", env["gpu"] or "none that PyTorch can use"),
        ("compiled kernel", f"{kernel.state}: {kernel.reason}" if kernel.reason else kernel.state),
        ("data folder", f"{root}{'' if root.is_dir() else ' (does not exist yet)'}"),
        ("data sets here", ", ".join(here) or "none"),
        ("cache folder", str(cache_root())),
    ]
    for name, (package, use) in EXTRAS.items():
        has = importlib.util.find_spec(package) is not None
        lines.append((f"extra {name}", "installed" if has else f"not installed ({use}): pip install '.[{name}]'"))
    return lines
