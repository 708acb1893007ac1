"""The error that a user can meet, and how a value is quoted in one."""


class InnerloopError(ValueError):
    """Something asked for cannot be done. The message says what was given, what exists and what to do.

    The command line prints it in one sentence. Any other `ValueError` is a bug of ours and keeps its traceback.
    """


def shown(value: object) -> str:
    """A file's name, or any value, as text on one line: what is no text and control characters become escapes."""
    text = str(value)
    if text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def brief(value: object, most: int = 200) -> str:
    """`shown`, cut to `most` characters: for messages that quote what a file or a caller gave."""
    text = shown(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
