"""Numbers in text of fixed columns, many at once: eight characters are two integers of 32 bits.

Text is ASCII here (:func:`esmgn_core.io.content.plain_text`), so sums of the bytes of an integer never carry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.unsignedinteger[Any]]
"""Characters of one field each, the first in the lowest byte."""


def word(text: bytes) -> int:
    """A field as an integer."""
    return int.from_bytes(text, "little")


class Fields(NamedTuple):
    """Fields of eight columns with a point in the fifth: the four before it, and the four from it on."""

    before: Words
    after: Words


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
