"""Mutation testing: change one place of the source, run the tests that execute that place, and see one fail.

    python -m pytest -q -m "not slow and not gpu" --cov --cov-context=test --junitxml=.mutants/times.xml
    python tests/mutants.py core methods --seconds 1200

The first command writes which test runs which line (`.coverage`) and how long it takes; repeat it when source or tests
have changed much. The second takes the mutants of mutmut's operators in a random order that the seed fixes until the
time is over. `.mutants/results.jsonl` keeps the results by the function's text: the next call goes on where this one
stopped, and tests a function that has changed anew. `--survivors` shows what was not noticed.

Why neither mutmut nor cosmic-ray alone: cosmic-ray starts a process a mutant, and `import torch` takes longer than most
of our tests. mutmut 3 forks, but has no sample and no time limit, and its trampolines hide the signatures that the
tests check. Here the tests are collected once, and each mutant is a fork in which the function's code object is
exchanged, wherever the function is held. Not mutated: what runs at import (constants, class bodies, defaults,
decorators) and `raise` statements (the tests ask what an error names, not for its prose).
"""

import argparse
import ast
import gc
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple
from xml.etree import ElementTree

import coverage
import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import get_ignored_lines

from planting import first_failure

ROOT = Path(__file__).resolve().parents[1]
SOURCE, KEPT = ROOT / "src" / "innerloop", ROOT / ".mutants"


class Mutant(NamedTuple):
    file: str  # below src/innerloop
    lines: range  # of the original that are others in `source`
    source: str
    key: str  # of the function's text and the change in it
    change: tuple[str, str]  # the lines before and after


def mutants(path: Path) -> Iterator[Mutant]:
    """All mutants of a file, in mutmut's order."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    raised = {n for node in ast.walk(tree) if isinstance(node, ast.Raise) for n in _lines(node)}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    inside = {line: f for f in reversed(functions) for s in f.body for line in _lines(s)}  # the outermost wins
    starts = list(accumulate((len(row) for row in text.splitlines(keepends=True)), initial=0))
    module = MetadataWrapper(cst.parse_module(text))
    visitor = MutationVisitor(mutation_operators, get_ignored_lines(str(path), text, module))
    module.visit(visitor)
    places = module.resolve(PositionProvider)

    def code(node: cst.CSTNode) -> str:
        bare = {"lpar": (), "rpar": ()} if hasattr(node, "lpar") else {}  # a place is within its parentheses
        return module.module.code_for_node(node.with_changes(**bare))

    for m in visitor.mutations:
        place = places[m.original_node]
        lines = range(place.start.line, place.end.line + 1)
        start, end = (starts[p.line - 1] + p.column for p in (place.start, place.end))
        if lines.start not in inside or set(lines) <= raised or text[start:end] != code(m.original_node):
            continue
        function, new = inside[lines.start], code(m.mutated_node)
        own = "".join(text.splitlines(keepends=True)[n - 1] for n in _lines(function))
        where = (path.name, own, start - starts[function.lineno - 1], new)
        first, last = starts[lines.start - 1], starts[lines.stop - 1]
        yield Mutant(
            path.relative_to(SOURCE).as_posix(),
            lines,
            text[:start] + new + text[end:],
            hashlib.sha256(repr(where).encode()).hexdigest()[:16],
            (" ".join(text[first:last].split()), " ".join((text[first:start] + new + text[end:last]).split())),
        )


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _functions(code: CodeType) -> Iterator[CodeType]:
    """The code of functions and methods, but not of functions within functions."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & 0x2:  # CO_NEWLOCALS: a function; a class body has none
                yield part
            else:
                yield from _functions(part)


def exchange(mutant: Mutant) -> None:
    """Give every function of the file that is another in the mutant the mutant's code."""
    path = str(SOURCE / mutant.file)
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path)
    compiled = module.__loader__.source_to_code  # pyright: ignore  that of the signature check
    before = list(_functions(compiled(Path(path).read_bytes(), path)))
    after = list(_functions(compiled(mutant.source.encode(), path)))
    changed = {(a.co_qualname, a.co_firstlineno): b for a, b in zip(before, after, strict=True) if a != b}
    gc.unfreeze()  # conftest.py
    functions = [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__.co_filename == path]
    wanted = [(f, changed.get((f.__code__.co_qualname, f.__code__.co_firstlineno))) for f in functions]
    if not any(code for _, code in wanted):
        raise LookupError("nothing that runs is another")
    for f, code in wanted:
        f.__code__ = code or f.__code__


