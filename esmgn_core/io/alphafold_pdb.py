"""PDB text whose atoms stand in lines of 80 columns, one chain of standard residues: read by stride.

This is the form of all PDB files of AlphaFold DB. The reader checks everything it relies on and
leaves any other text to gemmi, so that both give the same protein or the same refusal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.io.arrays import NO_CODE, ResidueArrays
from esmgn_core.io.digits import Fields, Words, are_numbers, word
from esmgn_core.io.plddt import pdb_has_plddt
from esmgn_core.io.whole_chain import backbone_atoms, first_atoms, residue_types, short_fields, whole_chain

_LINE = 81
_ATOMS = tuple(np.uint32(word(f" {name:<3}".encode())) for name in BACKBONE_ATOMS)


def read_by_stride(text: bytes, file_name: str) -> ResidueArrays | None:
    """The protein in PDB text of that form, ``None`` for any other text."""
    first = 0 if text.startswith(b"ATOM  ") else text.find(b"\nATOM  ") + 1
    end = text.rfind(b"\nATOM  ") + 1 + _LINE
    num_atoms = (end - first) // _LINE
    if end == _LINE or (end - first) % _LINE or end > len(text):
        return None
    lines = np.frombuffer(text, np.uint8, end - first, first)
    if np.count_nonzero(lines == ord("\n")) != num_atoms or not _alone(text, first, end):
        return None

    def words(column: int, dtype: str = "<u4") -> Words:
        return np.ndarray(num_atoms, dtype, text, first + column, (_LINE,))

    middle = words(16, "<u8").copy()
    if not _same_form(words, middle):
        return None
    number, name = words(22), middle >> np.uint64(8) & np.uint64(0xFFFFFF)
    starts = first_atoms(number, name)
    if starts is None:
        return None
    atoms, residue_type = backbone_atoms(words(12).copy(), starts, _ATOMS), residue_types(name[starts])
    if atoms is None or residue_type is None:
        return None

    def coordinates(column: int) -> Words:
        return np.ndarray((3, num_atoms), "<u4", text, first + column, (8, _LINE)).copy()

    fields = Fields(coordinates(30), coordinates(34))
    short = short_fields(number[starts], _factors(words(59)[atoms[CA]], words(63)[atoms[CA]]))
    if short is None or not are_numbers(fields):
        return None
    return whole_chain(
        residue_type,
        Fields(*(half.take(atoms, axis=1) for half in fields)),
        short,
        chr(text[first + 21]),
        has_plddt=pdb_has_plddt(text[: first + 6], file_name),
    )


def _alone(text: bytes, first: int, end: int) -> bool:
    """Whether nothing before and after the atoms has a say in how they are read."""
    header, rest = text[:first], text[end:]
    models = header.count(b"\nMODEL ") + header.startswith(b"MODEL ")
    several = models > 1 or b"\nMODEL " in rest or rest.count(b"ENDMDL") > 1
    # Records that end the first model early, name parents of residues, or hold further atoms.
    special = (b"HETATM", b"\nMODRES", b"\nEND", b"\nTER", b"\nATOM")
    if several or header.startswith(b"ATOM") or any(record in header for record in special):
        return False
    return not (b"HETATM" in rest or b"\nATOM" in rest or rest.startswith(b"ATOM"))


def _same_form(words: Any, middle: Words) -> bool:
    """One chain, no alternate locations and no insertion codes, every line an ATOM record."""
    record = words(0, "<u8") & np.uint64(0xFFFFFFFFFFFF)
    around_name = middle & np.uint64(0xFFFF000000FF)  # altloc, the column before the chain, the chain
    same = (around_name == around_name[0]).all() and (record == np.uint64(word(b"ATOM  "))).all()
    altloc, before, chain = (int(around_name[0]) >> shift & 0xFF for shift in (0, 32, 40))
    spaces = words(26) == np.uint32(word(b"    "))
    spaces &= words(80, "u1") == np.uint8(ord("\n"))
    return bool(same and altloc == before == NO_CODE < chain and spaces.all())


def _factors(before: Words, after: Words) -> Fields:
    """B-factors, which have six columns and two decimals, in the form of coordinates."""
    return Fields(
        before & np.uint32(0xFFFFFF00) | np.uint32(word(b" ")),
        after & np.uint32(0x00FFFFFF) | np.uint32(word(b"\0\0\0000")),
    )
