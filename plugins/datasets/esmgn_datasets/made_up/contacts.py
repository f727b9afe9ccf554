"""How close the atoms of a backbone may come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esmgn_core.batch import CA
from esmgn_datasets.made_up.backbone import Array

CLOSEST = np.array([[2.9, 2.9, 2.9, 2.6], [2.9, 4.0, 2.9, 2.9], [2.9, 2.9, 2.9, 2.9], [2.6, 2.9, 2.9, 2.9]])
"""float64 [4, 4]: the least distance of atoms N, CA, C, O of residues two or more apart, in angstrom.

A hydrogen bond brings N and O nearer than van der Waals radii allow.
"""

_REACH = 7.8
"""No atom is 2.45 angstrom away from its CA, so residues whose CA are farther apart cannot touch."""


def too_close(residues: Array, others: Array, among: NDArray[np.bool_] | bool = True) -> NDArray[np.bool_]:
    """Which residues have atoms nearer to each other than ``CLOSEST``.

    Args:
        residues: float64 [..., m, 4, 3] in angstrom.
        others: float64 [k, 4, 3] or [..., k, 4, 3] in angstrom.
        among: bool, broadcast to [..., m, k], True for the pairs to compare.

    Returns:
        bool [..., m, k].
    """
    first, second = residues[..., CA, :], others[..., CA, :]
    squared = first @ np.swapaxes(-2.0 * second, -1, -2)
    squared += _squares(first)[..., :, None]
    squared += _squares(second)[..., None, :]
    near = (squared < _REACH**2) & among
    *piece, i, j = np.nonzero(near)
    others = np.broadcast_to(others, (*near.shape[:-2], *others.shape[-3:]))
    difference = residues[(*piece, i)][:, :, None] - others[(*piece, j)][:, None]
    near[(*piece, i, j)] = (_squares(difference) < CLOSEST**2).any(axis=(1, 2))
    return near


def clashes(residues: Array, among: NDArray[np.bool_] | bool = True) -> NDArray[np.bool_]:
    """Which consecutive residues [..., m, 4, 3] are too close to a later one, two or more away.

    Returns:
        bool [..., m, m], True above the diagonal and in ``among`` only.
    """
    number = np.arange(residues.shape[-3])
    return too_close(residues, residues, among & (number >= number[:, None] + 2))


def _squares(points: Array) -> Array:
    # Three terms written out: numpy is slow at summing over a short last axis.
    squares: Array = points[..., 0] ** 2 + points[..., 1] ** 2 + points[..., 2] ** 2
    return squares
