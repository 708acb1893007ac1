"""The examples run, from start to their own last assertion."""

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))

ONLY_DEFINE = ("extend_method", "extend_table")
"""methods/test_own_method.py and studies/test_extend_table.py run them"""

RUN_ALL = """
import io, json, runpy, sys, traceback
from contextlib import redirect_stdout
from pathlib import Path

found = {}
for path in sys.argv[1:]:
    sys.path[0] = str(Path(path).parent)
    sys.argv[:] = [path]
    failed = ""
    with redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_path(path, run_name="__main__")
        except BaseException:
            failed = traceback.format_exc()
    found[Path(path).stem] = out.getvalue(), failed
print(json.dumps(found))
"""


def test_examples() -> None:
    """One after the other in a process of their own: what they import takes longer than what they do."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_ALL, *map(str, EXAMPLES)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout)
    assert [p.stem for p in EXAMPLES] == list(found) != []
    for name, (out, failed) in found.items():
        assert not failed, f"{name}: {failed}"
        assert ("ci95" in out) == (name not in ONLY_DEFINE), name
