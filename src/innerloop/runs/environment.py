"""What a run was made with: versions, machine, command, commit."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from innerloop.version import __version__


def environment() -> dict[str, Any]:
    """Versions, processor, threads, command line and the git commit of the source tree (None if there is none)."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "innerloop": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": device,
        **made_with(),
    }


def made_with() -> dict[str, Any]:
    """The command line and the commit, as every result records them."""
    command = ["innerloop" if Path(sys.argv[0]).name == "innerloop" else sys.argv[0], *sys.argv[1:]]
    return {"command": command, "commit": commit()}


def commit() -> str | None:
    """The commit of the source tree this package runs from, with "+changes" if files of the package differ from it."""
    here = Path(__file__).resolve().parents[1]
    try:
        root = _git(here, "rev-parse", "--show-toplevel")
        if not root or not (Path(root) / "src" / "innerloop").samefile(here):
            return None  # installed inside somebody else's repository
        head = _git(here, "rev-parse", "HEAD")
        return head + ("+changes" if _git(here, "status", "--porcelain", "--", str(here)) else "") if head else None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(where: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *args], capture_output=True, text=True, timeout=10, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()
