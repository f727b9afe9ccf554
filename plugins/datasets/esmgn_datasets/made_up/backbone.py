"""Backbone coordinates from torsion angles, with ideal bond lengths and angles.

Angles are in radians, lengths in angstrom. Every residue carries a *frame*: its origin is the C
atom, x points from CA to C, and N lies in the xy plane on the side y > 0. All peptide bonds are
trans, so the step from one frame to the next depends on psi and the next phi only, and a chain is
the running product of its steps.

Bond lengths and angles are rounded from Engh & Huber 1991 (Acta Cryst. A47, 392); placing atoms by
torsions is the natural extension of a chain, Parsons et al. 2005 (J. Comput. Chem. 26, 1063).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_CA, CA_C, C_N, C_O, CA_CB = 1.458, 1.525, 1.329, 1.231, 1.53
"""Bond lengths in angstrom."""

N_CA_C, CA_C_N, C_N_CA, CA_C_O = (float(np.radians(angle)) for angle in (111.0, 117.2, 121.7, 120.1))
"""Bond angles in radians."""


class Frames(NamedTuple):
    """Rigid motions: a point ``p`` given in the frame lies at ``rotation @ p + origin`` outside.

    Attributes:
        rotation: float64 [..., 3, 3], the axes of the frame as columns.
        origin: float64 [..., 3] in angstrom.
    """

    rotation: Array
    origin: Array

    def at(self, *index: object) -> Frames:
        """The frames at an index of the leading dimensions."""
        return Frames(self.rotation[index], self.origin[index])  # type: ignore[index]  # an index array

    def then(self, inner: Frames) -> Frames:
        """Frames ``inner``, given within these frames, seen from outside."""
        origin = (self.rotation @ inner.origin[..., None])[..., 0] + self.origin
        return Frames(self.rotation @ inner.rotation, origin)

    def inverse(self) -> Frames:
        """The motions that undo these."""
        back = np.swapaxes(self.rotation, -1, -2)
        return Frames(back, -(back @ self.origin[..., None])[..., 0])

    def apply(self, points: Array) -> Array:
        """Points [..., k, 3] given within the frames, seen from outside."""
        return points @ np.swapaxes(self.rotation, -1, -2) + self.origin[..., None, :]


def stack_frames(frames: Sequence[Frames]) -> Frames:
    """Single frames as one set with a leading dimension."""
    return Frames(np.stack([one.rotation for one in frames]), np.stack([one.origin for one in frames]))


def chain_frames(phi: Array, psi: Array) -> Frames:
    """Frames of the residues of chains; the first residue lies in the identity frame.

    Args:
        phi: float64 [..., n] in radians; the first value changes nothing.
        psi: float64 [..., n] in radians; the last value changes nothing.

    Returns:
        Frames with leading dimensions [..., n].
    """
    length = phi.shape[-1]
    psi_terms, phi_terms = _terms(psi.reshape(-1, length)), _terms(phi.reshape(-1, length))
    terms = psi_terms[:, None, :-1] * phi_terms[None, :, 1:]
    steps = (terms.reshape(9, -1).T @ _STEP).reshape(length - 1, -1, 4, 4)
    chain = np.empty((length, steps.shape[1], 4, 4))
    chain[0] = np.eye(4)
    for i in range(length - 1):
        np.matmul(chain[i], steps[i], out=chain[i + 1])
    chain = chain.swapaxes(0, 1).reshape(*phi.shape, 4, 4)
    return Frames(chain[..., :3, :3], chain[..., :3, 3])


def backbone_atoms(frames: Frames, psi: Array) -> Array:
    """Atoms N, CA, C and O of residues.

    Args:
        frames: frames of the residues, leading dimensions [..., n].
        psi: float64 [..., n] in radians; it turns O, which is trans to the next N.

    Returns:
        float64 [..., n, 4, 3] in angstrom.
    """
    local = np.zeros((*psi.shape, 4, 3))
    local[..., :2, :] = _N_AND_CA
    local[..., 3, 0] = -C_O * np.cos(CA_C_O)
    local[..., 3, 1] = -C_O * np.sin(CA_C_O) * np.cos(psi)
    local[..., 3, 2] = -C_O * np.sin(CA_C_O) * np.sin(psi)
    return frames.apply(local)


def virtual_beta(backbone: Array) -> Array:
    """Where the CB of an L amino acid lies, from N, CA and C and a tetrahedral CA.

    Args:
        backbone: float64 [..., 4, 3], atoms N, CA, C, O in angstrom.

    Returns:
        float64 [..., 3] in angstrom.
    """
    nitrogen, ca, carbon = (backbone[..., i, :] for i in range(3))
    between = _unit(_unit(nitrogen - ca) + _unit(carbon - ca))
    across = _unit(np.cross(nitrogen - ca, carbon - ca))
    beta: Array = ca + CA_CB * (np.sqrt(2.0 / 3.0) * across - np.sqrt(1.0 / 3.0) * between)
    return beta


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return unit


def _terms(angle: Array) -> Array:
    """Float64 [3, n, C] for angles [C, n]: 1, cosine and sine."""
    terms = np.empty((3, *angle.T.shape))
    terms[0] = 1.0
    terms[1] = np.cos(angle.T)
    terms[2] = np.sin(angle.T)
    return terms


def _bond(bond_angle: float, torsion: float, length: float) -> Frames:
    """The step over one bond, from the frame of an atom to that of the next atom."""
    cos, sin, along, across = np.cos(torsion), np.sin(torsion), np.cos(bond_angle), np.sin(bond_angle)
    rotation = np.array(
        [
            [-along, -across, 0.0],
            [across * cos, -along * cos, -sin],
            [across * sin, -along * sin, cos],
        ]
    )
    return Frames(rotation, length * rotation[:, 0])


def _residue_step(psi: float, phi: float) -> Array:
    step = _bond(CA_C_N, psi, C_N).then(_bond(C_N_CA, np.pi, N_CA)).then(_bond(N_CA_C, phi, CA_C))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = step
    return matrix.ravel()


def _step_table() -> Array:
    """Coefficients [9, 16] of a residue's step, bilinear in (1, cos, sin) of psi and of phi.

    Solved from the steps at nine pairs of angles, which determine a bilinear form.
    """
    nodes = np.radians([0.0, 90.0, 180.0])
    pairs = [(psi, phi) for psi in nodes for phi in nodes]
    design = np.array([np.outer(_terms(np.array(psi)), _terms(np.array(phi))).ravel() for psi, phi in pairs])
    return np.linalg.solve(design, np.array([_residue_step(psi, phi) for psi, phi in pairs]))


_N_AND_CA = np.array([[-CA_C + N_CA * np.cos(N_CA_C), N_CA * np.sin(N_CA_C), 0.0], [-CA_C, 0.0, 0.0]])
_STEP = _step_table()
