"""The command line keeps the memory that big tensors have freed."""

import os
import subprocess
import sys

import pytest

from innerloop.cli import memory

_FAULTS = """
import resource, sys
from innerloop.cli.memory import keep_freed_memory
kept = keep_freed_memory()
size = 64 << 20
for _ in range(20):
    b'x' * size
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def _faults(**environment: str) -> tuple[str, int]:
    env = {k: v for k, v in os.environ.items() if k not in memory.SETTINGS} | environment
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, env=env, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_big_blocks_are_used_again() -> None:
    """20 blocks of 64 MiB: each is 16,384 fresh pages if the system gives it anew."""
    kept, faults = _faults()
    if kept == "False":
        pytest.skip("another C library")
    assert faults < 4 * 16_384
    kept, faults = _faults(MALLOC_TRIM_THRESHOLD_="131072")  # whoever sets malloc's variables is obeyed
    assert kept == "False"
    assert faults > 10 * 16_384


def test_other_systems_and_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in memory.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())  # musl: no gnu_get_libc_version
    assert not memory.keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()


@pytest.mark.parametrize("name", memory.SETTINGS)
def test_a_setting_of_the_user_wins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("malloc was changed"))
    assert not memory.keep_freed_memory()
