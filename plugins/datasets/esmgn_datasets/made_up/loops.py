"""Loops between helices and strands: drawn from allowed torsions, then closed exactly.

A loop of L residues leaves residue 0, the last of one element, and enters residue L + 1, the first
of the next. Free are psi of residue 0, both torsions of the L residues and phi of residue L + 1;
six equations, position and orientation of residue L + 1, are to hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmgn_datasets.made_up.backbone import CA_C, N_CA_C, Array, Frames, backbone_atoms, chain_frames
from esmgn_datasets.made_up.contacts import clashes
from esmgn_datasets.made_up.elements import ElementKind

SHORTEST_LOOP, LONGEST_LOOP = 4, 6
"""Fewest and most residues of a loop. Four are a tight turn of two and one residue on each side."""


class Region(NamedTuple):
    """A part of the Ramachandran plane, angles in degrees.

    Attributes:
        share: how often a residue of a loop is drawn from it.
        drawn: least and greatest phi, least and greatest psi a residue is drawn with.
        allowed: the same bounds for what a residue may be turned to.
    """

    share: float
    drawn: tuple[float, float, float, float]
    allowed: tuple[float, float, float, float]


# No corner of these boxes brings the O atoms of neighbouring residues within 2.5 angstrom.
_HELICAL, _EXTENDED = (-165.0, -45.0, -70.0, 50.0), (-170.0, -55.0, 90.0, 178.0)
_LEFT_HANDED = (40.0, 115.0, -45.0, 65.0)
_TURN, _GLYCINE = (50.0, 95.0, 200.0, 265.0), (75.0, 125.0, 160.0, 230.0)

REGIONS = (
    Region(0.25, (-90, -50, -60, -20), _HELICAL),
    Region(0.12, (-110, -70, -20, 20), _HELICAL),
    Region(0.18, (-150, -90, 110, 160), _EXTENDED),
    Region(0.20, (-85, -55, 120, 165), _EXTENDED),
    Region(0.09, (45, 70, 20, 60), _LEFT_HANDED),
    Region(0.08, (70, 105, -20, 30), _LEFT_HANDED),
    Region(0.04, (50, 75, 220, 250), _TURN),
    Region(0.04, (75, 110, 160, 200), _GLYCINE),
)
"""Where loops are drawn from: alpha, bridge, beta, polyproline II, then four for tight turns."""

LEAVING_PSI: dict[ElementKind, tuple[float, float]] = {"H": (-70.0, -15.0), "E": (90.0, 165.0)}
"""Bounds on psi of the residue before a loop, in degrees."""

ENTERING_PHI = (-160.0, -40.0)
"""Bounds on phi of the residue after a loop, in degrees."""

_LEVER = 5.0
_DAMPING = 0.05
_LARGEST_STEP = 0.35
_ROUNDS = 5
_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Loops:
    """C loops, each from residue 0 to residue ``length + 1``; what lies beyond is without meaning.

    Attributes:
        length: int64 [C], residues between the two elements.
        torsions: float64 [2, 8, C], phi and psi in radians.
        bounds: float64 [2, 2, 8, C], the least and the greatest value of each torsion.
    """

    length: NDArray[np.int64]
    torsions: Array
    bounds: Array

    def __len__(self) -> int:
        return len(self.length)

    @property
    def phi(self) -> Array:
        """Float64 [C, 8] in radians."""
        phi: Array = self.torsions[0].T
        return phi

    @property
    def psi(self) -> Array:
        """Float64 [C, 8] in radians."""
        psi: Array = self.torsions[1].T
        return psi

    @property
    def inner(self) -> NDArray[np.bool_]:
        """The residues between the two elements, bool [C, 8]."""
        number = np.arange(LONGEST_LOOP + 2)
        between: NDArray[np.bool_] = (number >= 1) & (number <= self.length[:, None])
        return between

    def at(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Loops:
        """Some of the loops."""
        return Loops(self.length[index], self.torsions[..., index], self.bounds[..., index])


def gather(loops: Sequence[Loops]) -> Loops:
    """Several sets of loops as one."""
    return Loops(
        np.concatenate([some.length for some in loops]),
        np.concatenate([some.torsions for some in loops], axis=-1),
        np.concatenate([some.bounds for some in loops], axis=-1),
    )


def draw_loops(kind: ElementKind, count: int, rng: np.random.Generator) -> Loops:
    """Random loops of full length that leave an element of this kind."""
    shape = (LONGEST_LOOP + 2, count)
    shares = np.cumsum([region.share for region in REGIONS])
    region = np.searchsorted(shares[:-1], rng.random(shape), side="right")
    drawn = _boxes([one.drawn for one in REGIONS], region)
    bounds = _boxes([one.allowed for one in REGIONS], region)
    # What lies behind residue 0 is no part of the loop: its phi is free, its psi that of the element.
    bounds[:, 1, 0] = drawn[:, 1, 0] = np.radians(LEAVING_PSI[kind])[:, None]
    torsions = drawn[0] + (drawn[1] - drawn[0]) * rng.random((2, *shape))
    return Loops(np.full(count, LONGEST_LOOP), torsions, bounds)


def close_loops(loops: Loops, target: Frames) -> tuple[Loops, NDArray[np.bool_]]:
    """Turn the torsions of loops, within their bounds, until each ends exactly in its target frame.

    Damped least squares (Levenberg 1944) on position and orientation; a torsion that reaches a bound
    stays there.

    Args:
        loops: C loops.
        target: frames of residue ``length + 1`` as seen from residue 0, leading dimension [C].

    Returns:
        The turned loops, and bool [C], which of them are closed.
    """
    number = np.arange(LONGEST_LOOP + 2)[:, None]
    inner, last = loops.inner.T, number == loops.length + 1
    turns = np.stack([inner | last, inner | (number == 0)])
    low, high = loops.bounds.copy()
    low[0][last], high[0][last] = np.radians(ENTERING_PHI)
    wanted = np.concatenate([target.rotation, target.origin[..., None]], axis=-1).transpose(1, 2, 0)
    torsions = loops.torsions
    for _ in range(_ROUNDS):
        chain = _chains(torsions)
        end = _ends(chain, loops.length)
        jacobian = _derivatives(chain, end) * turns[:, None]
        jacobian = jacobian.transpose(3, 1, 0, 2).reshape(len(loops), 6, -1)
        transposed = np.swapaxes(jacobian, 1, 2)
        normal = jacobian @ transposed + _DAMPING * np.eye(6)
        step = (transposed @ np.linalg.solve(normal, _missing(end, wanted).T[..., None]))[..., 0].T
        step *= np.minimum(1.0, _LARGEST_STEP / np.maximum(np.abs(step).max(axis=0), 1e-9))
        moved = torsions + step.reshape(torsions.shape)
        torsions = np.clip(moved, low, high)
        turns &= torsions == moved
    missing = _missing(_ends(_chains(torsions), loops.length), wanted)
    return Loops(loops.length, torsions, loops.bounds), np.abs(missing).max(axis=0) < _TOLERANCE


def self_clashes(loops: Loops, atoms: Array) -> NDArray[np.bool_]:
    """Which loops, bool [C], with the residues they leave and enter, come too close to themselves.

    Args:
        loops: C loops.
        atoms: float64 [C, 8, 4, 3], their residues in angstrom.
    """
    part = np.arange(LONGEST_LOOP + 2) <= loops.length[:, None] + 1
    pairs = clashes(atoms, part[:, :, None] & part[:, None, :])
    return np.asarray(pairs.any(axis=(1, 2)))


def loop_atoms(loops: Loops, start: Frames) -> Array:
    """Atoms [C, 8, 4, 3] of loops whose residue 0 lies in the frames ``start``, leading dimension [C]."""
    frames = Frames(start.rotation[:, None], start.origin[:, None]).then(chain_frames(loops.phi, loops.psi))
    return backbone_atoms(frames, loops.psi)


def _boxes(bounds: Sequence[tuple[float, float, float, float]], region: NDArray[np.int64]) -> Array:
    """Bounds [2, 2, 8, C] in radians: least or greatest, phi or psi, residue, loop."""
    boxes = np.radians(np.array(bounds, dtype=np.float64))[region]
    return boxes.reshape(*region.shape, 2, 2).transpose(3, 2, 0, 1).copy()


def _chains(torsions: Array) -> Array:
    """Frames [8, 3, 4, C] of chains with torsions [2, 8, C]; the last of the four columns is the origin."""
    frames = chain_frames(torsions[0].T, torsions[1].T)
    return np.concatenate([frames.rotation, frames.origin[..., None]], axis=-1).transpose(1, 2, 3, 0)


def _ends(chain: Array, length: NDArray[np.int64]) -> Array:
    """Frames [3, 4, C] of residue ``length + 1`` in chains [8, 3, 4, C]."""
    return chain[length + 1, :, :, np.arange(len(length))].transpose(1, 2, 0)


def _missing(end: Array, wanted: Array) -> Array:
    """What is missing [6, C] between frames: the shift, and the turn times a lever, in angstrom."""
    turn = (wanted[:, None, :3] * end[None, :, :3]).sum(axis=2)
    skew = 0.5 * _LEVER * (turn[_SECOND, _FIRST] - turn[_FIRST, _SECOND])
    return np.concatenate([wanted[:, 3] - end[:, 3], skew])


def _derivatives(chain: Array, end: Array) -> Array:
    """How the six numbers of the end change with phi and psi of all residues, [2, 6, 8, C]."""
    axes = chain.transpose(1, 2, 0, 3)
    about_psi, origin = axes[:, 0], axes[:, 3]
    about_phi = _FROM_N_TO_CA[0] * about_psi + _FROM_N_TO_CA[1] * axes[:, 1]
    axis = np.stack([about_phi, about_psi])
    lever = end[:, 3, None] - np.stack([origin - CA_C * about_psi, origin])
    shift = axis[:, _FIRST] * lever[:, _SECOND] - axis[:, _SECOND] * lever[:, _FIRST]
    return np.concatenate([shift, _LEVER * axis], axis=1)


_FIRST, _SECOND = [1, 2, 0], [2, 0, 1]
_FROM_N_TO_CA = np.array([-np.cos(N_CA_C), -np.sin(N_CA_C)])
