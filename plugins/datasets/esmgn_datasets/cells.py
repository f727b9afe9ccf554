"""Tables of labels: rows with their numbers, and cells that are numbers or unknown."""

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
"""Cells that pandas writes or reads as missing, besides the empty one."""
_SHOWN = 5
_WIDTH = 40
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        number: as spreadsheets count: the header is row 1.
        cells: stripped text by column.
    """

    number: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(slots=True)
class Mistakes:
    """Cells that cannot be used, reported all at once.

    Attributes:
        table: the file they are in.
        found: place and reason of each.
    """

    table: Path
    found: list[str] = field(default_factory=list)

    def add(self, row: Row | int, column: str, reason: str) -> None:
        """Take in a cell, or with an empty ``column`` a row, and why it cannot be used."""
        number = row.number if isinstance(row, Row) else row
        place = f"row {number}, column '{column}'" if column else f"row {number}"
        self.found.append(f"{place}: {reason}")

    def check(self) -> None:
        """Raise a :class:`SettingsError` that lists the first of them, if there are any."""
        if self.found:
            more = len(self.found) - _SHOWN
            raise SettingsError(
                f"{counted(len(self.found), 'mistake')} in the table {self.table}",
                *self.found[:_SHOWN],
                *([f"... and {more} more"] if more > 0 else []),
            )


def shown(cell: str) -> str:
    """A cell in quotation marks, shortened, with control characters escaped.

    >>> shown("a" * 50)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
    """
    return repr(cell if len(cell) <= _WIDTH else f"{cell[:_WIDTH]}...")


def read_rows(table: Path) -> tuple[list[str], list[Row]]:
    """Names of the columns, and all rows with content, of a comma- or tab-separated file.

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
            f"cannot read the table {table}: {error}", "is a quotation mark left open?"
        ) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the table {table}: {error}") from error
    lines = [[cell.strip() for cell in line] for line in lines]
    columns = _without_empty_end(lines[0] if lines else [], 0)
    if twice := [column for column in columns if column and columns.count(column) > 1]:
        raise SettingsError(f"the table {table} has two columns '{twice[0]}'", "rename or remove one")
    rows, mistakes = [], Mistakes(table)
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        cells = _without_empty_end(line, len(columns))
        if len(cells) == len(columns):
            rows.append(Row(number, dict(zip(columns, cells, strict=True))))
        else:
            hint = (
                "; put quotation marks around a cell with the separator in it"
                if cells[len(columns) :]
                else ""
            )
            mistakes.add(
                number, "", f"{counted(len(cells), 'cell')} under {counted(len(columns), 'column')}{hint}"
            )
    mistakes.check()
    return columns, rows


def _without_empty_end(cells: list[str], number: int) -> list[str]:
    """The cells without empty ones after the first ``number``, as spreadsheets append them."""
    while len(cells) > number and not cells[-1]:
        cells = cells[:-1]
    return cells


def number_of(cell: str) -> float:
    """The number in a cell: ASCII digits, with a point and an exponent at will.

    >>> number_of("-1.5e3")
    -1500.0

    Raises:
        ValueError: it is not a number, not finite, or not within the range of float32.
    """
    if not _NUMBER.fullmatch(cell):
        infinite = cell.lstrip("+-").lower() in ("inf", "infinity")
        raise ValueError(f"{shown(cell)} is {'infinite' if infinite else 'not a number'}")
    value = float(cell)
    if abs(value) > _LARGEST:
        raise ValueError(f"{shown(cell)} is beyond the range of float32 (3.4e38); use another unit")
    if value and not np.float32(value):
        raise ValueError(f"{shown(cell)} is too small for float32 (1e-45); use another unit")
    return value


def is_list(cell: str) -> bool:
    """True if a cell holds a list as Python or JSON writes it.

    >>> is_list("['a', 'b']"), is_list("[2Fe-2S] cluster")
    (True, False)
    """
    if cell[:1] not in ("[", "(", "{"):
        return False
    try:
        return isinstance(ast.literal_eval(cell), list | tuple | set | dict)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
