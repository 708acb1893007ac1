"""Planted bugs: a test that no bug can fail proves nothing, so a test names bugs that it must notice.

    @plants("step uphill", "core.inner:_rate", lambda right: lambda *given: -right(*given))
    def test_…

`python -m pytest --plant` collects the tests as ever and then runs the marked ones alone: first as they are, then once
for each bug, in a fork of its own in which the wrong function stands in the right one's place. One case of the test
must fail. `--bug NAME` takes the bugs whose name contains NAME. Exit 1 if a bug goes unnoticed.

A bug replaces a function, method or constant, never text, so it lives as long as the name does. Where it belongs in
the middle of a long function it replaces what that function calls; `tests/mutants.py` changes the lines themselves.
"""

import importlib
import inspect
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest


class Bug(NamedTuple):
    name: str
    target: str
    """``module:attribute`` or ``module:Class.attribute``, the module without ``innerloop.``"""
    wrong: Callable[[Any], Any]
    """the right one -> what takes its place"""


def plants(name: str, target: str, wrong: Callable[[Any], Any]) -> pytest.MarkDecorator:
    """Mark a test with a bug that makes it fail."""
    return pytest.mark.plants(Bug(name, target, wrong))


def but(module: ModuleType, **changed: Any) -> SimpleNamespace:
    """What a module has, with some of it changed: for bugs in what a module imports."""
    return SimpleNamespace(**{**vars(module), **changed})


def plant(bug: Bug) -> None:
    """Put the wrong one in the right one's place: a name that the module imported, there; its own, everywhere."""
    where, _, path = bug.target.partition(":")
    module = owner = importlib.import_module(f"innerloop.{where}")
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    right = inspect.getattr_static(owner, name)
    wrong = bug.wrong(right)
    setattr(owner, name, wrong)
    if owner is module and getattr(right, "__module__", None) == module.__name__:
        for other in [m for m in sys.modules.values() if m is not None]:
            for key in [k for k, v in vars(other).items() if v is right]:
                setattr(other, key, wrong)


def first_failure(items: Sequence[pytest.Item], prepare: Callable[[], None], seconds: float) -> str | None:
    """Which of the tests fails first, in a fork of this process and after `prepare`; None if all pass.

    Tests that run for longer than `seconds` in all, or end the process, have failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        word = "passed"
        try:
            word = _first_failure(items, prepare)
        except BaseException:
            word = "error " + traceback.format_exc(limit=-1).strip().splitlines()[-1]
        finally:
            os.write(theirs, word.encode())
            os._exit(0)
    os.close(theirs)
    ready, _, _ = select.select([ours], [], [], seconds)
    if not ready:
        os.kill(child, signal.SIGKILL)
    word = os.read(ours, 10_000).decode() if ready else "timeout"
    os.close(ours)
    os.waitpid(child, 0)
    return None if word == "passed" else word or "the process ended"


class _Reports:
    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(crash.message).splitlines()[0] if crash and crash.message else ""
            self.failed.append(f"{report.nodeid}  {why}")


def _first_failure(items: Sequence[pytest.Item], prepare: Callable[[], None]) -> str:
    config, reports = items[0].config, _Reports()
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(reports)
    prepare()
    for item, following in zip(items, [*items[1:], None], strict=True):
        config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if reports.failed:
            return reports.failed[0]
    return "passed"


# ---- the hooks, imported by conftest.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plant", action="store_true", help="plant the bugs that the tests name, one at a time")
    parser.addoption("--bug", default="", metavar="NAME", help="with --plant: the bugs whose name contains NAME")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    if not session.config.getoption("plant"):
        return None
    only = session.config.getoption("bug")
    wanted: dict[str, tuple[Bug, list[pytest.Item]]] = {}
    for item in session.items:
        for mark in item.iter_markers("plants"):
            bug: Bug = mark.args[0]
            known, items = wanted.setdefault(bug.name, (bug, []))
            if known is not bug:
                raise pytest.UsageError(f"two bugs are called {bug.name!r}")
            items.append(item)
    wanted = {name: found for name, found in wanted.items() if only in name}
    if not wanted:
        raise pytest.UsageError(f"no bug {only!r} in the tests that were collected")
    began, wrong = time.monotonic(), 0
    marked = list(dict.fromkeys(item for _, items in wanted.values() for item in items))
    if failed := first_failure(marked, lambda: None, 600):
        raise pytest.UsageError(f"without a bug: {failed}")
    print()
    for bug, items in wanted.values():
        failed = first_failure(items, lambda bug=bug: plant(bug), 120)
        noticed = failed is not None and not failed.startswith("error ")
        wrong += not noticed
        print(f"{'noticed' if noticed else 'MISSED '}  {bug.name}  ({bug.target})  <-  {failed}", flush=True)
    print(f"{len(wanted)} bugs, {wrong} missed, {time.monotonic() - began:.0f} s")
    session.testsfailed = wrong
    return True
