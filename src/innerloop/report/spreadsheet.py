"""Tables as CSV that a spreadsheet may open, whoever chose the text in them."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

Cell = str | int | float
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""what a cell that a spreadsheet computes begins with (OWASP, "CSV injection")"""
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def csv_text(rows: Iterable[Sequence[Cell]]) -> str:
    """One line per row. Text is in quotes, so that no other separator splits it; where it begins like a formula and is
    no number, it gets a ' before it. Numbers stay as they are."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    write.writerows([_cell(cell) for cell in row] for row in rows)
    return out.getvalue()


def _cell(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
