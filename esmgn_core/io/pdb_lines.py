"""Read the columns of atoms in PDB text, and rewrite the text with a unique name for each chain.

gemmi reads the chain of an atom from columns 21 and 22. If residue names of four letters extend into column
21, or chains share a name, a unique code of two characters for each chain is written to these columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.copies import DROPPED, Atoms, Division, divide
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.four_letters import FourLetters, find_four_letters

_COORDINATES = np.arange(30, 54).reshape(3, 8)  # x, y and z, eight columns each
_SPACE = ord(" ")
_COLUMN_21 = 20
_SEGMENT = slice(72, 76)
_CODES = [bytes((a, b)) for a in range(33, 127) for b in range(33, 127)]


@dataclass(frozen=True, slots=True)
class AtomLines:
    """The A lines of atoms in PDB text.

    Attributes:
        text: all characters, uint8.
        start: int64 [A], offset of each line.
        length: int64 [A], characters of each line without its line end.
        number: int64 [A], line number in the text, from 1.
    """

    text: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, text: bytes) -> AtomLines:
        """Find the atoms in PDB text.

        Raises:
            UnreadableError: there are no atoms, or coordinates are cut off or not numbers.
        """
        characters = np.frombuffer(text, dtype=np.uint8)
        starts = np.concatenate([[0], np.flatnonzero(characters == ord("\n")) + 1])
        lengths = np.diff(starts, append=len(text) + 1) - 1
        named = np.flatnonzero(lengths >= 4)
        records = np.ascontiguousarray(characters[starts[named, None] + np.arange(4)]).view("S4")[:, 0]
        lines = named[(records == b"ATOM") | (records == b"HETA")]
        if not len(lines):
            raise UnreadableError("no ATOM or HETATM record")
        atoms = cls(characters, starts[lines], lengths[lines], lines + 1)
        atoms._check_coordinates()
        return atoms

    def _check_coordinates(self) -> None:
        is_whole = self.length > _COORDINATES.max()
        if not is_whole.all():
            raise UnreadableError(f"line {self.number[~is_whole][0]} is cut off inside the coordinates")
        fields = self.text[_COORDINATES[..., None] + self.start]
        for field, atom in np.argwhere(~_look_like_numbers(fields)):
            if not _is_number(fields[field, :, atom].tobytes()):
                content = fields[:, :, atom].tobytes().decode("latin-1")
                raise UnreadableError(f"line {self.number[atom]}: coordinates are not numbers: {content!r}")

    def field(self, columns: slice) -> NDArray[np.bytes_]:
        """Return the characters of some columns, bytes [A], padded with spaces if a line is shorter."""
        column = np.arange(columns.start, columns.stop)
        inside = self.length[:, None] > column
        offset = np.where(inside, self.start[:, None] + column, 0)
        characters = np.where(inside, self.text[offset], np.uint8(_SPACE))
        return np.ascontiguousarray(characters).view(f"S{len(column)}")[:, 0]

    @property
    def may_hide_chains(self) -> bool:
        """True if column 21 is used, or segment identifiers differ."""
        if (self.text[self.start + _COLUMN_21] != _SPACE).any():
            return True
        with_segment = self.start[self.length >= _SEGMENT.stop]
        if not len(with_segment):
            return False
        segment = self.text[with_segment[:, None] + np.arange(_SEGMENT.start, _SEGMENT.stop)]
        return bool((segment != segment[0]).any()) or (
            len(with_segment) < len(self.start) and bool((segment != _SPACE).any())
        )


def _look_like_numbers(fields: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bool [3, n]: True for fields, characters [3, 8, n], of an optional sign, digits and one point.

    A quick test for the usual case; :func:`_is_number` decides on the other fields.
    """
    filled = fields != ord(" ")
    digit = fields - np.uint8(ord("0")) < 10
    point = fields == ord(".")
    sign = (fields == ord("-")) | (fields == ord("+"))
    begins = filled.copy()
    begins[:, 1:] &= ~filled[:, :-1]
    strange = filled & ~(digit | point | (sign & begins))
    counts = [mark.sum(1, dtype=np.uint8) for mark in (begins, point)]
    looks_good: NDArray[np.bool_] = (counts[0] == 1) & (counts[1] == 1) & digit.any(1) & ~strange.any(1)
    return looks_good


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field  # which only Python allows in numbers


