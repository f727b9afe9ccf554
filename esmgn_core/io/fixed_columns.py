"""Read one chain of standard residues, each with N, CA, C and O, from text in fixed columns.

A field of eight characters is read as two integers of 32 bits, the first character in the lowest byte. Each
operation on arrays of such integers then works on the characters of all fields at once. The text is ASCII
(:func:`esmgn_core.io.content.plain_text`): every byte is below 128, so that additions per byte never carry
into the next byte.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA, encode
from esmgn_core.io.residues import STANDARD_NAMES, classify
from esmgn_core.io.table import ResidueTable

Words = NDArray[np.unsignedinteger[Any]]
"""The characters of one field per integer, the first in the lowest byte."""


def word(text: bytes) -> int:
    """Return a field as an integer, the first character in the lowest byte."""
    return int.from_bytes(text, "little")


class Fields(NamedTuple):
    """Fields of eight characters with a point in the fifth: characters 1 to 4, and characters 5 to 8."""

    before: Words
    after: Words


_STANDARD_WORDS = np.array(sorted(word(name.encode()) for name in STANDARD_NAMES), dtype=np.uint64)

_letters = "".join(classify(int(name).to_bytes(3, "little").decode(), {})[1] for name in _STANDARD_WORDS)
_STANDARD_TYPES = np.array(encode(_letters), dtype=np.uint8)


def first_atoms(number: Words, name: Words) -> NDArray[np.int64] | None:
    """Index of the first atom of each residue number; ``None`` if a name changes within a residue."""
    is_start = np.ones(len(number), dtype=np.bool_)
    np.not_equal(number[1:], number[:-1], out=is_start[1:])
    starts: NDArray[np.int64] = np.flatnonzero(is_start)
    return None if ((name[1:] != name[:-1]) > is_start[1:]).any() else starts


def backbone_atoms(
    names: Words, starts: NDArray[np.int64], wanted: NDArray[np.unsignedinteger[Any]]
) -> NDArray[np.int64] | None:
    """Rows of the four ``wanted`` atoms, [4, n]; ``None`` unless each residue has each once, in order."""
    is_wanted = names == wanted[0]
    for name in wanted[1:]:
        is_wanted |= names == name
    rows: NDArray[np.int64] = np.flatnonzero(is_wanted)
    if len(rows) != len(wanted) * len(starts):
        return None
    rows = rows.reshape(-1, len(wanted))
    # There are as many rows as wanted atoms: each group of four is one residue if it lies within it.
    inside = (rows[:, 0] >= starts).all() and (rows[:-1, -1] < starts[1:]).all()
    return np.ascontiguousarray(rows.T) if inside and (names[rows] == wanted).all() else None


def residue_types(names: Words) -> NDArray[np.uint8] | None:
    """Types of residues with these three-letter names; ``None`` if one is not a standard residue."""
    index = np.minimum(np.searchsorted(_STANDARD_WORDS, names), len(_STANDARD_WORDS) - 1)
    return None if (_STANDARD_WORDS[index] != names).any() else _STANDARD_TYPES[index]


def whole_chain(residue_type: NDArray[np.uint8], fields: Fields, chain: str) -> ResidueTable | None:
    """Return the residues of the chain; ``None`` if numbers do not ascend or all CA atoms coincide.

    Args:
        residue_type: uint8 [n].
        fields: concatenated x, y and z of the four atoms of each residue, [3, 4, n], residue numbers [n] and
            B-factors of the CA atoms [n]. They must be numbers, see :func:`are_numbers`.
        chain: name of the chain.
    """
    length = len(residue_type)
    values = thousandths(fields).reshape(-1, length)
    number, b_factor = values[-2] // 1000, (values[-1] / 1000).astype(np.float32)
    if (number[1:] <= number[:-1]).any():
        return None
    backbone = np.empty((length, len(BACKBONE_ATOMS), 3), dtype=np.float32)
    np.divide(values[:-2].reshape(3, -1, length), np.float32(1000), out=backbone.T, dtype=np.float32)
    if (backbone[1:, CA] == backbone[0, CA]).all():  # left to gemmi, whose path refuses them
        return None
    return ResidueTable.of_standard_chain(residue_type, number, backbone, b_factor, chain)


def joined(position: Fields, numbers: Words, factors: Fields) -> Fields:
    """Concatenate coordinates, residue numbers of four characters [n] and B-factors [n]."""
    no_decimals = np.full(len(numbers), word(b".000"), dtype=np.uint32)
    return Fields(
        np.concatenate([position.before.ravel(), numbers, factors.before]),
        np.concatenate([position.after.ravel(), no_decimals, factors.after]),
    )


_ZEROS = np.uint32(word(b"0000"))
_NO_DECIMALS = np.uint32(word(b".000"))
_HEADS = tuple(
    np.uint32(word(head) ^ word(b"0" * len(head))) for head in (b" ", b"  ", b"   ", b"-", b" -", b"  -")
)  # what may precede the first digit, each character XOR that of a zero
_ONLY_MINUS = np.uint32(0x0D0D0D0D)  # "-" XOR "0" is 0x1D and " " XOR "0" is 0x10: the bits only "-" has
_HIGHEST_BITS = np.uint32(0x80808080)


def are_numbers(fields: Fields) -> bool:
    """True if all fields look like ``'-123.456'``: blanks, a minus sign, digits, a point, three digits."""
    heads, _ = _digits(fields.before)
    is_valid = heads == np.uint32(0)
    for head in _HEADS:
        is_valid |= heads == head
    # XOR turns the point into 0 and digits into 0-9. Adding 0x7F to the first byte and 0x76 to the others
    # sets the highest bit of exactly those bytes that are above 0 or 9.
    after = fields.after ^ _NO_DECIMALS
    after += np.uint32(0x7676767F)
    return bool(is_valid.all() and not np.bitwise_or.reduce(after, axis=None) & _HIGHEST_BITS)


def thousandths(fields: Fields) -> NDArray[np.int32]:
    """Return the numbers of valid fields, times 1000."""
    heads, digits = _digits(fields.before)
    value = _four_digits(digits)
    value *= np.uint32(1000)
    value += _four_digits(fields.after ^ _NO_DECIMALS)
    heads &= _ONLY_MINUS
    signed: NDArray[np.int32] = value.view(np.int32)
    return np.negative(signed, out=signed, where=heads != np.uint32(0))


def _digits(before: Words) -> tuple[Words, Words]:
    """Divide each field into the characters that are not digits (XOR "0") and the digits as 0-9.

    A byte is zero in the result it does not belong to.
    """
    digits = before ^ _ZEROS
    heads = digits + np.uint32(0x76767676)  # the highest bit of bytes above 9
    heads &= _HIGHEST_BITS
    heads >>= np.uint32(7)
    heads *= np.uint32(0xFF)  # that bit spread over its whole byte: a mask
    heads &= digits
    digits ^= heads
    return heads, digits


def _four_digits(digits: Words) -> Words:
    """Combine four digits, one per byte, into a number; overwrites ``digits``.

    Two steps of two digits each: bytes a b c d become the 16-bit numbers 10a+b and 10c+d, and these become
    100(10a+b) + 10c+d.
    """
    digits *= np.uint32(10 << 8 | 1)
    digits >>= np.uint32(8)
    digits &= np.uint32(0x00FF00FF)
    digits *= np.uint32(100 << 16 | 1)
    digits >>= np.uint32(16)
    return digits
