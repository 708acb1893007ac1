"""The table of API misuse, without the signature check of the tests: as a user's program meets the library."""

import json
import subprocess
import sys
from pathlib import Path


def test_no_misuse_of_the_api_is_silently_wrong_or_unclear() -> None:
    script = Path(__file__).with_name("api_misuse.py")
    done = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) >= 90
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
