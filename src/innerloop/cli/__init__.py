"""The command line: the only place that parses text, prints and exits."""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from innerloop.cli.memory import keep_freed_memory
from innerloop.version import __version__

COMMANDS = {
    "study": "train MAML and ANIL and answer: rapid learning or feature reuse? Ends with report.html",
    "train": "train one method into a run folder and test it",
    "evaluate": "test a trained run again: other steps, statistics, method or split",
    "analyse": "look into a trained run: freezing, similarity, movement, heads",
    "reproduce": "make a table or figure of the paper again, its number beside ours",
    "classify": "sort your own pictures by a few examples of each class; ends with gallery.html",
    "dagan": "train a generator of further images of a class, and look at what it makes of unseen ones",
    "rl": "meta-reinforcement learning: train, evaluate and draw MAML and ANIL policies",
    "data": "list, fetch and check data sets",
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
    try:
        status = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as in `innerloop --help | head -1`
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.exit(status)


def run(args: list[str]) -> int:
    """Run one command line; returns the exit status."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<11}{about}" for name, about in COMMANDS.items())))
        return 0
    if args[0] == "--version":
        print(f"innerloop {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return fail(f"there is no command {name!r}{hint} (commands: {', '.join(COMMANDS)})", 2)
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
        return fail(sentence, 130 if type(error).__name__ == "Interrupted" else 1)


def fail(sentence: str, status: int) -> int:
    """One sentence on the error stream."""
    print(f"innerloop: {sentence}", file=sys.stderr)
    return status


def explain(error: Exception, command: str = "") -> str | None:
    """The one sentence for an error that a user of `command` can meet; None for one that is a bug of ours."""
    from innerloop.errors import InnerloopError
    from innerloop.training import Interrupted

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        again = "make room and run the same command again (train and study with --resume)"
        return f"the disk is full{where}; {again}; nothing written before is lost"
    if isinstance(error, InnerloopError | Interrupted | FloatingPointError | OSError):
        if isinstance(error, OSError) and error.strerror and error.filename:
            return f"{error.filename}: {error.strerror}"
        return " ".join(str(error).split()) or type(error).__name__
    text = str(error).lower()
    if isinstance(error, MemoryError) or ("out of memory" in text or "allocate memory" in text):
        return f"not enough memory; lower {_LIGHTER.get(command, _LIGHTEST)}"
    return None
