"""The wheel carries what the package reads at run time, and no data that is not ours; a tutorial runs with it alone."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
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


def script(tutorial: Path, options: str) -> str:
    """The code cells as one script; shell lines get `options`, files are written as %%writefile does."""
    parts = ["import subprocess"]
    for cell in json.loads(tutorial.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        first, _, rest = (text := "".join(cell["source"])).partition("\n")
        if name := re.fullmatch(r"%%writefile (\S+)", first):
            text = f"open({name[1]!r}, 'w').write({rest!r})"
        parts.append(re.sub(r"^!(.*)$", rf'subprocess.run("\1 {options}", shell=True, check=True)', text, flags=re.M))
    return "\n\n".join(parts)


@pytest.mark.real_data
@pytest.mark.timeout(2 * 3600)
@pytest.mark.skipif("INNERLOOP_DATA" not in os.environ, reason="INNERLOOP_DATA is not set")
def test_the_tutorial_on_a_method_of_your_own_runs_on_omniglot_with_the_installed_wheel(tmp_path: Path) -> None:
    """From an empty folder, with nothing of the source tree: catches a file that the wheel lacks."""
    wheel = built(tmp_path, INNERLOOP_WHEEL_KERNEL="")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    others = sysconfig.get_path("purelib")  # an editable innerloop there is not seen
    (packages / "others.pth").write_text(f"{others}\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env["PATH"] = f"{python.parent}{os.pathsep}{env['PATH']}"
    (empty := tmp_path / "empty").mkdir()
    text = script(ROOT / "docs" / "tutorials" / "own_method.ipynb", "--data omniglot")
    where = "import innerloop; print(innerloop.__file__)"
    found = subprocess.run([python, "-c", where], cwd=empty, env=env, check=True, capture_output=True, text=True)
    assert str(packages) in found.stdout
    done = subprocess.run([python, "-"], input=text, cwd=empty, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracy = {m[1]: float(m[2]) for m in re.finditer(r"^(maml|proto|r2d2) +(0\.\d+) ±", done.stdout, re.M)}
    assert len(accuracy) == 3
    assert min(accuracy.values()) > 0.75, accuracy  # MAML had 0.817 ± 0.008 in 600 episodes, proto 0.913; chance is 0.2
    assert (empty / "comparison").is_dir()
