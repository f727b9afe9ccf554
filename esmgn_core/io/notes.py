"""Notes of readers on what they dropped, divided or guessed, and how they are grouped for display."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from esmgn_core.printable import counted

_NUMBER = re.compile(r"\d+")
_SHOWN = 3


def not_read(items: str, count: int) -> str:
    """Return the note that ``count`` items of a file were not read."""
    return f"{items} were not read: {count}"


def group_notes(noted: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Group notes by kind, one line each, the most frequent first.

    Notes that differ only in their numbers are of one kind. The line gives the lowest and highest number.

    Args:
        noted: pairs of a file or protein name and its notes.

    >>> group_notes([("a.pdb", ["residues after END were not read: 10"])])
    ['a.pdb: residues after END were not read: 10']
    >>> group_notes([(name, [f"models: {n}"]) for n, name in enumerate(["a", "b", "c", "d"], 2)])
    ['4 files: models: 2 to 5 (a, b, c, ...)']
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, notes in noted:
        for note in notes:
            kinds.setdefault(_NUMBER.sub("#", note), []).append((name, note))
    return [_line(group) for group in sorted(kinds.values(), key=len, reverse=True)]


def _line(group: Sequence[tuple[str, str]]) -> str:
    names = list(dict.fromkeys(name for name, _ in group))
    note = _with_ranges([note for _, note in group])
    if len(names) == 1:
        return f"{names[0]}: {note}"
    shown = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
    return f"{counted(len(names), 'file')}: {note} ({shown})"


def _with_ranges(notes: Sequence[str]) -> str:
    """Return the first note, with a range in place of each number that differs between ``notes``."""
    columns = list(zip(*([int(number) for number in _NUMBER.findall(note)] for note in notes), strict=True))
    ranges = iter([str(min(c)) if min(c) == max(c) else f"{min(c)} to {max(c)}" for c in columns])
    return _NUMBER.sub(lambda _: next(ranges), notes[0])
