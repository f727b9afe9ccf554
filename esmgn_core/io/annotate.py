"""Features of residues that are computed from a structure: what they are, and how a store keeps them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import EIGHT_TO_THREE, SECONDARY_STATES, THREE_STATES
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.surface import UNKNOWN_STATE, exposure, secondary_structure

Array = NDArray[Any]

SECONDARY_STRUCTURE, EXPOSURE = "secondary_structure", "exposure"
ANNOTATIONS = {SECONDARY_STRUCTURE: np.dtype(np.uint8), EXPOSURE: np.dtype(np.uint16)}
"""Names of the features, and the types they are kept in."""

_STEP = 0.01  # square angstrom
_NO_AREA = np.iinfo(np.uint16).max
_FAILURES = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError),
    UnreadableError,  # of all models, where the first alone was read
)


def annotate(
    residues: ResidueArrays, structure: Callable[[], gemmi.Structure] | None, names: Collection[str]
) -> tuple[dict[str, Array], list[str]]:
    """Features of a protein as a store keeps them, and what could not be computed, in words.

    Args:
        residues: the protein.
        structure: parses all atoms of its file; ``None`` where there are none.
        names: those of :data:`ANNOTATIONS` that are wanted.
    """
    columns: dict[str, Array] = {}
    notes = []
    if SECONDARY_STRUCTURE in names:
        try:
            columns[SECONDARY_STRUCTURE] = secondary_structure(residues)
        except _FAILURES as error:
            columns[SECONDARY_STRUCTURE] = np.full(len(residues), UNKNOWN_STATE, dtype=np.uint8)
            notes.append(f"secondary structure unknown: {type(error).__name__}: {error}")
    if EXPOSURE in names:
        area = np.full(len(residues), np.nan, dtype=np.float32)
        try:
            if structure is None:
                notes.append("exposure unknown: side chains are not read from this kind of source")
            else:
                area = exposure(residues, structure())
        except _FAILURES as error:
            notes.append(f"exposure unknown: {type(error).__name__}: {error}")
        stored = np.rint(np.nan_to_num(area, nan=_NO_AREA * _STEP) / _STEP).clip(0, _NO_AREA)
        columns[EXPOSURE] = stored.astype(np.uint16)
    return columns, notes


def states(column: Array, *, three: bool = False) -> str:
    """Stored secondary structure as letters of DSSP, ``?`` where it is unknown.

    Args:
        column: as it is stored.
        three: as H, E and C instead: all helices are helix, bridges are strand, the rest is coil.
    """
    letters = "".join(THREE_STATES[code] for code in EIGHT_TO_THREE) if three else SECONDARY_STATES
    return "".join((letters + "?")[code] for code in column.tolist())


def areas(column: Array) -> NDArray[np.float32]:
    """Stored exposure as float32 in square angstrom, NaN where it is unknown."""
    area = column.astype(np.float32) * np.float32(_STEP)
    area[column == _NO_AREA] = np.nan
    return area


def feature(name: str, column: Array) -> NDArray[np.float32]:
    """A stored column as ``ProteinBatch.features`` holds it, float32 [n], NaN where it is unknown."""
    if name == EXPOSURE:
        return areas(column)
    state = column.astype(np.float32)
    state[column == UNKNOWN_STATE] = np.nan
    return state
