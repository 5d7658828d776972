"""Writes a page of Markdown as a notebook: text cells, and a code cell for every block of Python.

    python tools/make_notebook.py docs/python.md examples/python.ipynb

The notebook has no outputs. Its first cell changes to the root of the clone, because the page refers to files from
there. tests/test_python_page.py checks that examples/python.ipynb is up to date, and runs its cells.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT_CELL = """\
import os
from pathlib import Path

if Path.cwd().name == "examples":
    os.chdir("..")  # the root of the clone
"""


def notebook(page: str) -> dict[str, Any]:
    """The notebook of a page."""
    parts = re.split(r"^```python\n(.*?)^```\n", page, flags=re.DOTALL | re.MULTILINE)
    # Links of the page start in docs/, those of the notebook in examples/.
    texts = [re.sub(r"\]\((?!\.\./|http)([^)]+)\)", r"](../docs/\1)", text).strip() for text in parts[::2]]
    cells = [_cell("markdown", texts[0]), _cell("code", ROOT_CELL.strip())]
    for code, text in zip(parts[1::2], texts[1:], strict=True):
        cells.append(_cell("code", code.strip()))
        if text:
            cells.append(_cell("markdown", text))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def write(page: Path, path: Path) -> None:
    """Writes the notebook of a page."""
    path.write_text(json.dumps(notebook(page.read_text("utf-8")), indent=1, ensure_ascii=False) + "\n", "utf-8")


def _cell(kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
