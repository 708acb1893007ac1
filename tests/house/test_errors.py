"""How messages quote what was given."""

import errno
from pathlib import Path

import numpy as np
import pytest

from innerloop.errors import did_you_mean, naming_file, quoted
from naming import names

KNOWN = ("maml", "anil", "boil", "proto-maml")


@pytest.mark.parametrize(
    ("given", "near"),
    [("anli", "anil"), ("ANIL", "anil"), ("protomaml", "proto-maml"), ("maml ", "maml")],
)
def test_a_close_name_is_proposed(given: str, near: str) -> None:
    assert did_you_mean(given, KNOWN) == f"; did you mean {near!r}?"


@pytest.mark.parametrize("given", ["", "xyzzy", "m" * 10_000, 7, None, ["maml"]])
def test_nothing_is_proposed_for_what_is_close_to_nothing(given: object) -> None:
    assert did_you_mean(given, KNOWN) == ""
    assert did_you_mean(given, ()) == ""


def test_the_name_is_proposed_as_it_is_known() -> None:
    assert did_you_mean("half-chetah", ["Half-Cheetah"]) == "; did you mean 'Half-Cheetah'?"


@pytest.mark.parametrize("value", ["a'b", 1.5, None, (1, 2), ["x"], {"way": 5}, 10**30])
def test_a_short_value_is_quoted_whole(value: object) -> None:
    assert quoted(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 10_000, list(range(10_000)), {str(i): "y" * 500 for i in range(50)}, np.arange(900), b"z" * 5000, 10**3000],
)
def test_a_long_value_is_cut_short(value: object) -> None:
    assert len(quoted(value)) < 130
    assert repr(value).startswith(quoted(value)[:50])
    assert repr(value).endswith(quoted(value)[-10:])


def test_an_error_of_the_system_gets_the_name_of_its_file() -> None:
    with pytest.raises(OSError, match=names("/x/y")) as found, naming_file(Path("/x/y")):
        raise OSError(errno.EFBIG, "File too large")  # as a write gives it
    assert (found.value.errno, found.value.filename) == (errno.EFBIG, "/x/y")
    with pytest.raises(OSError, match=names("/a/b")) as found, naming_file(Path("/x/y")):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/b")
    assert found.value.filename == "/a/b"


def test_an_integer_that_python_does_not_print_is_quoted_in_words() -> None:
    assert "integer" in quoted(10**5000)
