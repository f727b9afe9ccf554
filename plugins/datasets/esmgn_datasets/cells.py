"""Reading of tables: rows with their numbers, and checks of single cells."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from esmgn_core.errors import SettingsError
from esmgn_core.printable import counted
from esmgn_core.text import read_text

MISSING = (
    *("NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NULL", "null", "None", "NaN", "nan"),
    *("-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Cells that pandas writes or reads as missing, besides the empty cell."""
_SHOWN = 5
_WIDTH = 40
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        number: row number as in a spreadsheet, where the header is row 1.
        cells: stripped text by column.
    """

    number: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(slots=True)
class Mistakes:
    """Wrong cells of a table, collected to be reported together.

    Attributes:
        table: the file.
        messages: place and reason of each mistake.
    """

    table: Path
    messages: list[str] = field(default_factory=list)

    def add(self, row: Row | int, column: str, reason: str) -> None:
        """Add a wrong cell, or with an empty ``column`` a wrong row, with the reason."""
        number = row.number if isinstance(row, Row) else row
        place = f"row {number}, column '{column}'" if column else f"row {number}"
        self.messages.append(f"{place}: {reason}")

    def check(self) -> None:
        """Raise a :class:`SettingsError` that lists the first mistakes, if there are any."""
        if self.messages:
            more = len(self.messages) - _SHOWN
            raise SettingsError(
                f"{counted(len(self.messages), 'mistake')} in the table {self.table}",
                *self.messages[:_SHOWN],
                *([f"... and {more} more"] if more > 0 else []),
            )


def shown(cell: str) -> str:
    """Quote a cell for a message: shortened, with control characters escaped.

    >>> shown("a" * 50)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    return repr(cell if len(cell) <= _WIDTH else f"{cell[:_WIDTH]}...")


def read_rows(table: Path) -> tuple[list[str], list[Row]]:
    """Read the column names and the non-empty rows of a comma- or tab-separated file.

    Raises:
        SettingsError: the file cannot be read, a column occurs twice, or a row has more or fewer cells
            than the header.
    """
    try:
        text = read_text(table)
        delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise SettingsError(
            f"cannot read the table {table}: {error}", "check for an unclosed quotation mark"
        ) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the table {table}: {error}") from error
    lines = [[cell.strip() for cell in line] for line in lines]
    columns = _without_empty_end(lines[0] if lines else [], 0)
    if repeated := [column for column in columns if column and columns.count(column) > 1]:
        raise SettingsError(f"the table {table} has two columns '{repeated[0]}'", "rename or remove one")
    rows, mistakes = [], Mistakes(table)
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        cells = _without_empty_end(line, len(columns))
        if len(cells) == len(columns):
            rows.append(Row(number, dict(zip(columns, cells, strict=True))))
        else:
            too_many = len(cells) > len(columns)
            hint = "; put quotation marks around a cell that contains the separator" if too_many else ""
            reason = f"{counted(len(cells), 'cell')} under {counted(len(columns), 'column')}{hint}"
            mistakes.add(number, "", reason)
    mistakes.check()
    return columns, rows


def _without_empty_end(cells: list[str], number: int) -> list[str]:
    """Remove the empty cells that spreadsheets append after the first ``number``."""
    while len(cells) > number and not cells[-1]:
        cells = cells[:-1]
    return cells


def number_of(cell: str) -> float:
    """Parse a number: ASCII digits with an optional sign, point and exponent.

    >>> number_of("-1.5e3")
    -1500.0

    Raises:
        ValueError: the cell is not a number, not finite, or not within the range of float32.
    """
    if not _NUMBER.fullmatch(cell):
        infinite = cell.lstrip("+-").lower() in ("inf", "infinity")
        raise ValueError(f"{shown(cell)} is {'infinite' if infinite else 'not a number'}")
    value = float(cell)
    if abs(value) > _LARGEST:
        raise ValueError(f"{shown(cell)} is outside the range of float32 (3.4e38); use another unit")
    if value and not np.float32(value):
        raise ValueError(f"{shown(cell)} is too small for float32 (1e-45); use another unit")
    return value


def is_list(cell: str) -> bool:
    """True if a cell contains a list in the notation of Python or JSON.

    >>> is_list("['a', 'b']"), is_list("[2Fe-2S] cluster")
    (True, False)
    """
    if cell[:1] not in ("[", "(", "{"):
        return False
    try:
        return isinstance(ast.literal_eval(cell), list | tuple | set | dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