@dataclass(frozen=True, slots=True)
class DividedText:
    """PDB text whose chains have unique codes.

    Attributes:
        text: the text; TER records in it must be ignored.
        names: code of a chain in ``text`` -> its name in the file.
        notes: what was divided or guessed, one short sentence each.
    """

    text: bytes
    names: dict[str, str]
    notes: tuple[str, ...]


def divided_text(text: bytes, lines: AtomLines) -> DividedText | None:
    """Rewrite PDB text with a unique code for each chain; ``None`` if the text needs no change.

    Raises:
        UnreadableError: there are too many chains, or see :func:`esmgn_core.io.copies.divide`.
    """
    atoms, four = _atoms(text, lines)
    division = divide(atoms)
    if not four.is_four.any() and len(set(division.names)) == len(division.names) and not division.notes:
        return None
    if len(division.names) > len(_CODES):
        raise UnreadableError(
            f"{len(division.names)} chains, more than the PDB format allows: convert the file to mmCIF"
        )
    written = _rewrite(lines, division, four)
    codes = (code.decode() for code in _CODES)
    names = dict(zip(codes, division.names, strict=False))
    return DividedText(written, names, (*division.notes, *four.notes))


def _atoms(text: bytes, lines: AtomLines) -> tuple[Atoms, FourLetters]:
    coordinates = lines.text[lines.start[:, None] + np.arange(30, 54)].reshape(-1, 8)
    column21 = lines.field(slice(20, 21))
    atoms = Atoms(
        chain=lines.field(slice(21, 22)),
        part=_count_ter(text, lines.start),
        segment=np.char.strip(lines.field(_SEGMENT)),
        number=lines.field(slice(22, 27)),
        residue=lines.field(slice(17, 20)),
        name=np.char.strip(lines.field(slice(12, 16))),
        altloc=np.char.strip(lines.field(slice(16, 17))),
        position=np.ascontiguousarray(coordinates).view("S8")[:, 0].astype(np.float64).reshape(-1, 3),
        is_hetatm=lines.text[lines.start] == ord("H"),
    )
    four = find_four_letters(atoms, column21)
    fourth = np.where(four.is_four, column21, np.bytes_(b""))
    before = np.where(four.is_four, np.bytes_(b""), column21)
    chain = np.char.strip(np.char.add(before, atoms.chain))
    return replace(atoms, chain=chain, residue=np.char.strip(np.char.add(atoms.residue, fourth))), four


def _count_ter(text: bytes, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of TER records before each atom, int64 [A]."""
    ends = np.array([match.start() for match in re.finditer(rb"\nTER", text)], dtype=np.int64)
    counts: NDArray[np.int64] = np.searchsorted(ends, start)
    return counts


def _rewrite(lines: AtomLines, division: Division, four: FourLetters) -> bytes:
    written = lines.text.copy()
    codes = np.frombuffer(b"".join(_CODES[: len(division.names)]), dtype=np.uint8).reshape(-1, 2)
    written[lines.start[:, None] + np.arange(20, 22)] = codes[division.chain]
    renamed = lines.start[four.is_four]
    parents = np.ascontiguousarray(four.parent[four.is_four].astype("S3")).view(np.uint8).reshape(-1, 3)
    written[renamed[:, None] + np.arange(17, 20)] = parents
    for column in range(_SEGMENT.start, _SEGMENT.stop):
        written[lines.start[lines.length > column] + column] = _SPACE
    dropped = lines.start[division.chain == DROPPED]
    written[dropped[:, None] + np.arange(6)] = np.frombuffer(b"REMARK", dtype=np.uint8)
    return written.tobytes()
