"""Text of fixed columns -> one chain of standard residues, each with N, CA, C and O.

Eight characters of a field are two integers of 32 bits, so that many fields are read at once. Text is ASCII
(:func:`esmgn_core.io.content.plain_text`) here, so sums of the bytes of an integer never carry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA, encode
from esmgn_core.io.residues import STANDARD_NAMES, classify
from esmgn_core.io.table import ResidueTable

Words = NDArray[np.unsignedinteger[Any]]
"""Characters of one field each, the first in the lowest byte."""


def word(text: bytes) -> int:
    """A field as an integer."""
    return int.from_bytes(text, "little")


class Fields(NamedTuple):
    """Fields of eight columns with a point in the fifth: the four before it, and the four from it on."""

    before: Words
    after: Words


_STANDARD_WORDS = np.array(sorted(word(name.encode()) for name in STANDARD_NAMES), dtype=np.uint64)

_letters = "".join(classify(int(name).to_bytes(3, "little").decode(), {})[1] for name in _STANDARD_WORDS)
_STANDARD_TYPES = np.array(encode(_letters), dtype=np.uint8)


def first_atoms(number: Words, name: Words) -> NDArray[np.int64] | None:
    """First atom of each residue, told by its number; ``None`` where a name changes inside a residue."""
    is_start = np.ones(len(number), dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=is_start[1:])
    starts: NDArray[np.int64] = np.flatnonzero(is_start)
    return None if ((name[1:] != name[:-1]) > is_start[1:]).any() else starts


def backbone_atoms(
    names: Words, starts: NDArray[np.int64], wanted: NDArray[np.unsignedinteger[Any]]
) -> NDArray[np.int64] | None:
    """Rows of the atoms ``wanted`` of each residue, [4, n]; ``None`` if they are not there once, in order."""
    is_wanted = names == wanted[0]
    for name in wanted[1:]:
        is_wanted |= names == name
    rows: NDArray[np.int64] = np.flatnonzero(is_wanted)
    if len(rows) != len(wanted) * len(starts):
        return None
    rows = rows.reshape(-1, len(wanted))
    inside = (rows[:, 0] >= starts).all() and (rows[:-1, -1] < starts[1:]).all()
    return np.ascontiguousarray(rows.T) if inside and (names[rows] == wanted).all() else None


def residue_types(names: Words) -> NDArray[np.uint8] | None:
    """Types of residues with these names of three letters, ``None`` if one is not standard."""
    place = np.minimum(np.searchsorted(_STANDARD_WORDS, names), len(_STANDARD_WORDS) - 1)
    return None if (_STANDARD_WORDS[place] != names).any() else _STANDARD_TYPES[place]


def whole_chain(residue_type: NDArray[np.uint8], fields: Fields, chain: str) -> ResidueTable | None:
    """The residues of the chain; ``None`` if numbers do not ascend or all CA atoms are at one place.

    Args:
        residue_type: uint8 [n].
        fields: x, y and z of the four atoms of each residue, [3, 4, n], then residue numbers and B-factors of
            the CA atoms, [n] each, all end to end; known to be numbers.
        chain: its name.
    """
    length = len(residue_type)
    values = thousandths(fields).reshape(-1, length)
    number, b_factor = values[-2] // 1000, (values[-1] / 1000).astype(np.float32)
    if (number[1:] <= number[:-1]).any():
        return None
    backbone = np.empty((length, len(BACKBONE_ATOMS), 3), dtype=np.float32)
    np.divide(values[:-2].reshape(3, -1, length), np.float32(1000), out=backbone.T, dtype=np.float32)
    if (backbone[1:, CA] == backbone[0, CA]).all():  # gemmi's reader refuses atoms without coordinates
        return None
    return ResidueTable.of_standard_chain(residue_type, number, backbone, b_factor, chain)


def joined(position: Fields, numbers: Words, factors: Fields) -> Fields:
    """Coordinates, residue numbers of four characters and B-factors, [n] both, laid end to end."""
    no_decimals = np.full(len(numbers), word(b".000"), dtype=np.uint32)
    return Fields(
        np.concatenate([position.before.ravel(), numbers, factors.before]),
        np.concatenate([position.after.ravel(), no_decimals, factors.after]),
    )


_ZEROS = np.uint32(word(b"0000"))
_NO_DECIMALS = np.uint32(word(b".000"))
_HEADS = tuple(
    np.uint32(word(head) ^ word(b"0" * len(head))) for head in (b" ", b"  ", b"   ", b"-", b" -", b"  -")
)  # what may precede the first digit of a field, each character combined with that of a zero
_ONLY_MINUS = np.uint32(0x0D0D0D0D)  # bits of a minus that a blank has not
_HIGHEST_BITS = np.uint32(0x80808080)


def are_numbers(fields: Fields) -> bool:
    """Whether all fields look like ``'-123.456'``: blanks, a sign, digits, one point before three digits."""
    heads, _ = _digits(fields.before)
    fine = heads == np.uint32(0)
    for head in _HEADS:
        fine |= heads == head
    # The point is zero now, and three characters are 0-9: no byte plus these reaches 128.
    after = fields.after ^ _NO_DECIMALS
    after += np.uint32(0x7676767F)
    return bool(fine.all() and not np.bitwise_or.reduce(after, axis=None) & _HIGHEST_BITS)


def thousandths(fields: Fields) -> NDArray[np.int32]:
    """The numbers of such fields, times thousand."""
    heads, digits = _digits(fields.before)
    value = _four_digits(digits)
    value *= np.uint32(1000)
    value += _four_digits(fields.after ^ _NO_DECIMALS)
    heads &= _ONLY_MINUS
    signed: NDArray[np.int32] = value.view(np.int32)
    return np.negative(signed, out=signed, where=heads != np.uint32(0))


def _digits(before: Words) -> tuple[Words, Words]:
    """Characters that are no digits, and digits as 0-9; zero in the place of the others."""
    digits = before ^ _ZEROS
    heads = digits + np.uint32(0x76767676)
    heads &= _HIGHEST_BITS
    heads >>= np.uint32(7)
    heads *= np.uint32(0xFF)
    heads &= digits
    digits ^= heads
    return heads, digits


def _four_digits(digits: Words) -> Words:
    """The number in each, of four digits; ``digits`` is written over."""
    # The second and the fourth byte become ten times the digit before, plus the digit.
    digits *= np.uint32(10 << 8 | 1)
    digits >>= np.uint32(8)
    digits &= np.uint32(0x00FF00FF)
    digits *= np.uint32(100 << 16 | 1)
    digits >>= np.uint32(16)
    return digits
