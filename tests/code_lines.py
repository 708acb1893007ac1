"""Lines of code of a file, without comments, docstrings and imports."""

import ast
from pathlib import Path


def code_lines(path: Path) -> int:
    """How many lines hold code other than imports and docstrings."""
    tree = ast.parse(path.read_text())
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.expr | ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom):
            lines.update((node.lineno, node.end_lineno or node.lineno))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            doc = node.body[0]
            lines -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return len(lines)
