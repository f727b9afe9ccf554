"""Loops between helices and strands: drawn from allowed torsions, then closed exactly.

A loop of L residues leaves residue 0, the last of one element, and enters residue L + 1, the first
of the next. Free are psi of residue 0, both torsions of the L residues and phi of residue L + 1;
six equations, position and orientation of residue L + 1, are to hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esmgn_datasets.made_up.backbone import CA_C, N_CA_C, Array, backbone_atoms, chain_frames
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


class Loops(NamedTuple):
    """C loops, each from residue 0 to residue ``length + 1``; residues after it have no meaning.

    Attributes:
        length: int64 [C], residues between the two elements.
        torsions: float64 [C, 8, 2], phi and psi in radians.
        bounds: float64 [C, 8, 2, 2], the least and the greatest value of each torsion.
    """

    length: NDArray[np.int64]
    torsions: Array
    bounds: Array

    @property
    def inner(self) -> NDArray[np.bool_]:
        """The residues between the two elements, bool [C, 8]."""
        number = np.arange(LONGEST_LOOP + 2)
        between: NDArray[np.bool_] = (number >= 1) & (number <= self.length[:, None])
        return between

    def at(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Loops:
        """Some of the loops."""
        return Loops(self.length[index], self.torsions[index], self.bounds[index])

    def ends(self) -> Array:
        """Frames [C, 4, 4] of residue ``length + 1`` as seen from residue 0."""
        ends: Array = chain_frames(self.torsions)[np.arange(len(self.length)), self.length + 1]
        return ends

    def atoms(self, start: Array) -> Array:
        """Atoms [C, 8, 4, 3] of loops whose residue 0 lies in the frames ``start`` [..., 4, 4]."""
        return backbone_atoms(start[..., None, :, :] @ chain_frames(self.torsions), self.torsions[..., 1])


def gather(loops: Sequence[Loops]) -> Loops:
    """Several sets of loops as one."""
    return Loops(*map(np.concatenate, zip(*loops, strict=True)))


def draw_loops(kind: ElementKind, count: int, rng: np.random.Generator) -> Loops:
    """Random loops of full length that leave an element of this kind."""
    shape = (LONGEST_LOOP + 2, count)
    shares = np.cumsum([region.share for region in REGIONS])
    region = np.searchsorted(shares[:-1], rng.random(shape).T, side="right")
    drawn = _boxes([one.drawn for one in REGIONS])[region]
    bounds = _boxes([one.allowed for one in REGIONS])[region]
    # Residue 0 belongs to the element: the loop turns its psi only.
    bounds[:, 0, 1] = drawn[:, 0, 1] = np.radians(LEAVING_PSI[kind])
    share = rng.random((2, *shape)).transpose(2, 1, 0)
    torsions = drawn[..., 0] + (drawn[..., 1] - drawn[..., 0]) * share
    return Loops(np.full(count, LONGEST_LOOP), torsions, bounds)


def close_loops(loops: Loops, target: Array) -> tuple[Loops, NDArray[np.bool_]]:
    """Turn the torsions of loops, within their bounds, until each ends exactly in its target frame.

    Damped least squares (Levenberg 1944) on position and orientation; a torsion that reaches a bound
    stays there.

    Args:
        loops: C loops.
        target: float64 [C, 4, 4], frames of residue ``length + 1`` as seen from residue 0.

    Returns:
        The turned loops, and bool [C], True for closed loops.
    """
    number = np.arange(LONGEST_LOOP + 2)
    first, last = number == 0, number == loops.length[:, None] + 1
    free = np.stack([loops.inner | last, loops.inner | first], axis=-1)
    low, high = np.moveaxis(loops.bounds, -1, 0).copy()
    low[last, 0], high[last, 0] = np.radians(ENTERING_PHI)
    torsions = loops.torsions
    rows = np.arange(len(torsions))
    for _ in range(_ROUNDS):
        frames = chain_frames(torsions)
        end = frames[rows, loops.length + 1]
        derivatives = _derivatives(frames, end) * free.reshape(len(rows), 1, -1)
        transposed = np.swapaxes(derivatives, 1, 2)
        normal = derivatives @ transposed + _DAMPING * np.eye(6)
        step = transposed @ np.linalg.solve(normal, _missing(end, target)[..., None])
        step *= np.minimum(1.0, _LARGEST_STEP / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-9))
        moved = torsions + step.reshape(torsions.shape)
        torsions = np.clip(moved, low, high)
        free &= torsions == moved
    closed = loops._replace(torsions=torsions)
    return closed, np.abs(_missing(closed.ends(), target)).max(axis=1) < _TOLERANCE


def self_clashes(loops: Loops, atoms: Array) -> NDArray[np.bool_]:
    """Which loops, bool [C], with the residues they leave and enter, come too close to themselves.

    Args:
        loops: C loops.
        atoms: float64 [C, 8, 4, 3], their residues in angstrom.
    """
    part = np.arange(LONGEST_LOOP + 2) <= loops.length[:, None] + 1
    return np.asarray(clashes(atoms, part[:, None]).any(axis=(1, 2)))


def _boxes(bounds: Sequence[tuple[float, float, float, float]]) -> Array:
    """Bounds [regions, 2, 2] in radians of phi and psi, the least and the greatest."""
    return np.radians(np.array(bounds, dtype=np.float64)).reshape(-1, 2, 2)


def _missing(end: Array, target: Array) -> Array:
    """The shift and the turn times a lever [C, 6] from frames to others, in angstrom."""
    turn = target[:, :3, :3] @ np.swapaxes(end[:, :3, :3], 1, 2)
    skew = 0.5 * _LEVER * (turn[:, _SECOND, _FIRST] - turn[:, _FIRST, _SECOND])
    return np.concatenate([target[:, :3, 3] - end[:, :3, 3], skew], axis=1)


def _derivatives(frames: Array, end: Array) -> Array:
    """How the six numbers of the end change with phi and psi of all residues, [C, 6, 8 * 2]."""
    # Loops come last, because numpy is slow at inner loops of three.
    about_psi, y, _, origin = frames[..., :3, :].transpose(3, 2, 1, 0)
    about_phi = _FROM_N_TO_CA[0] * about_psi + _FROM_N_TO_CA[1] * y
    axis = np.stack([about_phi, about_psi])
    lever = end[:, :3, 3].T[:, None] - np.stack([origin - CA_C * about_psi, origin])
    shift = axis[:, _FIRST] * lever[:, _SECOND] - axis[:, _SECOND] * lever[:, _FIRST]
    columns = np.concatenate([shift, _LEVER * axis], axis=1)
    return columns.transpose(3, 1, 2, 0).reshape(len(frames), 6, -1)


_FIRST, _SECOND = [1, 2, 0], [2, 0, 1]
_FROM_N_TO_CA = np.array([-np.cos(N_CA_C), -np.sin(N_CA_C)])
