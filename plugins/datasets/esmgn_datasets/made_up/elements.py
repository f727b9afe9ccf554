"""Helices and strands as rigid pieces of backbone, put where a fold wants them.

The axes of a fold: all elements run along y, up or down; the strands of a sheet stand side by side
along x, each turned about x against its neighbour; helices lie above or below the sheet along z.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from esmgn_core.batch import CA
from esmgn_datasets.made_up.backbone import Array, backbone_atoms, chain_frames

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


class Slot(NamedTuple):
    """Where a fold wants an element.

    Attributes:
        kind: "H" for a helix, "E" for a strand.
        length: number of residues before any are lost to a loop.
        up: True if the chain runs towards +y.
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


class Element(NamedTuple):
    """A helix or strand in place: m residues.

    Attributes:
        kind: "H" or "E".
        torsions: float64 [m, 2], phi and psi in radians.
        frames: float64 [m, 4, 4], see :mod:`esmgn_datasets.made_up.backbone`.
        atoms: float64 [m, 4, 3], N, CA, C, O in angstrom.
    """

    kind: ElementKind
    torsions: Array
    frames: Array
    atoms: Array


def place_elements(slots: Sequence[Slot], rng: np.random.Generator) -> list[Element]:
    """An element in every slot: torsions slightly off the ideal, helices turned about their axis."""
    shape = (len(slots), max(slot.length for slot in slots))
    ideal = np.array([TORSIONS[slot.kind] for slot in slots])[:, None]
    jitter = np.moveaxis(2.0 * rng.random((2, *shape)) - 1.0, 0, -1)
    torsions = np.radians(ideal + _JITTER * jitter)
    chains = chain_frames(torsions)
    atoms = backbone_atoms(chains, torsions[..., 1])
    spins = 360.0 * rng.random(len(slots))
    elements = []
    for i, slot in enumerate(slots):
        own = torsions[i, : slot.length]
        motion = _superposition(atoms[i, : slot.length], _ideal_atoms(slot, spins[i]))
        frames = motion @ chains[i, : slot.length]
        elements.append(Element(slot.kind, own, frames, backbone_atoms(frames, own[:, 1])))
    return elements


def end_pairs(before: Element, after: Element) -> list[tuple[int, int]]:
    """Where a loop may leave the first element and enter the second, as residues of the two."""
    return [
        (len(before.frames) - 1 - lost, skipped)
        for lost in range(SPARE[before.kind] + 1)
        for skipped in range(SPARE[after.kind] + 1)
    ]


def _ideal_atoms(slot: Slot, spin: float) -> Array:
    """An ideal element [length, 4, 3] in its slot, a helix turned by ``spin`` degrees about its axis."""
    first = (_LONGEST - slot.length) // 2
    atoms = _longest_ideal(slot.kind)[first : first + slot.length]
    # Neighbours in a sheet have to stay in register, whatever their lengths.
    if slot.kind == "H":
        atoms = atoms - atoms[:, CA].mean(axis=0) * np.array([0.0, 1.0, 0.0])
    angles = (slot.turn, 0.0 if slot.up else 180.0, spin if slot.kind == "H" else 0.0)
    rotation = Rotation.from_euler("XZY", angles, degrees=True).as_matrix()
    placed: Array = atoms @ rotation.T + (slot.x, 0.0, slot.z)
    return placed


@cache
def _longest_ideal(kind: ElementKind) -> Array:
    """An ideal element [61, 4, 3] along +y; the middle residue of a strand faces -z near y = 0."""
    torsions = np.tile(np.radians(TORSIONS[kind]), (_LONGEST, 1))
    frames = chain_frames(torsions)
    atoms = backbone_atoms(frames, torsions[:, 1])
    # The chain repeats one screw motion, whose axis is what the rotation of a step leaves in place.
    turn, shift = frames[1, :3, :3], frames[1, :3, 3]
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


def _superposition(moving: Array, fixed: Array) -> Array:
    """The rigid motion [4, 4] of least squares (Kabsch 1976) that lays points [..., 3] on others."""
    moving, fixed = moving.reshape(-1, 3), fixed.reshape(-1, 3)
    from_center, to_center = moving.mean(axis=0), fixed.mean(axis=0)
    left, _, right = np.linalg.svd((fixed - to_center).T @ (moving - from_center))
    left[:, 2] *= np.sign(np.linalg.det(left @ right))
    motion = np.eye(4)
    motion[:3, :3] = left @ right
    motion[:3, 3] = to_center - motion[:3, :3] @ from_center
    return motion
