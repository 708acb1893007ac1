"""The command line: the only place that parses text, prints and exits."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from innerloop.cli.memory import keep_freed_memory
from innerloop.cli.terminal import degrade_output
from innerloop.errors import InnerloopError, did_you_mean, quoted
from innerloop.version import __version__

GROUPS = {
    "Study": {
        "study": "train MAML and ANIL: rapid learning or feature reuse? Ends with report.html",
        "reproduce": "reproduce a table or figure of the paper, its number beside ours",
        "analyse": "analyse a trained run: freezing, similarity, movement, heads",
        "playground": "open a page in the browser: meta-train MAML live, and watch it adapt",
    },
    "Train": {
        "train": "train one method into a run folder and test it",
        "evaluate": "test a trained run again: other steps, statistics, method, split or data",
        "sweep": "train over a grid of options, or random draws, on many cores or a cluster",
        "rl": "meta-reinforcement learning: train, evaluate and draw MAML and ANIL policies",
        "dagan": "train a generator of more images of a class",
        "runs": "list, compare and delete run folders",
    },
    "Use": {
        "classify": "sort your own images by a few examples per class; ends with gallery.html",
        "serve": "a saved classifier on a web page: predict, correct, learn",
        "export": "share a run or a saved classifier: a folder with a model card, the Hub, ONNX",
    },
    "Set up": {
        "data": "list, download and check data sets",
        "doctor": "show versions, kernel, data sets and extras",
        "completion": "print a completion script for bash, zsh or fish",
    },
}
COMMANDS = {name: about for group in GROUPS.values() for name, about in group.items()}

_LIGHTEST = "--task-chunk (1 needs least), --outer.meta-batch or --query"
_LIGHTER = {"dagan": "--batch or --sizes.widths", "rl": "--task-chunk (1 needs least), --meta-batch or --rollouts"}
"""what needs less memory, by command"""

HELP = """Few-shot meta-learning in PyTorch, and tools to test why it works.

examples
  innerloop study                      # about 5 minutes on two CPU cores, no download
  innerloop train --preset quick       # one method, about 2 minutes
  innerloop classify --support examples --images photos

usage: innerloop COMMAND [OPTIONS]

{commands}

innerloop COMMAND --help shows what a command does, with examples and options.
innerloop --version shows the version.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted."""
    status = 0
    degrade_output()
    os.environ.pop("MPLBACKEND", None)  # figures go to files only, and matplotlib does not start with an unknown one
    try:
        status = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as in `innerloop --help | head -1`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    except KeyboardInterrupt:  # while an error was being explained, which may import
        status = fail("interrupted", 130)
    sys.exit(status)


def run(args: list[str]) -> int:
    """Run one command line; returns the exit status."""
    if not args or args[0] in ("-h", "--help", "help"):
        groups = ("\n".join([g, *(f"  {n:<12}{about}" for n, about in of.items())]) for g, of in GROUPS.items())
        print(HELP.format(commands="\n\n".join(groups)), end="")
        return 0
    if args[0] == "--version":
        print(f"innerloop {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        return fail(f"there is no command {quoted(name)}; there are {', '.join(COMMANDS)}{near}", 2)
    if name not in ("train", "dagan") and args[:2] != ["rl", "train"] and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        what = "start it without torchrun, which is for 'train', 'rl train' and 'dagan'"
        return fail(f"'innerloop {name}' runs in one process: {what}", 2)
    try:
        keep_freed_memory()
        command = importlib.import_module(f"innerloop.cli.{name}")
        return command.run(args[1:])
    except SystemExit as done:  # --help, or wrong usage that the parser has explained
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 2
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("INNERLOOP_TRACEBACK"):
            raise
        sentence = explain(error, name)
        if sentence is None:
            raise
        kind = type(error).__name__
        status = 130 if kind == "Interrupted" else 1
        if kind in ("Interrupted", "RankLost") and os.environ.get("RANK", "0") != "0":
            return status  # the first process says it
        return fail(sentence, status)


def fail(sentence: str, status: int) -> int:
    """One sentence on the error stream."""
    print(f"innerloop: {sentence}", file=sys.stderr)
    return status


def explain(error: Exception, command: str = "") -> str | None:
    """The one sentence for an error that a user of `command` can meet; None for one that is a bug of ours."""
    from innerloop.training import Interrupted

    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return f"not enough memory; lower {_LIGHTER.get(command, _LIGHTEST)}"
    if isinstance(error, InnerloopError | Interrupted | FloatingPointError):
        return _sentence(error)
    return _of_the_system(error) if isinstance(error, OSError) else None


_NO_MEMORY = ("out of memory", "allocate memory", "storage size calculation overflowed")


def _of_the_system(error: OSError) -> str:
    """What the system refused, and for which file."""
    name = str(error.filename or "")
    file = quoted(name) if len(name) > 300 else name
    again = "run the same command again (--resume continues an unfinished training); nothing written before is lost"
    where = f" while writing {file}" if file else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; make room and {again}"
    if error.errno == errno.EFBIG:
        return f"no file may grow that large here{where}; raise the limit (ulimit -f) and {again}"
    return f"{file}: {error.strerror}" if file and error.strerror else _sentence(error)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
