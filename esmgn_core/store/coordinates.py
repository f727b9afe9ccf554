"""Encode coordinates as 16-bit integers in units of 0.001 angstrom, with random access to residues.

The residues of a protein are divided into blocks of 24. A block has an origin of 32 bits, and each atom an
offset from it. Offsets reach 32.766 angstrom in each direction, enough for 24 residues of nearly every chain.
An atom further away (a stretched chain, another chain far away) escapes: its coordinates are in a separate
list. Files have three decimals, so the encoding is lossless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 24
"""Residues that share an origin."""

_AT_ONCE = 128  # blocks decoded together, so that they fit in the processor's cache
_LARGEST = 32766  # offset; -32768 and -32767 are flags in x
_MISSING = -32768
_ESCAPED = -32767
_UNIT = np.float32(1000)
_MAX_ORIGIN = 2**31 - 2**16  # so that origin + offset fits in int32
_EXACT = 2**23  # float32 represents all integers up to 2^24: a sum of two below 2^23 is exact


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
    """Number of blocks of proteins with these lengths, int64 [P]."""
    return -(-lengths.astype(np.int64) // BLOCK)


def encode(position: NDArray[np.float32], lengths: NDArray[np.int64]) -> Fixed:
    """Encode concatenated proteins.

    Args:
        position: float32 [R, a, 3] in angstrom, NaN where an atom is missing.
        lengths: int64 [P], residues of each protein.
    """
    if not len(lengths):
        empty = np.zeros((0, 3))
        offset = np.zeros(position.shape, np.int16)
        return Fixed(offset, empty.astype(np.int32), np.zeros(0, np.int64), empty.astype(np.float32))
    blocks = num_blocks(lengths)
    ends = np.cumsum(lengths)
    within = np.arange(blocks.sum()) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    starts = np.repeat(ends - lengths, blocks) + within * BLOCK
    rows = np.diff(starts, append=len(position))

    num_atoms = position.shape[1]
    unit, low, high = _units(position, starts * num_atoms)
    is_large = (high - low > 2 * _LARGEST).any(-1)
    origin = np.rint((low + high) / 2)
    for large in np.flatnonzero(is_large).tolist():  # around the median atom, so that few atoms escape
        end = starts[large + 1] if large + 1 < len(starts) else len(position)
        origin[large] = _median(unit[starts[large] : end].reshape(-1, 3))
    origin = np.clip(origin, -_MAX_ORIGIN, _MAX_ORIGIN)
    each_atom = np.tile(origin, (1, num_atoms))
    offset = np.subtract(unit, np.repeat(each_atom, rows, axis=0).reshape(position.shape), out=unit)

    # A sum is NaN if any atom of a residue is; einsum takes a fifth of the time of a sum over two axes.
    odd = np.flatnonzero(np.repeat(is_large, rows) | ~np.isfinite(np.einsum("rac->r", offset)))
    present = np.isfinite(position[odd]).all(-1)
    fits = present & (np.abs(offset[odd]) <= _LARGEST).all(-1)
    offset[odd] = np.where(fits[..., None], offset[odd], 0)
    packed = offset.astype(np.int16)
    packed[odd, :, 0] = np.where(fits, packed[odd, :, 0], np.where(present, _ESCAPED, _MISSING))
    row, atom = np.nonzero(present & ~fits)
    escapes = odd[row] * num_atoms + atom
    return Fixed(packed, origin.astype(np.int32), escapes, position[odd[row], atom])


def _median(unit: NDArray[Any]) -> NDArray[Any]:
    """Median of x, y and z of the present atoms, rounded, [3]."""
    ordered = np.sort(unit[~np.isnan(unit[:, 0])], axis=0)
    middle: NDArray[Any] = np.rint((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
    return middle


def _units(position: NDArray[np.float32], first_atoms: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Convert to units of 0.001 angstrom, [R, a, 3], and get minimum and maximum per block, [K, 3].

    In float32 if no atom is missing and all values are exact in it, else in float64, which takes longer.
    """
    with np.errstate(over="ignore"):
        unit: NDArray[Any] = position * _UNIT
        np.rint(unit, out=unit)
    low, high = (each.reduceat(unit.reshape(-1, 3), first_atoms) for each in (np.minimum, np.maximum))
    if max(-low.min(), high.max()) < _EXACT / 4:  # False also if an atom is missing: comparisons with NaN
        return unit, low, high
    unit = np.rint(position * np.float64(_UNIT))
    unit[~np.isfinite(unit).all(-1)] = np.nan
    low, high = (each.reduceat(unit.reshape(-1, 3), first_atoms) for each in (np.fmin, np.fmax))
    return unit, low, high


def decode(
    offset: NDArray[np.int16], origin: NDArray[np.int32], count: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Decode coordinates, float32 [n, a, 3] in angstrom, and the mask of present atoms, bool [n, a].

    Missing and escaped atoms are NaN. Each value is the float32 nearest to the decimal number, as in the
    file.

    Args:
        offset: int16 [n, a, 3].
        origin: int32 [K, 3].
        count: int64 [K], number of consecutive rows with each origin.
    """
    # Sums of integers are exact in float32 up to 2^24; above, they are computed as integers, which is slower.
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
    flags = np.ascontiguousarray(offset[..., 0])
    position.reshape(-1, 3)[np.flatnonzero(flags <= _ESCAPED)] = np.nan
    return position, flags != _MISSING
