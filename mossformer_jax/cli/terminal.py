"""Terminal output shared by the subcommands."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

PROGRAM = "mossformer-jax"

# Characters of a word in an error. Paths are rarely longer; a mistyped value can have thousands.
_LONGEST_WORD = 500


def one_line(error: BaseException | str) -> str:
    """An error or a text without line breaks; the error's type if its message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


def complain(message: str) -> None:
    """Prints an error as one line to stderr."""
    print(f"{PROGRAM}: error: {_readable(message)}", file=sys.stderr)


def warn(message: str) -> None:
    """Prints a warning as one line to stderr."""
    print(f"{PROGRAM}: warning: {_readable(message)}", file=sys.stderr)


def _readable(message: str) -> str:
    """The message with very long words shortened in the middle."""
    words = message.split(" ")
    return " ".join(word if len(word) <= _LONGEST_WORD else f"{word[:100]}...{word[-50:]}" for word in words)


def show_logged_warnings() -> None:
    """Prints warnings of the log as `warn` does.

    Call it before Orbax is imported, which otherwise sets up lines that start with the name of a Python module.
    """
    logging.basicConfig(format=f"{PROGRAM}: warning: %(message)s")


def print_table(rows: Sequence[tuple[str, ...]], left: int) -> None:
    """Prints rows in aligned columns: the first `left` flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
