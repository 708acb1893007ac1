"""Nothing that a stranger gives crashes the process, fills the memory, or ends without the file's name."""

import pytest

pytest.importorskip("resource")  # not on Windows

from hostile_files import Attack, attacks, attempt

TABLE = list(attacks())


@pytest.mark.parametrize(
    "attack", [pytest.param(a, id=a.name[:60], marks=[pytest.mark.slow] if a.slow else []) for a in TABLE]
)
def test_survived(attack: Attack) -> None:
    good, story = attempt(attack)
    assert good, story


def test_the_table_is_large_and_its_names_differ() -> None:
    assert len(TABLE) >= 40
    assert len({a.name for a in TABLE}) == len(TABLE)


def test_what_breaks_is_noticed() -> None:
    """A crash, a bug, an error without the name, memory beyond the bound, a file beside."""
    import os
    import signal
    from pathlib import Path

    def end(_: Path) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    for use, what in [
        (end, "SIGSEGV"),
        (lambda _: 1 // 0, "bug"),
        (lambda _: len(b"x" * (300 << 20)), "MB"),
        (lambda folder: (folder / "beside").write_text("x"), "WROTE"),
        (lambda _: False, "False"),
    ]:
        good, story = attempt(Attack("x", lambda _: None, use))
        assert not good
        assert what in story
