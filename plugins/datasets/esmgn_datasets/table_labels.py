"""Labels of a table: names of classes or values, and the label of each row."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from esmgn_core.errors import SettingsError
from esmgn_core.printable import counted
from esmgn_core.text import read_lines
from esmgn_datasets.cells import MISSING, Mistakes, Row, is_list, number_of, shown


class TableLabels:
    """Labels of all rows. Wrong cells are added to ``mistakes``.

    Args:
        rows: the rows to use.
        mistakes: receives the wrong cells.
        kind: ``data.kind``.
        columns: columns of labels; one, except for ``regression`` and ``pairs``.
        separator: text between the classes of a cell.
        classes: file of class names; ``None`` for the classes that occur, sorted.

    Attributes:
        names: names of classes or of values.
        values: for each row L numbers, or the numbers of its classes; ``[NaN]`` if these are unknown.
        notes: unknown labels, and classes whose names differ only in case, one sentence each.

    Raises:
        SettingsError: the file of classes cannot be read or lists a class twice.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        mistakes: Mistakes,
        *,
        kind: str,
        columns: Sequence[str],
        separator: str = ",",
        classes: Path | None = None,
    ) -> None:
        self._mistakes, self._kind, self._separator = mistakes, kind, separator
        self._missing: Counter[str] = Counter()
        self.notes: list[str] = []
        if kind in ("regression", "pairs"):
            self.names = list(columns)
            self.values = [[self._value(row, column) for column in columns] for row in rows]
        else:
            self._column = columns[0]
            listed = [] if classes is None else _read_class_names(classes)
            # A listed class may have the name of a missing value, such as NA or None.
            self._unknown = set(MISSING).difference(listed)
            cells = [self._classes(row) for row in rows]
            self.names = listed or self._collect_names(rows, cells)
            number = {name: index for index, name in enumerate(self.names)}
            self.values = [
                [math.nan] if names is None else self._numbers(row, names, number, classes)
                for row, names in zip(rows, cells, strict=True)
            ]
        self._note_missing(classes_given=classes is not None)

    def _value(self, row: Row, column: str) -> float:
        cell = row[column]
        if not cell or cell in MISSING:
            self._missing[cell] += 1
            return math.nan
        try:
            value = number_of(cell)
        except ValueError as error:
            self._mistakes.add(row, column, str(error))
            return math.nan
        if self._kind == "pairs" and value not in (0, 1):
            self._mistakes.add(row, column, f"{shown(cell)} is not 1 or 0")
        return value

    def _classes(self, row: Row) -> list[str] | None:
        """Names of the classes in a row; ``None`` if they are unknown."""
        cell = row[self._column]
        if cell in self._unknown or (not cell and self._kind == "classification"):
            self._missing[cell] += 1
            return None
        if is_list(cell):
            self._mistakes.add(
                row,
                self._column,
                f"{shown(cell)} is a list in the notation of Python; write a{self._separator}b instead",
            )
            return None
        if self._kind == "classification":
            return [cell]
        names = [name.strip() for name in cell.split(self._separator) if name.strip()]
        for name in self._unknown.intersection(names):
            self._mistakes.add(
                row,
                self._column,
                f"'{name}' (unknown) is next to classes; if it is a class, list it in data.classes",
            )
        return names

    def _collect_names(self, rows: Sequence[Row], cells: Sequence[list[str] | None]) -> list[str]:
        """All classes of the rows, sorted. A number written in two ways is a mistake."""
        first_row: dict[str, Row] = {}
        for row, classes in zip(rows, cells, strict=True):
            for name in classes or ():
                first_row.setdefault(name, row)
        names = sorted(first_row)
        for first, second in _pairs_with_equal_keys(names, _whole_number):
            self._mistakes.add(
                first_row[second],
                self._column,
                f"{shown(second)} is the same number as {shown(first)} in row {first_row[first].number}; "
                "write both alike, or list both in data.classes",
            )
        self.notes += [
            f"the classes {shown(first)} and {shown(second)} differ only in case or width"
            for first, second in _pairs_with_equal_keys(names, _without_case)
        ]
        return names

    def _numbers(
        self, row: Row, names: Sequence[str], number: dict[str, int], classes: Path | None
    ) -> list[float]:
        for name in names:
            if name not in number:
                self._mistakes.add(row, self._column, f"{shown(name)} is not in {classes}")
        return [number[name] for name in names if name in number]

    def _note_missing(self, *, classes_given: bool) -> None:
        if not self._missing:
            return
        cells = ", ".join(
            f"{number} '{cell}'" if cell else f"{number} empty" for cell, number in self._missing.items()
        )
        hint = ""
        if self._kind in ("classification", "multilabel") and not classes_given and any(self._missing):
            hint = "; if one of them is a class, list all classes in data.classes"
        self.notes.append(f"{counted(self._missing.total(), 'label')} unknown: {cells}{hint}")


def _read_class_names(path: Path) -> list[str]:
    try:
        names = [line.strip() for line in read_lines(path) if line.strip()]
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the file of classes {path}: {error}") from error
    if repeated := [name for name, number in Counter(names).items() if number > 1]:
        raise SettingsError(f"the file of classes {path} lists '{repeated[0]}' twice")
    if not names:
        raise SettingsError(f"the file of classes {path} is empty")
    return names


def _pairs_with_equal_keys(names: Iterable[str], key: Callable[[str], object]) -> Iterator[tuple[str, str]]:
    """The first name of each key with every later one. Names with the key ``None`` are left out."""
    first: dict[object, str] = {}
    for name in names:
        value = key(name)
        if value is not None and first.setdefault(value, name) != name:
            yield first[value], name


def _without_case(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _whole_number(name: str) -> float | None:
    """The whole number that a name is, in digits of any script, else ``None``.

    Other numbers are not compared: the EC numbers 1.1 and 1.10 are two classes.
    """
    try:
        value = math.nan if "_" in name else float(name)
    except ValueError:
        return None
    return value if value.is_integer() else None
