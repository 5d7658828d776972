"""Reading text and CSV files that list audio files. Errors name the file, the line and the value."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path


def read_text(path: str | os.PathLike[str], advice: str) -> str:
    """Reads a text file in UTF-8.

    Args:
        path: the file.
        advice: end of the error message if there is no such file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; {advice}")
    try:
        return Path(path).read_text(encoding="utf-8-sig")  # spreadsheet programs write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is not text in UTF-8 ({error.reason} at byte {error.start}); convert it to UTF-8"
        ) from error


def read_csv(path: str | os.PathLike[str], advice: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Reads a CSV file in UTF-8, separated by commas, whose first line names the columns.

    Args:
        path: the file.
        advice: end of the error message if there is no such file.

    Returns:
        The columns; and for every row, its first line number (from 1) and its cells by column.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not UTF-8, a quote is not closed, a column is repeated, or the number of cells in a row
            differs from the number of columns, or the columns are separated by semicolons or tabs.
    """
    return parse_csv(path, read_text(path, advice))


def parse_csv(path: str | os.PathLike[str], text: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns and rows of a CSV file's text, as `read_csv` returns them; errors name `path`."""
    _check_separator(path, text.lstrip().partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    found, line = [], 1
    try:
        for cells in reader:
            if cells:
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: cannot be read as CSV ({error}); check its double quotes") from error
    columns = found.pop(0)[1] if found else []
    repeated = sorted({column for column in columns if column and columns.count(column) > 1})
    if repeated:
        raise ValueError(f"{path}: has the column {', '.join(repeated)} more than once; column names must be unique")
    for line, cells in found:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            raise ValueError(
                f"{path}, line {line}: has {len(cells)} cells for {len(columns)} columns: "
                f"{', '.join(map(repr, cells[:8]))}; put cells that contain a comma in double quotes"
            )
    return columns, [(line, dict(zip(columns, cells, strict=False))) for line, cells in found]


def _check_separator(path: str | os.PathLike[str], header: str) -> None:
    """Raises a ValueError for a header with other separators, as some spreadsheet programs write them."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in header and "," not in header:
            raise ValueError(
                f"{path}: its columns are separated by {name}; separate them by commas (spreadsheet programs call this "
                "CSV, comma delimited)"
            )
