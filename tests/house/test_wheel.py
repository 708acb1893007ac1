"""The wheel carries what the package reads at run time, and no data that is not ours."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from innerloop.models import kernel

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def built(folder: Path, **environment: str) -> Path:
    pytest.importorskip("hatchling")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
def test_a_wheel_for_this_platform_has_the_kernel(tmp_path: Path) -> None:
    """For any Python; the library computes what PyTorch's operators do, which `_load` checks."""
    wheel = built(tmp_path, INNERLOOP_WHEEL_KERNEL="1")
    assert "-py3-none-" in wheel.name
    assert "any" not in wheel.name
    zipfile.ZipFile(wheel).extract("innerloop/models/kernel.so", tmp_path)
    assert kernel._load(tmp_path / "innerloop" / "models" / "kernel.so")


def test_the_wheel_has_its_files(tmp_path: Path) -> None:
    wheel = built(tmp_path, INNERLOOP_WHEEL_KERNEL="")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    wanted = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert wanted <= names
    assert "innerloop/py.typed" in names
    assert wheel.stat().st_size < 3_000_000
