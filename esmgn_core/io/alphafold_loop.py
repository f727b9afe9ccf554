"""The lines of an AlphaFold PDB file in one compiled loop: what arrays give, in a third of the time.

Importing this needs numba (the extra ``fast``); the first call compiles, or loads what was compiled before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import CA
from esmgn_core.io.alphafold_pdb import AROUND_NAME, ATOM_NAMES, WIDTH
from esmgn_core.io.digits import HEADS, word
from esmgn_core.io.whole_chain import STANDARD_TYPES, STANDARD_WORDS, WholeChain

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        return numba.njit()(function)


_COLUMNS = np.dtype(
    {
        "names": ["record", "atom", "middle", "number", "code", "x", "y", "z", "b_factor", "end"],
        "formats": ["<u8", "<u4", "<u8", "<u4", "<u4", "<u8", "<u8", "<u8", "<u8", "u1"],
        "offsets": [0, 12, 16, 22, 26, 30, 38, 46, 59, 80],
        "itemsize": WIDTH,
    }
)
# "middle" is the altloc, the residue name, a space, the chain, and the first half of the residue number.


class Known(NamedTuple):
    """What the loop knows of proteins.

    Attributes:
        atoms: names of the backbone atoms, in order.
        ca: which of them is CA.
        names: of the standard residues, uint64 [20].
        types: theirs, uint8 [20].
    """

    atoms: tuple[np.uint32, ...]
    ca: int
    names: NDArray[np.unsignedinteger[Any]]
    types: NDArray[np.uint8]


def read_lines(text: bytes, first: int, num_atoms: int) -> WholeChain | None:
    """The chain in the lines from ``first`` on; ``None`` if one is not of the expected form."""
    lines = np.frombuffer(text, _COLUMNS, num_atoms, first)
    if not _same_form(lines, np.frombuffer(text, np.uint8, num_atoms * WIDTH, first)):
        return None
    room = num_atoms // len(ATOM_NAMES)
    residue_type, number = np.empty(room, dtype=np.uint8), np.empty(room, dtype=np.int32)
    backbone = np.empty((room, len(ATOM_NAMES), 3), dtype=np.float32)
    b_factor = np.empty(room, dtype=np.float32)
    # What other modules say is passed, not compiled in: what is kept on disk knows of changes here only.
    known = Known(tuple(ATOM_NAMES), CA, STANDARD_WORDS, STANDARD_TYPES)
    length = _fill(lines, known, residue_type, number, backbone, b_factor)
    if not length or np.isnan(b_factor[:length]).any():
        return None
    return WholeChain(residue_type[:length], number[:length], backbone[:length], b_factor[:length])


_SPACE, _NEWLINE = np.uint8(ord(" ")), np.uint8(ord("\n"))
_ATOM, _SIX_BYTES = np.uint64(word(b"ATOM  ")), np.uint64(0xFFFFFFFFFFFF)
_NO_CODE = np.uint32(word(b"    "))


@_compiled
def _same_form(lines: NDArray[Any], characters: NDArray[np.uint8]) -> bool:
    """One chain, no alternate locations and no insertion codes, every line an ATOM record."""
    num_breaks = 0
    for character in characters:
        num_breaks += character <= _NEWLINE
    altloc, before, chain = characters[16], characters[20], characters[21]
    same = num_breaks == len(lines) and altloc == _SPACE and before == _SPACE and chain > _SPACE
    around_name = lines[0].middle & AROUND_NAME
    for line in lines:
        same &= line.record & _SIX_BYTES == _ATOM and line.middle & AROUND_NAME == around_name
        same &= line.code == _NO_CODE and line.end == _NEWLINE
    return same


_BYTE, _THREE_BYTES = np.uint64(8), np.uint64(0xFFFFFF)
_NO_DECIMALS = np.uint64(word(b".000"))
_FACTOR, _AROUND_FACTOR = np.uint64(0x00FFFFFFFFFFFF00), np.uint64(word(b" \0\0\0\0\0\0000"))


@_compiled
def _fill(
    lines: NDArray[Any],
    known: Known,
    residue_type: NDArray[np.uint8],
    number: NDArray[np.int32],
    backbone: NDArray[np.float32],
    b_factor: NDArray[np.float32],
) -> int:
    """Fill the columns of a chain; its length, or 0 if an atom is missing or a coordinate no number."""
    row = -1
    found = len(known.atoms)  # backbone atoms of the residue in hand
    for at in range(len(lines)):
        line = lines[at]
        if at == 0 or line.number != lines[at - 1].number:
            row += 1
            if found != len(known.atoms) or not _begin(line, row, known, residue_type, number):
                return 0
            found = 0
        elif line.middle != lines[at - 1].middle:
            return 0
        position = _thousandths(line.x), _thousandths(line.y), _thousandths(line.z)
        if min(position) == _NONE:
            return 0
        kind = _index(known.atoms, line.atom)
        if kind == len(known.atoms):
            continue
        if kind != found:  # there already, or not in order
            return 0
        found += 1
        for axis in range(3):
            backbone[row, kind, axis] = np.float32(position[axis]) / np.float32(1000)
        if kind == known.ca:
            b_factor[row] = _b_factor(line)
    return row + 1 if found == len(known.atoms) else 0


@_compiled
def _begin(
    line: Any, row: int, known: Known, residue_type: NDArray[np.uint8], number: NDArray[np.int32]
) -> bool:
    """Note type and number of a residue by its first line, if it is a standard one and numbers ascend."""
    kind = _index(known.names, line.middle >> _BYTE & _THREE_BYTES)
    value = _thousandths(np.uint64(line.number) | _NO_DECIMALS << _FOUR_BYTES)
    if row == len(number) or kind == len(known.names) or value == _NONE:
        return False
    residue_type[row], number[row] = known.types[kind], value // 1000
    return row == 0 or number[row] > number[row - 1]


@_compiled
def _b_factor(line: Any) -> float:
    """The B-factor, of six columns and two decimals; NaN if it is no number."""
    value = _thousandths(line.b_factor & _FACTOR | _AROUND_FACTOR)
    return np.nan if value == _NONE else value / 1000


@_compiled
def _index(words: Any, wanted: Any) -> int:
    """The place of ``wanted``; the number of words if it is none of them."""
    place = 0
    while place < len(words) and words[place] != wanted:
        place += 1
    return place


_NONE = -(2**31)
_ZEROS = np.uint64(word(b"0000.000"))
_TO_HIGHEST, _HIGHEST = np.uint64(0x7676767F76767676), np.uint64(0x8080808080808080)
_SEVEN, _ALL_BITS = np.uint64(7), np.uint64(0xFF)
_HEADS = tuple(map(np.uint64, (0, *HEADS)))
_MINUS = np.uint64(0x0D0D0D0D)
_BEFORE, _AFTER = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFF0000000000)
_TEN, _HUNDRED, _MYRIAD = np.uint64(10), np.uint64(100), np.uint64(10_000)
_TWO_BYTES, _FOUR_BYTES = np.uint64(16), np.uint64(32)
_PAIRS, _QUADS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)


@_compiled
def _thousandths(field: Any) -> int:
    """A number of eight columns, ``'-123.456'``, times thousand; for anything else ``_NONE``."""
    characters = field ^ _ZEROS
    heads = ((characters + _TO_HIGHEST & _HIGHEST) >> _SEVEN) * _ALL_BITS & characters
    is_number = False
    for head in _HEADS:
        is_number |= heads == head
    if not is_number:
        return _NONE
    digits = characters ^ heads
    digits = (digits & _BEFORE) << _BYTE | digits & _AFTER  # without the point
    digits = digits * _TEN + (digits >> _BYTE) & _PAIRS
    digits = digits * _HUNDRED + (digits >> _TWO_BYTES) & _QUADS
    value: int = np.int64(digits * _MYRIAD + (digits >> _FOUR_BYTES) & _BEFORE)  # type: ignore[assignment]
    return -value if heads & _MINUS else value
