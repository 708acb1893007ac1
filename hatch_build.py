"""Puts the compiled kernel into a wheel, so that its users need no compiler: ``INNERLOOP_WHEEL_KERNEL=1 pip wheel .``

Without the variable the wheel is pure Python, and the kernel is compiled where and when it is first used.
"""

import os
import platform
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = "-std=c++17 -O3 -fPIC -fno-exceptions -fno-rtti -fno-math-errno -fvisibility=hidden -fopenmp"
BASE = {"x86_64": ["-march=x86-64-v3"]}
"""what every processor has that the library is loaded on (AVX2; see `models.kernel`)"""


class KernelHook(BuildHookInterface[Any]):
    """Compiles `models/kernel.cpp` for all processors of this kind, and names the wheel after the platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to a wheel, if it is asked for."""
        if version == "editable" or os.environ.get("INNERLOOP_WHEEL_KERNEL") != "1":
            return
        self.made = tempfile.TemporaryDirectory()
        source = Path(self.root) / "src" / "innerloop" / "models" / "kernel.cpp"
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        work, base = Path(self.made.name), BASE.get(platform.machine(), [])
        # linked without OpenMP's library: PyTorch's own is in the process already, and there must not be two
        compiling = [*shlex.split(FLAGS), *base, "-c", str(source), "-o", "kernel.o"]
        for step in (compiling, ["-shared", "kernel.o", "-o", "kernel.so"]):
            subprocess.run([*compiler, *step], cwd=work, check=True)
        build_data["force_include"][str(work / "kernel.so")] = "innerloop/models/kernel.so"
        build_data["pure_python"] = False
        system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{system}"  # no version of Python in it: the library has a C interface

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was made on the way."""
        if hasattr(self, "made"):
            self.made.cleanup()
