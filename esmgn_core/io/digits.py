"""Numbers in text of fixed columns, many at once: eight characters are two integers of 32 bits.

Text is ASCII here, so that sums of the bytes of an integer never carry.
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


def are_numbers(fields: Fields) -> bool:
    """Whether all fields look like ``'-123.456'``: blanks, a sign, digits, one point before three digits."""
    heads, _ = _digits(fields.before)
    fine = heads == np.uint32(0)
    for head in _HEADS:
        fine |= heads == np.uint32(head)
    # The point is zero now, and three characters are 0-9: no byte plus these reaches 128.
    fine &= ((fields.after ^ _NO_DECIMALS) + np.uint32(0x7676767F)) & np.uint32(0x80808080) == np.uint32(0)
    return bool(fine.all())


def thousandths(fields: Fields) -> NDArray[np.int32]:
    """The numbers of such fields, times thousand."""
    heads, before = _digits(fields.before)
    value = _four_digits(before) * np.uint32(1000) + _four_digits(fields.after ^ _NO_DECIMALS)
    is_negative = heads & _ONLY_MINUS != np.uint32(0)
    signed: NDArray[np.int32] = value.view(np.int32)
    return np.negative(signed, out=signed, where=is_negative)


_ZEROS = np.uint32(word(b"0000"))
_NO_DECIMALS = np.uint32(word(b".000"))
_MINUS, _BLANK = word(b"-") ^ word(b"0"), word(b" ") ^ word(b"0")
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


def _four_digits(digits: Words) -> Words:
    pairs = (digits * np.uint32(10) + (digits >> np.uint32(8))) & np.uint32(0x00FF00FF)
    return pairs * np.uint32(100) + (pairs >> np.uint32(16)) & np.uint32(0xFFFF)
