"""docs/method.md names functions and tests that exist."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
METHOD = (ROOT / "docs" / "method.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    """Catches a renamed test whose proof would then be missing."""
    file = ""
    named = 0
    for row in METHOD.splitlines():
        for word in re.findall(r"`([^`]+)`", row):
            if word.endswith(".py"):
                file = (ROOT / "tests" / word).read_text()
            elif word.startswith("test_"):
                assert f"def {word}(" in file, word
                named += 1
    assert named > 20


def test_every_function_that_is_named_exists() -> None:
    named = 0
    for word in re.findall(r"`((?:core|methods|analysis|studies|data)\.[\w.]+)`", METHOD):
        if word.endswith(".py"):
            continue
        module, name = "innerloop." + word, []
        while True:
            try:
                found = importlib.import_module(module)
                break
            except ModuleNotFoundError:
                module, _, last = module.rpartition(".")
                name.insert(0, last)
        for part in name:
            found = getattr(found, part)
        named += 1
    assert named > 20


def test_every_experiment_is_in_it() -> None:
    from innerloop.studies import EXPERIMENTS

    for e in EXPERIMENTS:
        assert f"`{e.name}`" in METHOD
