"""Columns of the atoms in PDB text, and the text written anew where its chains are to be told apart.

The columns that gemmi reads of an atom's chain are 21 and 22. Where residue names of four letters reach into
column 21, or chains share a name, each chain gets a code of two characters of its own there.
"""

from __future__ import annotations

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
    """The A lines of PDB text that are atoms.

    Attributes:
        text: all characters, uint8.
        start: int64 [A], first character of each line.
        length: int64 [A], characters of each line without its end.
        number: int64 [A], number of the line in the text, from 1.
    """

    text: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    number: NDArray[np.int64]

    @classmethod
    def of(cls, text: bytes) -> AtomLines:
        """The atoms in PDB text.

        Raises:
            UnreadableError: there are none, or coordinates are cut off or not numbers.
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
        whole = self.length > _COORDINATES.max()
        if not whole.all():
            raise UnreadableError(f"line {self.number[~whole][0]} is cut off inside the coordinates")
        fields = self.text[_COORDINATES[..., None] + self.start]
        for field, atom in np.argwhere(~_look_like_numbers(fields)):
            if not _is_number(fields[field, :, atom].tobytes()):
                content = fields[:, :, atom].tobytes().decode("latin-1")
                raise UnreadableError(f"line {self.number[atom]} has no numbers for coordinates: {content!r}")

    def field(self, columns: slice) -> NDArray[np.bytes_]:
        """The characters of some columns, bytes [A], blank where a line is shorter."""
        column = np.arange(columns.start, columns.stop)
        inside = self.length[:, None] > column
        places = np.where(inside, self.start[:, None] + column, 0)
        characters = np.where(inside, self.text[places], np.uint8(_SPACE))
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
    """Bool [3, n]: which fields, characters [3, 8, n], are one run of a sign, digits and one point."""
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
    return b"_" not in field  # Python's own notation


@dataclass(frozen=True, slots=True)
class DividedText:
    """PDB text whose chains have names of their own.

    Attributes:
        text: to be read without regard to TER.
        names: code of a chain in ``text`` -> its name in the file.
        notes: what was divided or guessed, one short sentence each.
    """

    text: bytes
    names: dict[str, str]
    notes: tuple[str, ...]


def divided_text(text: bytes, lines: AtomLines) -> DividedText | None:
    """PDB text with a code for each chain, ``None`` where it would be the same.

    Raises:
        UnreadableError: see :func:`esmgn_core.io.copies.divide`; or there are too many chains.
    """
    atoms, four = _atoms(text, lines)
    division = divide(atoms)
    if not four.is_four.any() and len(set(division.names)) == len(division.names) and not division.notes:
        return None
    if len(division.names) > len(_CODES):
        raise UnreadableError(f"{len(division.names)} chains, more than PDB text can tell apart: write mmCIF")
    written = _written(lines, division, four)
    codes = (code.decode() for code in _CODES)
    names = dict(zip(codes, division.names, strict=False))
    return DividedText(written, names, (*division.notes, *four.notes))


def _atoms(text: bytes, lines: AtomLines) -> tuple[Atoms, FourLetters]:
    coordinates = lines.text[lines.start[:, None] + np.arange(30, 54)].reshape(-1, 8)
    above = lines.field(slice(20, 21))
    atoms = Atoms(
        chain=lines.field(slice(21, 22)),
        part=_terminated(text, lines.start),
        segment=np.char.strip(lines.field(_SEGMENT)),
        number=lines.field(slice(22, 27)),
        residue=lines.field(slice(17, 20)),
        name=np.char.strip(lines.field(slice(12, 16))),
        altloc=np.char.strip(lines.field(slice(16, 17))),
        position=np.ascontiguousarray(coordinates).view("S8")[:, 0].astype(np.float64).reshape(-1, 3),
        is_hetatm=lines.text[lines.start] == ord("H"),
    )
    four = find_four_letters(atoms, above)
    fourth = np.where(four.is_four, above, np.bytes_(b""))
    before = np.where(four.is_four, np.bytes_(b""), above)
    chain = np.char.strip(np.char.add(before, atoms.chain))
    return replace(atoms, chain=chain, residue=np.char.strip(np.char.add(atoms.residue, fourth))), four


def _terminated(text: bytes, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of TER records before each atom, int64 [A]."""
    places, at = [], text.find(b"\nTER")
    while at >= 0:
        places.append(at)
        at = text.find(b"\nTER", at + 1)
    counts: NDArray[np.int64] = np.searchsorted(np.array(places, dtype=np.int64), start)
    return counts


def _written(lines: AtomLines, division: Division, four: FourLetters) -> bytes:
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
