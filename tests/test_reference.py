"""`module:attribute` on the command line and in config.json."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from innerloop.errors import InnerloopError
from innerloop.reference import is_reference, load_reference
from naming import names
from planting import but, plants


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "methods_of_mine.py").write_text("class Box:\n    inside = 7\nridge = 5\n")
    (tmp_path / "needs_more.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "broken_of_mine.py").write_text("1 / 0\n")
    yield tmp_path  # pyright: ignore[reportReturnType]
    for name in ("methods_of_mine", "needs_more", "broken_of_mine"):
        sys.modules.pop(name, None)


@plants("the current folder is not searched", "reference:sys", lambda right: but(right, path=[""]))
def test_values_of_a_file_in_the_current_folder(folder: Path) -> None:
    before = list(sys.path)
    assert load_reference("methods_of_mine:ridge", "method") == 5
    assert load_reference("methods_of_mine:Box.inside", "method") == 7
    assert sys.path == before


@pytest.mark.parametrize("name", ["a b:c", ":c", "a:", "a:b:c", "../a:b", "a/b:c", "a:b()"])
def test_what_is_no_reference(name: str) -> None:
    assert is_reference(name)
    with pytest.raises(InnerloopError, match=names(repr(name), "module:attribute")):
        load_reference(name, "method")


def absent(name: str) -> ModuleType:
    """A module that lacks another counts as absent itself."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(str(error), name=name) from None


@plants(
    "a module that lacks another is called absent",
    "reference:importlib",
    lambda right: but(right, import_module=absent),
)
def test_errors_name_what_is_missing(folder: Path) -> None:
    with pytest.raises(InnerloopError, match=names("no_such_module")):
        load_reference("no_such_module:x", "data set")
    with pytest.raises(InnerloopError, match=names("'rigde'", "'ridge'")):
        load_reference("methods_of_mine:rigde", "method")
    with pytest.raises(
        ModuleNotFoundError, match=names("no_such_package_at_all")
    ):  # the user's own fault, with its traceback
        load_reference("needs_more:x", "method")
    with pytest.raises(ZeroDivisionError):
        load_reference("broken_of_mine:x", "method")


def test_a_module_of_the_same_name_from_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches: the value of the folder that this process was in before, in place of the one that was asked for."""
    assert load_reference("methods_of_mine:ridge", "method") == 5
    other = folder / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert load_reference("methods_of_mine:ridge", "method") == 5, "nothing here hides it"
    (other / "methods_of_mine.py").write_text("ridge = 6\n")
    with pytest.raises(InnerloopError, match=names("methods_of_mine:ridge", str(folder / "methods_of_mine.py"))):
        load_reference("methods_of_mine:ridge", "method")
    assert "" not in sys.path
    del sys.modules["methods_of_mine"]
    assert load_reference("methods_of_mine:ridge", "method") == 6
