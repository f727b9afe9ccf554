"""Helices and strands as rigid pieces of backbone, put where a fold wants them.

The axes of a fold: all elements run along y, up or down; the strands of a sheet stand side by side
along x, each turned about x against its neighbour; helices lie above or below the sheet along z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from esmgn_core.batch import CA
from esmgn_datasets.made_up.backbone import Array, Frames, backbone_atoms, chain_frames

ElementKind = Literal["H", "E"]

TORSIONS: dict[ElementKind, tuple[float, float]] = {"H": (-62.0, -43.0), "E": (-115.5, 125.0)}
"""phi and psi of a right-handed alpha helix (H) and of a strand (E), in degrees.

Those of the strand were searched together with ``STRAND_SPACING`` and the shift along the strand for
the most hydrogen bonds (Kabsch & Sander 1983) in sheets of four strands, parallel and antiparallel,
that are twisted by ``SHEET_TWIST`` and keep N and O 2.9 angstrom apart.
"""

STRAND_SPACING = 4.95
"""Distance between neighbouring strands of a sheet, in angstrom."""

SHEET_TWIST = -15.5
"""Turn about x from one strand of a sheet to the next, in degrees: the sense of natural sheets."""

SPARE: dict[ElementKind, int] = {"H": 2, "E": 1}
"""Residues an element may lose at each end, so that a loop finds an end facing its way."""

_STRAND_SHIFT = 0.25
_JITTER = 3.0
_LONGEST = 61


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a fold wants an element.

    Attributes:
        kind: "H" for a helix, "E" for a strand.
        length: number of residues before any are lost to a loop.
        up: whether the chain runs towards +y.
        x: place across the sheet, in angstrom.
        z: distance from the plane of the sheet, in angstrom.
        turn: turn about x, in degrees.
    """

    kind: ElementKind
    length: int
    up: bool
    x: float
    z: float
    turn: float


@dataclass(frozen=True, slots=True, eq=False)
class Element:
    """A helix or strand in place: m residues.

    Attributes:
        kind: "H" or "E".
        phi: float64 [m] in radians.
        psi: float64 [m] in radians.
        frames: residue frames, leading dimension [m].
        atoms: float64 [m, 4, 3], N, CA, C, O in angstrom.
    """

    kind: ElementKind
    phi: Array
    psi: Array
    frames: Frames
    atoms: Array

    def __len__(self) -> int:
        return len(self.phi)


def place_elements(slots: Sequence[Slot], rng: np.random.Generator) -> list[Element]:
    """An element in every slot: torsions slightly off the ideal, helices turned about their axis."""
    shape = (len(slots), max(slot.length for slot in slots))
    ideal = np.array([TORSIONS[slot.kind] for slot in slots]).T[..., None]
    torsions = np.radians(ideal + _JITTER * (2.0 * rng.random((2, *shape)) - 1.0))
    chains = chain_frames(*torsions)
    atoms = backbone_atoms(chains, torsions[1])
    spins = 360.0 * rng.random(len(slots))
    elements = []
    for i, slot in enumerate(slots):
        part = slice(slot.length)
        wanted = _ideal_atoms(slot.kind, slot.length)
        frames = _pose(slot, spins[i]).then(_superposition(atoms[i, part], wanted)).then(chains.at(i, part))
        phi, psi = torsions[:, i, part]
        elements.append(Element(slot.kind, phi, psi, frames, backbone_atoms(frames, psi)))
    return elements


def end_pairs(before: Element, after: Element) -> list[tuple[int, int]]:
    """Where a loop may leave the first element and enter the second, as residues of the two."""
    return [
        (len(before) - 1 - lost, skipped)
        for lost in range(SPARE[before.kind] + 1)
        for skipped in range(SPARE[after.kind] + 1)
    ]


def rotation_about(axis: int, degrees: float) -> Array:
    """Rotation matrix [3, 3] about x (0), y (1) or z (2)."""
    angle = np.radians(degrees)
    rotation = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation[[first, second], [first, second]] = np.cos(angle)
    rotation[first, second], rotation[second, first] = -np.sin(angle), np.sin(angle)
    return rotation


def _pose(slot: Slot, spin: float) -> Frames:
    """Where an element along +y has to go."""
    rotation = rotation_about(0, slot.turn)
    if not slot.up:
        rotation = rotation @ rotation_about(2, 180.0)
    if slot.kind == "H":
        rotation = rotation @ rotation_about(1, spin)
    return Frames(rotation, np.array([slot.x, 0.0, slot.z]))


def _ideal_atoms(kind: ElementKind, length: int) -> Array:
    """An ideal element [length, 4, 3] along +y with its middle at y = 0."""
    first = (_LONGEST - length) // 2
    atoms = _longest_ideal(kind)[first : first + length]
    if kind == "E":
        # Neighbours in a sheet have to stay in register, whatever their lengths.
        return atoms
    centred: Array = atoms - atoms[:, CA].mean(axis=0) * np.array([0.0, 1.0, 0.0])
    return centred


@cache
def _longest_ideal(kind: ElementKind) -> Array:
    """An ideal element [61, 4, 3] along +y; the middle residue of a strand faces -z near y = 0."""
    phi, psi = (np.full(_LONGEST, np.radians(angle)) for angle in TORSIONS[kind])
    chain = chain_frames(phi, psi)
    atoms = backbone_atoms(chain, psi)
    # The chain repeats one screw motion, whose axis is what the rotation of a step leaves in place.
    turn, shift = chain.rotation[1], chain.origin[1]
    axis = np.linalg.svd(turn - np.eye(3))[2][-1]
    axis = axis * np.sign(axis @ shift)
    through = np.linalg.lstsq(np.eye(3) - turn, shift - axis * (axis @ shift), rcond=None)[0]
    middle = atoms[_LONGEST // 2, 1] - through
    height = axis @ middle
    inward = axis * height - middle
    inward = inward / np.linalg.norm(inward)
    basis = np.stack([np.cross(axis, inward), axis, inward])
    centred: Array = (atoms - through - axis * height) @ basis.T
    centred[..., 1] += _STRAND_SHIFT
    return centred


def _superposition(moving: Array, fixed: Array) -> Frames:
    """The rigid motion of least squares (Kabsch 1976) that lays points [..., 3] on others."""
    moving, fixed = moving.reshape(-1, 3), fixed.reshape(-1, 3)
    from_centre, to_center = moving.mean(axis=0), fixed.mean(axis=0)
    left, _, right = np.linalg.svd((fixed - to_center).T @ (moving - from_centre))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ mirror @ right
    return Frames(rotation, to_center - rotation @ from_centre)
