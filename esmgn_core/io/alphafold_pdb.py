"""PDB text whose atoms stand in lines of 80 columns, one chain of standard residues: read by stride.

This is the form of all PDB files of AlphaFold DB. The reader checks everything it relies on and
leaves any other text to gemmi, so that both give the same protein or the same refusal. A field of
eight columns is two integers of 32 bits here, and its digits are taken apart by arithmetic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA, encode
from esmgn_core.io.arrays import NO_CODE, ResidueArrays
from esmgn_core.io.plddt import pdb_has_plddt, scale_plddt
from esmgn_core.io.residues import STANDARD_NAMES, classify

_LINE = 81

Words = NDArray[np.unsignedinteger[Any]]


class Fields(NamedTuple):
    """Fields of eight columns with a point in the fifth: the four before it, and the four from it on."""

    before: Words
    after: Words


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


_ATOMS = [np.uint32(_word(f" {name:<3}".encode())) for name in BACKBONE_ATOMS]
_NAMES = np.array(sorted(_word(name.encode()) for name in STANDARD_NAMES), dtype=np.uint64)
_TYPES = np.array(
    encode("".join(classify(int(name).to_bytes(3, "little").decode(), {})[1] for name in _NAMES)), np.uint8
)


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

    def words(column: int, dtype: str = "<u8") -> Words:
        return np.ndarray(num_atoms, dtype, text, first + column, (_LINE,))

    def coordinates(column: int) -> Words:
        return np.ndarray((3, num_atoms), "<u4", text, first + column, (8, _LINE)).copy()

    middle = words(16).copy()
    if not _same_form(words, middle):
        return None
    number, name = words(22, "<u4"), middle >> np.uint64(8) & np.uint64(0xFFFFFF)
    is_start = np.ones(num_atoms, dtype=np.bool_)
    is_start[1:] = number[1:] != number[:-1]
    starts = np.flatnonzero(is_start)
    atoms = _backbone_atoms(words(12, "<u4").copy(), starts)
    if atoms is None or ((name[1:] != name[:-1]) > is_start[1:]).any():
        return None
    names = name[starts]
    place = np.minimum(np.searchsorted(_NAMES, names), len(_NAMES) - 1)
    if (_NAMES[place] != names).any():
        return None

    fields = Fields(*(coordinates(column) for column in (30, 34)))
    short = _short_fields(number[starts], *(words(column, "<u4")[atoms[CA]] for column in (59, 63)))
    if not (_are_numbers(fields) and _are_numbers(short)):
        return None
    backbone = np.empty((len(starts), len(BACKBONE_ATOMS), 3), dtype=np.float32)
    position = _values(Fields(*(half.take(atoms, axis=1) for half in fields)))
    np.divide(position, np.float32(1000), out=backbone.T, dtype=np.float32)
    values = _values(short)
    numbers, b_factor = values[: len(starts)] // 1000, values[len(starts) :]
    if (numbers[1:] <= numbers[:-1]).any():
        return None
    return ResidueArrays(
        residue_type=_TYPES[place],
        backbone=backbone,
        number=numbers,
        insertion_code=np.full(len(starts), NO_CODE, dtype=np.uint8),
        chain=np.zeros(len(starts), dtype=np.int64),
        chains=(chr(text[first + 21]),),
        plddt=_plddt(b_factor) if pdb_has_plddt(text[: first + 6], file_name) else None,
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
    record = words(0) & np.uint64(0xFFFFFFFFFFFF)
    around_name = middle & np.uint64(0xFFFF000000FF)  # altloc, the column before the chain, the chain
    same = (around_name == around_name[0]).all() and (record == np.uint64(_word(b"ATOM  "))).all()
    altloc, before, chain = (int(around_name[0]) >> shift & 0xFF for shift in (0, 32, 40))
    spaces = words(26, "<u4") == np.uint32(_word(b"    "))
    spaces &= words(80, "u1") == np.uint8(ord("\n"))
    return bool(same and altloc == before == NO_CODE < chain and spaces.all())


def _backbone_atoms(names: Words, starts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Rows of the four atoms of each residue, [4, n]; ``None`` if a residue has none or two of one."""
    found = [np.flatnonzero(names == name) for name in _ATOMS]
    if any(len(rows) != len(starts) for rows in found):
        return None
    rows = np.array(found)
    ends = np.append(starts[1:], len(names))
    return rows if (rows >= starts).all() and (rows < ends).all() else None


def _short_fields(numbers: Words, before: Words, after: Words) -> Fields:
    """Residue numbers and then B-factors, which stand in columns 59-66, in the form of coordinates."""
    before = before & np.uint32(0xFFFFFF00) | np.uint32(_word(b" "))
    after = after & np.uint32(0x00FFFFFF) | np.uint32(_word(b"\0\0\0000"))
    no_decimals = np.full(len(numbers), _word(b".000"), dtype=np.uint32)
    return Fields(np.concatenate([numbers, before]), np.concatenate([no_decimals, after]))


def _plddt(thousandths: NDArray[np.int32]) -> NDArray[np.float32] | None:
    return scale_plddt((thousandths / 1000).astype(np.float32))


_ZEROS = np.uint32(_word(b"0000"))
_NO_DECIMALS = np.uint32(_word(b".000"))
_MINUS, _BLANK = _word(b"-") ^ _word(b"0"), _word(b" ") ^ _word(b"0")
_HEADS = (
    *(_BLANK, _BLANK | _BLANK << 8, _BLANK | _BLANK << 8 | _BLANK << 16),
    *(_MINUS, _BLANK | _MINUS << 8, _BLANK | _BLANK << 8 | _MINUS << 16),
)
_ONLY_MINUS = np.uint32(0x0D0D0D0D)  # bits of a minus that a blank has not


def _digits(before: Words) -> tuple[Words, Words]:
    """Characters that are no digits, and digits as 0-9; zero in the place of the others."""
    characters = before ^ _ZEROS
    other = (characters + np.uint32(0x76767676)) & np.uint32(0x80808080)
    heads = (other >> np.uint32(7)) * np.uint32(0xFF) & characters
    return heads, characters ^ heads


def _are_numbers(fields: Fields) -> bool:
    """Whether all fields look like ``'-123.456'``: blanks, a sign, digits, one point before three digits."""
    heads, _ = _digits(fields.before)
    fine = heads == np.uint32(0)
    for head in _HEADS:
        fine |= heads == np.uint32(head)
    # The point is zero now, and three characters are 0-9: no byte plus these reaches 128.
    fine &= ((fields.after ^ _NO_DECIMALS) + np.uint32(0x7676767F)) & np.uint32(0x80808080) == np.uint32(0)
    return bool(fine.all())


def _values(fields: Fields) -> NDArray[np.int32]:
    """The numbers of such fields, in thousandths."""
    heads, before = _digits(fields.before)
    value = _four_digits(before) * np.uint32(1000) + _four_digits(fields.after ^ _NO_DECIMALS)
    is_negative = heads & _ONLY_MINUS != np.uint32(0)
    signed: NDArray[np.int32] = value.view(np.int32)
    return np.negative(signed, out=signed, where=is_negative)


def _four_digits(digits: Words) -> Words:
    pairs = (digits * np.uint32(10) + (digits >> np.uint32(8))) & np.uint32(0x00FF00FF)
    return pairs * np.uint32(100) + (pairs >> np.uint32(16)) & np.uint32(0xFFFF)
