"""Text on terminals that lack some of its characters."""

import codecs
import io
import sys
import unicodedata

_ASCII = {
    "±": "+-",
    "×": "x",
    "→": "->",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "·": "*",
    "≥": ">=",
    "≤": "<=",
    "‖": "||",
    "λ": "lambda",
    "θ": "theta",
    "τ": "tau",
    "’": "'",
    **dict.fromkeys("╭╮╰╯├┤┬┴┼┏┓┗┛┡┩╇", "+"),
    **dict.fromkeys("─━╌", "-"),
    **dict.fromkeys("│┃", "|"),
}


def degrade_output() -> None:
    """Let standard output and error spell what their encoding lacks, instead of failing in the middle of a table."""
    codecs.register_error("innerloop-spell", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="innerloop-spell")


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelt, error.object[error.start : error.end])), error.end


def _spelt(character: str) -> str:
    if character in _ASCII:
        return _ASCII[character]
    without_accents = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return without_accents or character.encode("ascii", "backslashreplace").decode()
