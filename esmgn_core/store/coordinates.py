"""Coordinates as whole thousandths of an angstrom in 16 bits, each row readable without its neighbours.

The residues of a protein are cut into blocks of 24. A block has an origin of 32 bits, and an atom is the
offset from it. Offsets reach 32.766 angstrom to each side, which holds 24 residues of nearly every chain; an
atom further off (a stretched chain, another chain far away) escapes: its coordinates stand in a list of
their own. Files give three decimals, so this loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

BLOCK = 24
"""Residues that share an origin."""

_AT_ONCE = 128  # blocks decoded together, in the processor's cache
_LARGEST = 32766
_ESCAPED = -32767
_MISSING = -32768
_UNIT = np.float32(1000)
_MAX_ORIGIN = 2**31 - 2**16
_EXACT = 2**23


@dataclass(frozen=True, slots=True)
class Fixed:
    """R residues of some proteins, ``a`` atoms each.

    Attributes:
        offset: int16 [R, a, 3], from the origin of the block, in 0.001 angstrom; x is -32768 where the atom
            is missing, -32767 where it escapes.
        origin: int32 [K, 3], in 0.001 angstrom.
        escape_atom: int64 [E], ascending positions among all R x a atoms.
        escape_position: float32 [E, 3], in angstrom.
    """

    offset: NDArray[np.int16]
    origin: NDArray[np.int32]
    escape_atom: NDArray[np.int64]
    escape_position: NDArray[np.float32]


def num_blocks(lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Blocks of proteins with these lengths, int64 [P]."""
    return -(-lengths.astype(np.int64) // BLOCK)


def encode(position: NDArray[np.float32], lengths: NDArray[np.int64]) -> Fixed:
    """Encode proteins laid end to end.

    Args:
        position: float32 [R, a, 3] in angstrom, NaN where an atom is missing.
        lengths: int64 [P], residues of each protein.
    """
    blocks = num_blocks(lengths)
    ends = np.cumsum(lengths)
    within = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    starts = np.repeat(ends - lengths, blocks) + within * BLOCK
    block = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(position)))

    present = cast("NDArray[np.bool_]", np.isfinite(position).all(-1))
    unit = np.rint(position * np.float64(_UNIT))
    origin = _origins(np.where(present[..., None], unit, np.nan), starts)
    offset = unit - origin[block][:, None]
    fits = present & (np.abs(offset) <= _LARGEST).all(-1)
    offset[~fits] = 0
    packed = offset.astype(np.int16)
    packed[~present, 0] = _MISSING
    packed[present & ~fits, 0] = _ESCAPED
    escapes = np.flatnonzero(present & ~fits)
    return Fixed(packed, origin, escapes, position.reshape(-1, 3)[escapes])


def _origins(unit: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int32]:
    """int32 [K, 3]: the middle of each block, or the median atom of one that is too large."""
    low = np.fmin.reduceat(np.fmin.reduce(unit, axis=1), starts)
    high = np.fmax.reduceat(np.fmax.reduce(unit, axis=1), starts)
    origin = np.rint((low + high) / 2)
    ends = np.append(starts[1:], len(unit))
    for large in np.flatnonzero((high - low > 2 * _LARGEST).any(-1)).tolist():
        origin[large] = np.rint(np.nanmedian(unit[starts[large] : ends[large]], axis=(0, 1)))
    return np.clip(origin, -_MAX_ORIGIN, _MAX_ORIGIN).astype(np.int32)


def decode(
    offset: NDArray[np.int16], origin: NDArray[np.int32], count: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Coordinates, float32 [n, a, 3] in angstrom.

    Missing and escaped atoms are NaN. The nearest float32 to the decimal number comes out, which is what
    reading the file gave.

    Args:
        offset: int16 [n, a, 3].
        origin: int32 [K, 3].
        count: int64 [K], rows that have each origin, one after another.
    """
    # Whole numbers below 2^24 are exact as float32; further out the sum is taken as integers.
    near = len(origin) == 0 or max(-int(origin.min()), int(origin.max())) < _EXACT
    each_atom = np.tile(origin.astype(np.float32) if near else origin, (1, offset.shape[1]))
    position = np.empty(offset.shape, dtype=np.float32)
    start = 0
    for first in range(0, len(origin), _AT_ONCE):
        blocks = slice(first, first + _AT_ONCE)
        total = np.repeat(each_atom[blocks], count[blocks], axis=0).reshape(-1, *offset.shape[1:])
        rows = slice(start, start + len(total))
        if near:
            part = position[rows]
            part[...] = offset[rows]
            np.add(part, total, out=part)
            part /= _UNIT
        else:
            position[rows] = (total + offset[rows]).astype(np.float32) / _UNIT
        start = rows.stop
    if (flags := offset[..., 0]).size and flags.min() <= _ESCAPED:
        position[flags <= _ESCAPED] = np.nan
    return position
