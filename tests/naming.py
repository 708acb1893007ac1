"""What a message must name, whatever its prose: `raises(InnerloopError, match=names("tail", "head", "body"))`."""

import re


def names(*values: object) -> str:
    """The pattern of a message in which each of the values stands, whole, in any order: 5 is not in 0.5, 15 or -5."""
    return r"(?s)\A" + "".join(rf"(?=.*{_whole(str(v))})" for v in values)


def _whole(text: str) -> str:
    number = re.fullmatch(r"[\d.]+", text) is not None
    before = r"(?<![\w.-])" if number else r"(?<!\w)" if re.match(r"\w", text) else ""
    after = r"(?!\w|\.\d)" if number else r"(?!\w)" if re.search(r"\w\Z", text) else ""
    return before + re.escape(text) + after
