"""`innerloop completion`: a script that completes commands, options and names in a shell, without starting Python."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from innerloop import cli
from innerloop.cli import (
    analyse,
    classify,
    dagan,
    data,
    doctor,
    evaluate,
    export,
    options,
    playground,
    reproduce,
    rl,
    runs,
    serve,
    study,
    sweep,
    train,
)
from innerloop.cli.help import Help, options_of
from innerloop.data.catalogue import DATASETS, FOLDER, REGRESSIONS
from innerloop.methods.catalogue import NAMES as METHODS
from innerloop.rl.catalogue import NAMES as ENVIRONMENTS
from innerloop.rl.methods import NAMES as RL_METHODS
from innerloop.rl.presets import PRESETS as RL_PRESETS
from innerloop.studies import TABLES
from innerloop.training import PRESETS

HELP = Help(
    "Print a script that completes commands, options and names of innerloop in your shell. Write it to a file that the "
    "shell reads.",
    (
        "innerloop completion bash > ~/.local/share/bash-completion/completions/innerloop",
        "innerloop completion zsh > ~/.zfunc/_innerloop    # ~/.zfunc is in fpath",
        "innerloop completion fish > ~/.config/fish/completions/innerloop.fish",
    ),
)


@dataclass(frozen=True)
class CompletionArgs:
    """Options of `innerloop completion`."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """bash, zsh or fish"""


KINDS = {
    "study": study.StudyArgs,
    "train": train.TrainArgs,
    "sweep": sweep.SweepArgs,
    "evaluate": evaluate.EvaluateArgs,
    "analyse": analyse.AnalyseArgs,
    "reproduce": reproduce.ReproduceArgs,
    "classify": classify.ClassifyArgs,
    "serve": serve.ServeArgs,
    "export": export.ExportArgs,
    "dagan": dagan.DaganArgs,
    "rl train": rl.TrainArgs,
    "rl evaluate": rl.EvaluateArgs,
    "rl analyse": rl.AnalyseArgs,
    "rl render": rl.RenderArgs,
    "playground": playground.PlaygroundArgs,
    **{f"runs {action}": runs.RunsArgs for action in runs.ACTIONS},
    **{f"data {action}": data.DataArgs for action in data.ACTIONS},
    "doctor": doctor.DoctorArgs,
    "completion": CompletionArgs,
}
"""every command, and every action of a command that has several, with its options"""

_DATA = (*(d.name for d in (*DATASETS, *REGRESSIONS)), FOLDER)
_NAMES: Mapping[str, Sequence[str]] = {
    "--preset": [p.name for p in PRESETS],
    "--method": METHODS,
    "--methods": METHODS,
    "--data": _DATA,
    "--env": ENVIRONMENTS,
    "--device": ("auto", "cpu", "cuda"),
    "--model.arch": ("conv4", "resnet12", "mlp"),
    "reproduce NAME": (*(t.name for t in TABLES), "all"),
    "rl train --method": RL_METHODS,
    "rl train --preset": [p.name for p in RL_PRESETS],
    **{f"data {action} NAME": [d.name for d in DATASETS] for action in data.ACTIONS},
}
"""names that an option or a positional argument takes, of every command or of one"""


def names_of(command: str) -> tuple[list[str], dict[str, Sequence[str]]]:
    """The options of a command, and the names that an option or a positional argument takes."""
    flags, names = ["--help"], {}
    for o in options_of(KINDS[command]):
        if o.flag.startswith("--"):
            flags += [f for f in o.shown.split() if f.startswith("--")] if not o.value else [o.flag]
        if found := _NAMES.get(f"{command} {o.flag}") or o.choices or _NAMES.get(o.flag):
            names[o.flag] = found
    return [f.rstrip(",") for f in flags], names


def run(args: Sequence[str]) -> int:
    """Print the script."""
    asked = options.parse(CompletionArgs, args, "completion", text=HELP)
    print("\n".join(fish() if asked.shell == "fish" else bash(zsh=asked.shell == "zsh")))
    return 0


def first_words() -> dict[str, list[str]]:
    """What may follow `innerloop`, and each command that has actions."""
    actions: dict[str, list[str]] = {"": [*cli.COMMANDS]}
    for command in KINDS:
        name, _, action = command.partition(" ")
        if action:
            actions.setdefault(name, []).append(action)
    return actions


def first_flags(name: str) -> tuple[str, ...]:
    """The options that may stand in the place of a command, or of an action of the command `name`."""
    return ("--help",) if name else ("--help", "--version")


def bash(*, zsh: bool) -> Iterator[str]:
    """For bash, and for zsh, which runs bash's through bashcompinit; only bash splits `--preset=quick` at `=`."""
    if zsh:
        yield "#compdef innerloop\nautoload -U +X bashcompinit && bashcompinit"
    yield """_innerloop() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local command=${COMP_WORDS[1]} words= flags= prefix=
  [[ $current == = ]] && current=
  [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}
  [[ $current == --*=* ]] && before=${current%%=*} prefix=${current%%=*}= current=${current#*=}
  case "$command" in"""
    words = first_words()
    yield f'    {"|".join(n for n in words if n)}) (( COMP_CWORD > 2 )) && command+=" ${{COMP_WORDS[2]}}" ;;\n  esac'
    yield '  (( COMP_CWORD == 1 )) && command=\n  case "$command" in'
    for name, following in words.items():
        yield f'    "{name}") words="{" ".join(following)}" flags="{" ".join(first_flags(name))}" ;;'
    for command in KINDS:
        flags, names = names_of(command)
        free = " ".join(n for flag, of in names.items() if not flag.startswith("--") for n in of)
        yield f'    "{command}") flags="{" ".join(flags)}" words="{free}"\n      case "$before" in'
        for flag, of in names.items():
            if flag.startswith("--"):
                yield f'        {flag}) flags= words="{" ".join(of)}" ;;'
        yield "      esac ;;"
    yield """  esac
  [[ $current == -* ]] && words=$flags
  COMPREPLY=($(compgen -P "$prefix" -W "$words" -- "$current"))
}
complete -o default -F _innerloop innerloop"""
    if zsh:  # the first call only loads this file
        yield "[[ ${funcstack[1]} == _innerloop ]] && _bash_complete -o default -F _innerloop"


def fish() -> Iterator[str]:
    """For fish. A line belongs to the command that its first words name."""
    yield """function __innerloop_words
    set -l words (commandline -opc)
    set -e words[1]
    test "$words" = "$argv"
end
function __innerloop_begins
    set -l words (commandline -opc)
    set -e words[1]
    string match -q -- "$argv *" "$words "
end"""
    for name, following in first_words().items():
        here = f"complete -c innerloop -n '{f'__innerloop_words {name}'.strip()}' -f"
        about = {} if name else cli.COMMANDS
        yield from (f"{here} -a {word} -d '{about.get(word, '')}'" for word in following)
        yield from (f"{here} -l {flag.removeprefix('--')}" for flag in first_flags(name))
    for command in KINDS:
        here = f"complete -c innerloop -n '__innerloop_begins {command}'"
        takes = {o.flag for o in options_of(KINDS[command]) if o.value}
        flags, names = names_of(command)
        for flag in flags:
            value = f" -x -a '{' '.join(names[flag])}'" if flag in names else " -r -F" if flag in takes else ""
            yield f"{here} -l {flag.removeprefix('--')}{value}"
        for flag, of in names.items():
            if not flag.startswith("--"):
                yield f"{here} -f -a '{' '.join(of)}'"