class Mutate:
    """Takes the place of the running of tests: runs mutants."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.results = options, read_results()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        o, began = self.options, time.monotonic()
        items = {i.nodeid: i for i in session.items}
        data = coverage.CoverageData(str(ROOT / ".coverage"))
        data.read()
        cases = [c.attrib for c in ElementTree.parse(KEPT / "times.xml").iter("testcase") if not len(c)]  # passed
        seconds = {f"{c['classname'].replace('.', '/')}.py::{c['name']}": float(c["time"]) for c in cases}
        todo = [m for name in o.packages for p in _files(name) for m in mutants(p)]
        todo.sort(key=lambda m: hashlib.sha256(f"{o.seed} {m.key}".encode()).digest())
        print(f"\n{len(todo)} mutants, {sum(m.key in self.results for m in todo)} known", flush=True)
        for m in todo:
            if time.monotonic() - began > o.seconds:
                break
            known = self.results.get(m.key)  # one that survived a part of its tests is tried again with more time
            if known is None or (known["tests"] < known["covering"] and known["each"] < o.each and not known["by"]):
                self._run(m, items, data.contexts_by_lineno(f"src/innerloop/{m.file}"), seconds)
        return True

    def _run(self, m: Mutant, items: dict[str, pytest.Item], contexts: dict[int, list[str]], seconds: dict) -> None:
        names = {c.split("|")[0] for line in m.lines for c in contexts.get(line, ())} & items.keys() & seconds.keys()
        order = sorted(names, key=lambda n: seconds[n])
        before = [0.0, *accumulate(seconds[n] for n in order)]
        tests = [items[n] for n, spent in zip(order, before, strict=False) if spent < self.options.each]
        start = time.monotonic()
        by = first_failure(tests, lambda: exchange(m), 20 + 5 * before[len(tests)]) if tests else None
        fate = {"": "survived" if tests else "no test", "error": "skipped"}.get((by or "").split(" ")[0], "killed")
        row = {"key": m.key, "file": m.file, "line": m.lines.start, "change": m.change, "status": fate, "by": by}
        row |= {"tests": len(tests), "covering": len(names), "each": self.options.each}
        with (KEPT / "results.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print(f"{fate:8} {time.monotonic() - start:6.1f} s  {m.file}:{m.lines.start}  {by or ''}", flush=True)


def _files(name: str) -> list[Path]:
    return [SOURCE / f"{name}.py"] if (SOURCE / f"{name}.py").exists() else sorted((SOURCE / name).rglob("*.py"))


def read_results() -> dict[str, dict[str, Any]]:
    """What earlier calls found, by the mutant's key."""
    path = KEPT / "results.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
    return {r["key"]: r for r in rows}


def report(packages: list[str], survivors: bool) -> None:
    """The score of each package, over the mutants that its files still have."""
    known = read_results()
    for name in packages:
        rows = [known[m.key] for p in _files(name) for m in mutants(p) if m.key in known]
        count = {s: sum(r["status"] == s for r in rows) for s in ("killed", "survived", "no test")}
        tried = sum(count.values())
        print(f"{name:18} {tried:5} tried  " + "  ".join(f"{n} {s}" for s, n in count.items()), end="")
        print(f"  {100 * count['killed'] / tried:.0f} %" if tried else "")
        for r in rows if survivors else ():
            if r["status"] in ("survived", "no test"):
                print(f"  {r['file']}:{r['line']} {r['key']} ({r['tests']} of {r['covering']} tests)")
                print(f"    - {r['change'][0]}\n    + {r['change'][1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing of packages or files of innerloop.")
    parser.add_argument("packages", nargs="+", metavar="PACKAGE", help="core, methods, core/statistics, …")
    parser.add_argument("--seconds", type=float, default=600, help="begin no further mutant after so long")
    parser.add_argument("--each", type=float, default=30, help="seconds of tests a mutant, fastest first")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="where tests are collected")
    parser.add_argument("--survivors", action="store_true", help="show them and run nothing")
    options = parser.parse_args()
    if not options.survivors:
        pytest.main(["-qm", "not slow and not gpu", "-pno:cacheprovider", *options.tests], plugins=[Mutate(options)])
    report(options.packages, options.survivors)


if __name__ == "__main__":
    main()
