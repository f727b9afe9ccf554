"""PDB text whose atoms stand in lines of 80 columns, one chain of standard residues: read by stride.

This is the form of all PDB files of AlphaFold DB. The reader checks everything it relies on and
leaves any other text to gemmi, so that both give the same protein or the same refusal. A field of
eight columns is one integer of 64 bits here, and its digits are taken apart by arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA, encode
from esmgn_core.io.arrays import NO_CODE, ResidueArrays
from esmgn_core.io.plddt import pdb_has_plddt, scale_plddt
from esmgn_core.io.residues import STANDARD_NAMES, classify

_LINE = 81

Words = NDArray[np.unsignedinteger[Any]]


def _word(text: bytes) -> int:
    return int.from_bytes(text, "little")


_SLOTS = {_word(f" {name:<3}".encode()): slot for slot, name in enumerate(BACKBONE_ATOMS)}
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
    if text.count(b"\n", first, end) != num_atoms or not _alone(text, first, end):
        return None

    def words(column: int, dtype: str = "<u8") -> Words:
        return np.ndarray(num_atoms, dtype, text, first + column, (_LINE,))

    middle = words(16)
    if not _same_form(words, middle):
        return None
    coordinates = np.ndarray((3, num_atoms), "<u8", text, first + 30, (8, _LINE))
    number, name = words(22, "<u4"), middle >> np.uint64(8) & np.uint64(0xFFFFFF)
    starts = np.flatnonzero(number[1:] != number[:-1]) + 1
    if not _are_numbers(coordinates) or (np.delete(name[1:] != name[:-1], starts - 1)).any():
        return None
    starts = np.concatenate([[0], starts])
    slot = _slots(words(12, "<u4"))
    atoms = np.flatnonzero(slot >= 0)
    residue = np.searchsorted(starts, atoms, side="right") - 1
    filled = np.zeros((len(starts), len(BACKBONE_ATOMS)), dtype=np.bool_)
    filled[residue, slot[atoms]] = True
    if filled.sum() != len(atoms) or not filled[:, CA].all() or len(atoms) == len(starts):
        return None

    numbers = number[starts].astype(np.uint64) | np.uint64(_word(b"\0\0\0\0.000"))
    place = np.minimum(np.searchsorted(_NAMES, name[starts]), len(_NAMES) - 1)
    factors = words(59)[atoms[slot[atoms] == CA]] & np.uint64(0x00FFFFFFFFFFFF00) | np.uint64(
        _word(b" \0\0\0\0\0\0000")
    )
    if not (_are_numbers(numbers) and _are_numbers(factors) and (_NAMES[place] == name[starts]).all()):
        return None
    values = _values(numbers) // 1000
    if (values[1:] <= values[:-1]).any():
        return None
    backbone = np.full((*filled.shape, 3), np.nan, dtype=np.float32)
    backbone[residue, slot[atoms]] = (_values(coordinates[:, atoms]).astype(np.float32) / np.float32(1000)).T
    b_factor = (_values(factors) / 1000).astype(np.float32)
    return ResidueArrays(
        residue_type=_TYPES[place],
        backbone=backbone,
        number=values.astype(np.int32),
        insertion_code=np.full(len(starts), NO_CODE, dtype=np.uint8),
        chain=np.zeros(len(starts), dtype=np.int64),
        chains=(chr(text[first + 21]),),
        plddt=scale_plddt(b_factor) if pdb_has_plddt(text[: first + 6], file_name) else None,
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


def _slots(names: Words) -> NDArray[np.int64]:
    slot = np.full(len(names), -1)
    for name, index in _SLOTS.items():
        slot[names == np.uint32(name)] = index
    return slot


_ZEROS = np.uint64(_word(b"0000.000"))
_MINUS, _BLANK = _word(b"-") ^ _word(b"0"), _word(b" ") ^ _word(b"0")
_NEGATIVE_HEADS = (_MINUS, _BLANK | _MINUS << 8, _BLANK | _BLANK << 8 | _MINUS << 16)
_POSITIVE_HEADS = (0, _BLANK, _BLANK | _BLANK << 8, _BLANK | _BLANK << 8 | _BLANK << 16)


def _heads(fields: Words) -> tuple[Words, Words]:
    """The characters of each field with digits as 0-9, and of those the ones that are no digits."""
    digits = fields ^ _ZEROS
    other = (digits + np.uint64(0x7676767676767676)) & np.uint64(0x8080808080808080)
    return digits, digits & (other >> np.uint64(7)) * np.uint64(0xFF)


def _are_numbers(fields: Words) -> bool:
    """Whether all fields look like ``'-123.456'``: blanks, a sign, digits, one point before three digits."""
    digits, heads = _heads(fields)
    fine = heads == np.uint64(0)
    for head in (*_POSITIVE_HEADS[1:], *_NEGATIVE_HEADS):
        fine |= heads == np.uint64(head)
    points = digits & np.uint64(0xFF << 32) == np.uint64(0)
    return bool((fine & points).all())


def _values(fields: Words) -> NDArray[np.int64]:
    """The numbers of such fields, in thousandths."""
    digits, heads = _heads(fields)
    digits ^= heads
    negative = heads == np.uint64(_NEGATIVE_HEADS[0])
    for head in _NEGATIVE_HEADS[1:]:
        negative |= heads == np.uint64(head)
    pairs = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    fours = pairs * np.uint64(100) + (pairs >> np.uint64(16))
    before, after = fours & np.uint64(0xFFFF), fours >> np.uint64(32) & np.uint64(0xFFFF)
    value = (before * np.uint64(1000) + after).astype(np.int64)
    return np.where(negative, -value, value)
