"""The table of API misuse, without the signature check of the tests: as a user's program meets the library."""

import re
import subprocess
import sys
from pathlib import Path


def test_no_misuse_of_the_api_is_silently_wrong_or_unclear() -> None:
    script = Path(__file__).with_name("api_misuse.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = re.search(r"^tried (\d+), survived (\d+)", done.stdout, re.MULTILINE)
    assert tried
    assert int(tried[1]) >= 300
