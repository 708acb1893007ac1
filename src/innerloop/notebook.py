"""Tables as HTML, for what a notebook shows of a value (`_repr_html_`)."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """A plain table with a caption and a note; every text is escaped."""
    lines = ["".join(f"<th>{escape(h)}</th>" for h in header)]
    lines += ["".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(title)}</caption>{body}</table>" + (f"<p>{escape(note)}</p>" if note else "")
