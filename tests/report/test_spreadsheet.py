"""A cell of somebody else's text is not computed, and a number stays a number."""

import csv
import io

import pytest

from innerloop.report.spreadsheet import csv_text


def cells(*given: str | float) -> list[str]:
    (found,) = csv.reader(io.StringIO(csv_text([given]), newline=""))
    return found


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "-a", "--1", "-1\n"])
def test_text_that_begins_like_a_formula_is_text(text: str) -> None:
    assert cells("a", text, 3) == ["a", f"'{text}", "3"]


def test_numbers_and_other_text_stay_as_they_are() -> None:
    assert cells(-0.5, 1, 2.5e-7, "-0.5", "+3", "-1e-05", "cat", "a=b", "", "−0.3", "'x") == [
        "-0.5", "1", "2.5e-07", "-0.5", "+3", "-1e-05", "cat", "a=b", "", "−0.3", "'x",
    ]  # fmt: skip


def test_text_is_in_quotes_where_another_separator_is_none() -> None:
    assert csv_text([["a;=1+1", -0.5], ['b"\t=1', 2]]) == '"a;=1+1",-0.5\n"b""\t=1",2\n'
