"""Labels of a table: the names of classes or values, and the labels of each row."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from esmgn_core.errors import SettingsError
from esmgn_core.printable import counted
from esmgn_core.text import read_lines
from esmgn_datasets.cells import MISSING, Mistakes, Row, is_list, number_of, shown


class TableLabels:
    """Labels of all rows; wrong cells are added to ``mistakes``.

    Attributes:
        names: names of classes or of values.
        values: for each row its numbers [L], or the numbers of its classes; ``[NaN]`` where these are
            unknown.
        notes: what was counted as unknown, and classes that look alike, one sentence each.

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
            listed = None if classes is None else _listed(classes)
            self._unknown = {cell for cell in MISSING if cell not in (listed or ())}
            cells = [self._classes(row) for row in rows]
            self.names = listed or self._found(rows, cells)
            number = {name: place for place, name in enumerate(self.names)}
            self.values = [
                [math.nan] if found is None else self._numbers(row, found, number, classes)
                for row, found in zip(rows, cells, strict=True)
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
        """Names of the classes in a row; ``None`` where they are unknown."""
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
                f"'{name}' (unknown) stands beside classes; if it is a class, list it in data.classes",
            )
        return names

    def _found(self, rows: Sequence[Row], cells: Sequence[list[str] | None]) -> list[str]:
        """All classes of the rows, sorted; one number written in two ways is a mistake."""
        first: dict[str, Row] = {}
        for row, found in zip(rows, cells, strict=True):
            for name in found or ():
                first.setdefault(name, row)
        names = sorted(first)
        for one, other in _alike(names, _number):
            self._mistakes.add(
                first[other],
                self._column,
                f"{shown(other)} is the same number as {shown(one)} in row {first[one].number}; "
                "write both alike, or list both in data.classes",
            )
        self.notes += [
            f"the classes {shown(one)} and {shown(other)} differ only in case or width"
            for one, other in _alike(names, lambda name: unicodedata.normalize("NFKC", name).casefold())
        ]
        return names

    def _numbers(
        self, row: Row, found: Sequence[str], number: dict[str, int], classes: Path | None
    ) -> list[float]:
        for name in found:
            if name not in number:
                self._mistakes.add(row, self._column, f"{shown(name)} is not in {classes}")
        return [number[name] for name in found if name in number]

    def _note_missing(self, *, classes_given: bool) -> None:
        if not self._missing:
            return
        told = ", ".join(
            f"{number} '{cell}'" if cell else f"{number} empty" for cell, number in self._missing.items()
        )
        hint = ""
        if self._kind in ("classification", "multilabel") and not classes_given and any(self._missing):
            hint = "; if one of them is a class, list all classes in data.classes"
        self.notes.append(f"{counted(self._missing.total(), 'label')} unknown: {told}{hint}")


def _listed(path: Path) -> list[str]:
    try:
        names = [line.strip() for line in read_lines(path) if line.strip()]
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read the file of classes {path}: {error}") from error
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise SettingsError(f"the file of classes {path} lists '{twice[0]}' twice")
    if not names:
        raise SettingsError(f"the file of classes {path} is empty")
    return names


def _alike(names: Iterable[str], key: Callable[[str], object]) -> list[tuple[str, str]]:
    """Pairs of names with the same key, the first of them with each other one; ``None`` is no key."""
    groups: dict[object, list[str]] = defaultdict(list)
    for name in names:
        if (found := key(name)) is not None:
            groups[found].append(name)
    return [(group[0], other) for group in groups.values() for other in group[1:]]


def _number(name: str) -> float | None:
    """The whole number that a name writes, in digits of any script; ``None`` if it writes none.

    Others are not compared: the EC numbers 1.1 and 1.10 are two classes.
    """
    try:
        value = math.nan if "_" in name else float(name)
    except ValueError:
        return None
    return value if value.is_integer() else None
