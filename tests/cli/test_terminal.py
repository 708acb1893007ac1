"""Terminals that lack characters, and what a process takes from its environment."""

import io
import os
import subprocess
import sys

import pytest

from innerloop import cli
from innerloop.cli import show
from innerloop.cli.terminal import degrade_output


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "0.52 +- 0.03 -> 3x28x28, cafe ... lambda"),
        ("latin-1", "0.52 ± 0.03 -> 3×28×28, café ... lambda"),
        ("utf-8", "0.52 ± 0.03 → 3×28×28, café … λ"),
    ],
)
def test_what_a_terminal_lacks_is_spelt(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    degrade_output()
    print("0.52 ± 0.03 → 3×28×28, café … λ")
    print("a file \udcff")  # a name that is not UTF-8
    show.table("steps ±", ("step", "accuracy ± ci95"), [("1", "0.5 ± 0.1")], "in [red]x")
    first, second, *table = screen.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]
    assert first == shown
    assert second == "a file \\udcff"
    assert "?" not in "".join(table)
    assert "in [red]x" in "".join(table)


def test_the_environment_of_a_process_cannot_spoil_the_end_of_its_work() -> None:
    code = (
        "import innerloop.cli as cli\n"
        "def run(args):\n"
        "    import matplotlib.figure\n"
        "    print('±')\n"
        "    return 0\n"
        "cli.run = run\n"
        "cli.main([])\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "MPLBACKEND": "foo"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"+-\n", b"")


def test_ctrl_c_while_an_error_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    with pytest.raises(SystemExit) as done:
        cli.main(["x"])
    assert done.value.code == 130
    assert "interrupted" in capsys.readouterr().err
