"""Fast reader of PDB text with lines of 80 columns and one chain of standard residues.

All PDB files of AlphaFold DB have this form. Since all lines have one length, a column is a strided view of
the text. The reader checks everything it relies on and leaves any other text to gemmi, so that both readers
give the same protein or the same error.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.io.fixed_columns import (
    Fields,
    Words,
    are_numbers,
    backbone_atoms,
    first_atoms,
    joined,
    residue_types,
    whole_chain,
    word,
)
from esmgn_core.io.table import NO_CODE, ResidueTable

_WIDTH = 81  # characters of a line with its line end
_ATOM_NAMES = np.array([word(f" {name:<3}".encode()) for name in BACKBONE_ATOMS], dtype=np.uint32)
_AROUND_NAME = np.uint64(0xFFFF000000FF)  # in columns 17 to 24: altloc, column 21, chain

_RECORD, _SPACES = np.uint64(word(b"ATOM  \0\0")), np.uint32(word(b"    "))
_NEWLINE = np.uint8(ord("\n"))
_AFFECTS_PARSING = re.compile(rb"\n(?i:model|modres|end|ter|atom|heta|anis|dbref[12]|data_)[^\n]?")
_TAIL = {b"", b"TER", b"ENDMDL", b"END", b"CONECT", b"MASTER"}


def read_by_stride(text: bytes, header: bytes) -> ResidueTable | None:
    """Read PDB text of this form; ``None`` for any other text.

    Args:
        text: the file.
        header: see :func:`esmgn_core.io.plddt.pdb_header`.
    """
    first = text.find(b"ATOM  ", len(header) - 1, len(header) + 6)
    end = text.rfind(b"\nATOM  ") + 1 + _WIDTH
    num_atoms = (end - first) // _WIDTH
    if first < 0 or num_atoms < 2 or (end - first) % _WIDTH or end > len(text):
        return None
    return _read_lines(text, first, num_atoms) if _has_neutral_ends(header, text[end:]) else None


def _has_neutral_ends(header: bytes, rest: bytes) -> bool:
    """True if the records before and after the atoms do not affect parsing.

    The records that do affect it end the first model early, name parents of residues, contain more atoms, or
    make gemmi refuse the file.
    """
    if _AFFECTS_PARSING.findall(header) not in ([], [b"\nMODEL "]):
        return False
    return {line[:6].rstrip() for line in rest.split(b"\n")} <= _TAIL and rest.count(b"ENDMDL") <= 1


def _read_lines(text: bytes, first: int, num_atoms: int) -> ResidueTable | None:
    """Read the chain in the lines from ``first`` on; ``None`` if a line has another form."""

    def words(column: int, dtype: str = "<u4") -> Words:
        return np.ndarray(num_atoms, dtype, text, first + column, (_WIDTH,))

    middle = words(16, "<u8").copy()  # columns 17 to 24: altloc, residue name, chain, residue number
    if not _same_form(np.frombuffer(text, np.uint8, num_atoms * _WIDTH, first), words, middle):
        return None
    number = words(22).copy()
    starts = first_atoms(number, middle)
    if starts is None:
        return None
    atoms = backbone_atoms(words(12).copy(), starts, _ATOM_NAMES)
    residue_type = residue_types(middle[starts] >> np.uint64(8) & np.uint64(0xFFFFFF))
    if atoms is None or residue_type is None:
        return None

    def coordinates(column: int) -> Words:
        return np.ndarray((3, num_atoms), "<u4", text, first + column, (8, _WIDTH))

    factors = _factors(words(59)[atoms[CA]], words(63)[atoms[CA]])
    fields = joined(Fields(coordinates(30), coordinates(34)), number[starts], factors)
    if not are_numbers(fields):
        return None

    def kept(half: Words) -> Words:
        position = half[: 3 * num_atoms].reshape(3, num_atoms).take(atoms, axis=1)
        return np.append(position, half[3 * num_atoms :])

    return whole_chain(residue_type, Fields(*map(kept, fields)), chr(text[first + 21]))


def _same_form(characters: NDArray[np.uint8], words: Callable[..., Words], middle: Words) -> bool:
    """True if all lines are ATOM records of one chain and segment, without altlocs and insertion codes.

    Lines are compared by bit reductions: the OR of all ``a ^ b`` is zero if all equal b, and OR ^ AND has the
    bits that differ between any two.
    """
    differs = np.bitwise_or.reduce(words(0, "<u8") ^ _RECORD) & np.uint64(0xFFFFFFFFFFFF)
    if differs or np.bitwise_or.reduce(words(26) ^ _SPACES) or (words(80, "u1") != _NEWLINE).any():
        return False
    segment = words(72)
    if np.bitwise_or.reduce(segment ^ segment[0]):
        return False
    if characters.reshape(-1, _WIDTH)[:, :-1].min() <= _NEWLINE:  # a line end within a line
        return False
    same = (np.bitwise_or.reduce(middle) ^ np.bitwise_and.reduce(middle)) & _AROUND_NAME
    altloc, before, chain = (int(middle[0]) >> shift & 0xFF for shift in (0, 32, 40))
    return not same and altloc == before == NO_CODE < chain


def _factors(before: Words, after: Words) -> Fields:
    """Bring B-factors, of six columns with two decimals, into the form of coordinates."""
    return Fields(
        before & np.uint32(0xFFFFFF00) | np.uint32(word(b" ")),
        after & np.uint32(0x00FFFFFF) | np.uint32(word(b"\0\0\0000")),
    )
