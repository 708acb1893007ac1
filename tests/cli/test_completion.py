"""The real shells complete commands, options and names by the script that `innerloop completion` prints."""

import os
import pty
import re
import select
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.cli.completion import KINDS, names_of

OFFERS = {
    "innerloop tr": {"train"},  # first: zsh loads its file when it is first asked
    "innerloop --": {"--help", "--version"},
    "innerloop nothing --": set(),
    "innerloop train --preset omniglot-5way-1": {"omniglot-5way-1shot", "omniglot-5way-1shot-cpu"},
    "innerloop train --preset=omniglot-5way-1": {"omniglot-5way-1shot", "omniglot-5way-1shot-cpu"},
    "innerloop train --inner.l": {"--inner.lr", "--inner.learn-rates"},
    "innerloop train --inner.no-f": set(),
    "innerloop train --method an": {"anil"},
    "innerloop rl ": {"train", "evaluate", "analyse", "render"},
    "innerloop rl tr": {"train"},
    "innerloop rl train --preset navigation-20": {"navigation-2019", "navigation-2020"},
    "innerloop rl train --preset omni": set(),
    "innerloop rl train --method or": {"oracle"},
    "innerloop data fe": {"fetch"},
    "innerloop data fetch omni": {"omniglot"},
    "innerloop classify --support data fe": set(),
    "innerloop reproduce table2": {"table2", "table2-rl"},
    "innerloop reproduce table2 --out wa": {"wanted"},
    "innerloop evaluate some/run --split ": {"train", "val", "test"},
    "innerloop evaluate wa": {"wanted"},
    "innerloop completion ": {"bash", "zsh", "fish"},
    "innerloop classify --no-g": {"--no-gallery"},
}
"""lines, and what is offered at their ends where the only file is `wanted`"""

SHELLS = {
    "bash": ("bash --norc --noprofile -i", "PS1='@@@ '; source {script}"),
    "zsh": (
        "zsh -f -i",
        "PROMPT='@@@ '; unsetopt promptsp; bindkey '^[?' list-choices; fpath=({script.parent} $fpath); "
        "autoload -Uz compinit; compinit -u -D",
    ),
}
"""interactive shells, and what makes them ready; Alt-? lists choices"""


def listed(shell: str, script: Path, folder: Path) -> dict[str, set[str]]:
    """What an interactive shell lists at the end of each line, typed into a terminal."""
    command, setup = SHELLS[shell]
    ours, theirs = pty.openpty()
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "cwd": folder, "start_new_session": True}
    process = subprocess.Popen(command.split(), env=os.environ | {"TERM": "dumb", "HISTFILE": ""}, **ends)
    os.close(theirs)

    def typed(text: str) -> str:
        """Type it and a command that answers; what the terminal shows up to the next prompt."""
        os.write(ours, f"{text}echo D$((40+2))\n".encode())
        shown = b""
        while not re.search(rb"D42\r?\n\r?@@@ ", shown):
            assert select.select([ours], [], [], 60)[0], shown
            shown += os.read(ours, 65536)
        return shown.decode().replace("\a", "")

    try:
        typed(setup.format(script=script) + "; ")
        found = {}
        for line in OFFERS:
            after = typed(f"{line}\x1b?\x15").partition(line)[2]
            many = re.match(r"\r+\n(.*?)@@@", after, re.DOTALL)
            more = after.partition("\r")[0].strip()  # bash inserts what is the only choice
            word = line.split(" ")[-1]
            words = many[1].split() if many else [word + more] if more else []
            found[line] = {w.removeprefix("--preset=").rstrip("/") for w in words}
        return found
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def listed_by_fish(script: Path, folder: Path) -> dict[str, set[str]]:
    """What fish offers at the end of each line."""
    asks = "; echo @@@; ".join(f"complete -C '{line}'" for line in OFFERS)
    command = ["fish", "--no-config", "-c", f"source {script}; {asks}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=folder)
    assert done.stderr == ""
    of = [[row.partition("\t")[0] for row in part.split("\n") if row] for part in done.stdout.split("@@@\n")]
    return {line: {w.removeprefix("--preset=") for w in words} for line, words in zip(OFFERS, of, strict=True)}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a script that a shell reads in another way than we do."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    assert cli.run(["completion", shell]) == 0
    script = tmp_path / "_innerloop"
    script.write_text(capsys.readouterr().out)
    (folder := tmp_path / "here").mkdir()
    (folder / "wanted").touch()
    found = listed_by_fish(script, folder) if shell == "fish" else listed(shell, script, folder)
    files = {"wanted"}  # a shell may offer files where it knows no word
    assert {k: v if OFFERS[k] == files else v - files for k, v in found.items()} == OFFERS


def test_every_command_can_be_completed(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a command, or an action, that completion does not know."""
    assert {command.split()[0] for command in KINDS} == set(cli.COMMANDS)
    for name in ("runs", "data"):
        actions = import_module(f"innerloop.cli.{name}").ACTIONS
        assert {c.split()[1] for c in KINDS if c.startswith(f"{name} ")} == set(actions)
    for shell in ("zsh", "fish"):
        assert cli.run(["completion", shell]) == 0
        out = capsys.readouterr().out
        for command in KINDS:
            flags, names = names_of(command)
            assert all(flag.removeprefix("--") in out for flag in flags)
            assert all(name in out for of in names.values() for name in of)
