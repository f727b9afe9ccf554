"""Compute residue features from structures, and encode them for stores."""

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
"""Names of the features, and their types in stores."""

_STEP = 0.01  # square angstrom per unit of stored exposure
_NO_AREA = np.iinfo(np.uint16).max
_FAILURES = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError),
    UnreadableError,  # ``structure()`` parses all models, also those that were not read before
)


def annotate(
    residues: ResidueArrays, structure: Callable[[], gemmi.Structure] | None, names: Collection[str]
) -> tuple[dict[str, Array], list[str]]:
    """Compute features as stores keep them, and notes on features that could not be computed.

    Args:
        residues: the protein.
        structure: parses all atoms of its file; ``None`` if the source has no file.
        names: features to compute, of :data:`ANNOTATIONS`; other names are ignored.
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
    """Decode stored secondary structure as letters of DSSP, ``?`` where unknown.

    Args:
        column: the stored column.
        three: True for three states: H (all helices), E (strands and bridges) and C (the rest).
    """
    letters = "".join(THREE_STATES[code] for code in EIGHT_TO_THREE) if three else SECONDARY_STATES
    return "".join((letters + "?")[code] for code in column.tolist())


def areas(column: Array) -> NDArray[np.float32]:
    """Decode stored exposure, float32 [n] in square angstrom, NaN where unknown."""
    area = column.astype(np.float32) * np.float32(_STEP)
    area[column == _NO_AREA] = np.nan
    return area


def feature(name: str, column: Array) -> NDArray[np.float32]:
    """Decode a stored column for ``ProteinBatch.features``, float32 [n], NaN where unknown."""
    if name == EXPOSURE:
        return areas(column)
    state = column.astype(np.float32)
    state[column == UNKNOWN_STATE] = np.nan
    return state
