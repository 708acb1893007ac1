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

COMMANDS = {
    "study": "train MAML and ANIL and answer: rapid learning or feature reuse? Ends with report.html",
    "train": "train one method into a run folder and test it",
    "sweep": "train over a grid of options, or random draws, on many cores or a cluster",
    "evaluate": "test a trained run again: other steps, statistics, method or split",
    "analyse": "look into a trained run: freezing, similarity, movement, heads",
    "reproduce": "make a table or figure of the paper again, its number beside ours",
    "classify": "sort your own pictures by a few examples of each class; ends with gallery.html",
    "serve": "a saved classifier on a web page: guess, correct, learn",
    "export": "hand on a saved classifier as an ONNX file",
    "dagan": "train a generator of further images of a class, and look at what it makes of unseen ones",
    "rl": "meta-reinforcement learning: train, evaluate and draw MAML and ANIL policies",
    "playground": "open a page in the browser: meta-train MAML live, and watch it adapt",
    "runs": "list, compare and delete run folders",
    "data": "list, fetch and check data sets",
    "doctor": "what this installation has: versions, kernel, data, extras",
}

_LIGHTEST = "--task-chunk (1 needs least), --outer.meta-batch or --query"
_LIGHTER = {"dagan": "--batch or --sizes.widths", "rl": "--task-chunk (1 needs least), --meta-batch or --rollouts"}
"""what needs less memory, by command"""

HELP = """usage: innerloop COMMAND [OPTIONS]

Few-shot meta-learning, and the study of why it works.

commands:
{commands}

  innerloop COMMAND --help    all options of a command, with their defaults
  innerloop --version

Try:  innerloop study
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
        print(HELP.format(commands="\n".join(f"  {name:<12}{about}" for name, about in COMMANDS.items())))
        return 0
    if args[0] == "--version":
        print(f"innerloop {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        near = did_you_mean(name, COMMANDS)
        return fail(f"there is no command {quoted(name)}; there are {', '.join(COMMANDS)}{near}", 2)
    if name != "train" and args[:2] != ["rl", "train"] and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return fail(
            f"'innerloop {name}' runs in one process, start it without torchrun; 'train' and 'rl train' share their "
            "work out",
            2,
        )
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
    again = "run the same command again (an unfinished training goes on with --resume); nothing written before is lost"
    where = f" while writing {file}" if file else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; make room and {again}"
    if error.errno == errno.EFBIG:
        return f"no file may grow that large here{where}; raise the limit (ulimit -f) and {again}"
    return f"{file}: {error.strerror}" if file and error.strerror else _sentence(error)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
