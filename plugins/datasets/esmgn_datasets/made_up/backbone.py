"""Backbone coordinates from torsion angles, with ideal bond lengths and angles.

Angles are in radians, lengths in angstrom. Every residue has a *frame*, a homogeneous matrix [4, 4]
that takes points given in the frame to points outside. Its origin is the C atom, x points from CA to C,
and N lies in the xy plane on the side y > 0. All peptide bonds are trans, so the step from one frame to
the next depends on psi and the next phi only, and a chain is the running product of its steps.

Bond lengths and angles are rounded from Engh & Huber 1991 (Acta Cryst. A47, 392). Placing atoms by
torsions is the natural extension of a chain, Parsons et al. 2005 (J. Comput. Chem. 26, 1063).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_CA, CA_C, C_N, C_O = 1.458, 1.525, 1.329, 1.231
"""Bond lengths in angstrom."""

N_CA_C, CA_C_N, C_N_CA, CA_C_O = (float(np.radians(angle)) for angle in (111.0, 117.2, 121.7, 120.1))
"""Bond angles in radians."""


def chain_frames(torsions: Array) -> Array:
    """Frames of the residues of chains; the first residue lies in the identity frame.

    Args:
        torsions: float64 [..., n, 2], phi and psi in radians; the first phi and the last psi have no effect.

    Returns:
        float64 [..., n, 4, 4].
    """
    angles = np.moveaxis(torsions.swapaxes(0, -2), -1, 0)
    terms = np.empty((3, *angles.shape))
    terms[0], terms[1], terms[2] = 1.0, np.cos(angles), np.sin(angles)
    pairs = terms[:, None, 1, :-1] * terms[:, 0, 1:]
    steps = (pairs.reshape(9, -1).T @ _STEP).reshape(*pairs.shape[2:], 4, 4)
    chain = np.empty((len(steps) + 1, *steps.shape[1:]))
    chain[0] = np.eye(4)
    for i, step in enumerate(steps):
        np.matmul(chain[i], step, out=chain[i + 1])
    return chain.swapaxes(0, -3)


def backbone_atoms(frames: Array, psi: Array) -> Array:
    """Atoms N, CA, C and O of residues.

    Args:
        frames: float64 [..., n, 4, 4].
        psi: float64 [..., n] in radians; it turns O, which is trans to the next N.

    Returns:
        float64 [..., n, 4, 3] in angstrom.
    """
    local = np.zeros((*psi.shape, 4, 3))
    local[..., 0, :2] = N_CA * np.cos(N_CA_C) - CA_C, N_CA * np.sin(N_CA_C)
    local[..., 1, 0] = -CA_C
    local[..., 3, 0] = -C_O * np.cos(CA_C_O)
    local[..., 3, 1] = -C_O * np.sin(CA_C_O) * np.cos(psi)
    local[..., 3, 2] = -C_O * np.sin(CA_C_O) * np.sin(psi)
    return local @ np.swapaxes(frames[..., :3, :3], -1, -2) + frames[..., None, :3, 3]


def _bond(angle: float, length: float) -> Array:
    """The step [4, 4] over one bond of torsion zero, from the frame of an atom to that of the next."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array(
        [
            [-cos, -sin, 0.0, -length * cos],
            [sin, -cos, 0.0, length * sin],
            [0.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


# A rotation about x is linear in 1, cosine and sine of its angle, so the step from a residue to the next is
# bilinear in those of psi and phi: one product with a table [9, 16] makes all steps.
_ABOUT_X = np.zeros((3, 4, 4))
_ABOUT_X[[0, 0, 1, 1], [0, 3, 1, 2], [0, 3, 1, 2]] = 1.0
_ABOUT_X[2, 2, 1], _ABOUT_X[2, 1, 2] = 1.0, -1.0
_TRANS = np.diag([1.0, -1.0, -1.0, 1.0])
_PEPTIDE_BOND = _bond(CA_C_N, C_N) @ _TRANS @ _bond(C_N_CA, N_CA)
_STEP = np.array([psi @ _PEPTIDE_BOND @ phi @ _bond(N_CA_C, CA_C) for psi in _ABOUT_X for phi in _ABOUT_X])
_STEP = _STEP.reshape(9, 16)
