"""The pages that a user reads, and their text without code."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    p
    for where in (ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "docs").rglob("*.ipynb"))
    for p in sorted(where)
]


def prose(page: Path) -> str:
    """A page without its code; of a notebook the text cells."""
    text = page.read_text()
    if page.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.M | re.S)


def name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))
