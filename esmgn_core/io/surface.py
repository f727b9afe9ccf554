"""Compute secondary structure and solvent exposure of residues with mdtraj.

Both are computed on the protein that was read: all chains together, one conformer, without hydrogens, waters
and ligands. mdtraj's DSSP (Kabsch and Sander 1983) needs N, CA, C and O; its Shrake-Rupley (1973, probe of
1.4 angstrom, 960 points) needs the side chains too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import AMINO_ACIDS, BACKBONE_ATOMS, CA, SECONDARY_STATES
from esmgn_core.io.arrays import ResidueArrays

UNKNOWN_STATE = len(SECONDARY_STATES)
"""Code of a residue that lacks N, CA, C or O."""

_NM_PER_ANGSTROM = 0.1
_SAME_POSITION = 5e-4  # angstrom
_NUM_HEAVY = (5, 11, 8, 8, 6, 9, 9, 4, 10, 8, 8, 9, 8, 11, 7, 6, 7, 14, 12, 7)
_HEAVY_ATOMS = dict(zip("ARNDCQEGHILKMFPSTWYV", _NUM_HEAVY, strict=True))
_WHOLE = np.array([_HEAVY_ATOMS[letter] for letter in AMINO_ACIDS] + [4])
_PROLINE = AMINO_ACIDS.index("P")

Atom = tuple[int, str, str, tuple[float, ...]]
"""Residue, name, element, position in angstrom."""


def secondary_structure(residues: ResidueArrays) -> NDArray[np.uint8]:
    """DSSP state of each residue, uint8 [n]: index in ``SECONDARY_STATES``, 8 if unknown."""
    import mdtraj

    atoms = [
        (row, name, name[0], tuple(residues.backbone[row, column].tolist()))
        for row in range(len(residues))
        for column, name in enumerate(BACKBONE_ATOMS)
        if np.isfinite(residues.backbone[row, column]).all()
    ]
    states = mdtraj.compute_dssp(_trajectory(residues, atoms), simplified=False)[0]
    known = {" ": SECONDARY_STATES.index("-")} | {state: code for code, state in enumerate(SECONDARY_STATES)}
    return np.array([known.get(state, UNKNOWN_STATE) for state in states.tolist()], dtype=np.uint8)


def exposure(residues: ResidueArrays, structure: gemmi.Structure) -> NDArray[np.float32]:
    """Solvent-accessible surface of each residue, float32 [n] in square angstrom.

    NaN if heavy atoms of the residue are missing. Residues are found in ``structure`` by number, insertion
    code and CA atom, since chain names may differ.

    Raises:
        LookupError: a residue is not in the structure, or mdtraj has no radius for an element.
        ValueError: two atoms have the same coordinates.
    """
    import mdtraj

    atoms = list(_atoms(residues, structure))
    if _have_duplicates(np.array([position for *_, position in atoms])):  # mdtraj would end the process
        raise ValueError("two atoms have the same coordinates")
    count = np.bincount([row for row, *_ in atoms], minlength=len(residues))
    area = mdtraj.shrake_rupley(_trajectory(residues, atoms), mode="residue")[0] / _NM_PER_ANGSTROM**2
    whole = count >= _WHOLE[np.minimum(residues.residue_type, len(_WHOLE) - 1)]
    return np.where(whole, area, np.nan).astype(np.float32)


def _atoms(residues: ResidueArrays, structure: gemmi.Structure) -> Iterable[Atom]:
    """Yield the heavy atoms of the residues; of alternatives the first."""
    found: dict[tuple[int | None, str], list[gemmi.Residue]] = {}
    for chain in structure[0]:
        for residue in chain:
            if "CA" in residue:
                found.setdefault((residue.seqid.num, residue.seqid.icode), []).append(residue)
    for row in range(len(residues)):
        key = int(residues.number[row]), chr(residues.insertion_code[row])
        taken: set[str] = set()
        for atom in _nearest(found[key], residues.backbone[row, CA]):
            if atom.name not in taken and not atom.element.is_hydrogen:
                taken.add(atom.name)
                yield row, atom.name, atom.element.name, tuple(atom.pos.tolist())


def _nearest(copies: list[gemmi.Residue], ca: NDArray[np.float32]) -> gemmi.Residue:
    """Choose the residue with this CA atom from residues of all chains with one number."""
    if len(copies) == 1:
        return copies[0]
    position = gemmi.Position(*ca.tolist())
    return min(copies, key=lambda residue: min(atom.pos.dist(position) for atom in residue["CA"]))


def _have_duplicates(position: NDArray[np.float64]) -> bool:
    """True if two atoms, float64 [n, 3], have the same coordinates up to rounding.

    Atoms are sorted by x, so that only atoms at growing distances in the order are compared, until all of
    these differ in x.
    """
    ordered = position[np.argsort(position[:, 0])]
    for step in range(1, len(ordered)):
        apart = np.abs(ordered[step:] - ordered[:-step])
        if (apart.max(1) < _SAME_POSITION).any():
            return True
        if (apart[:, 0] >= _SAME_POSITION).all():
            return False
    return False


def _trajectory(residues: ResidueArrays, atoms: Iterable[Atom]) -> Any:
    import mdtraj

    topology = mdtraj.Topology()
    chains = [topology.add_chain() for _ in residues.chains]
    rows = [
        topology.add_residue("PRO" if kind == _PROLINE else "ALA", chains[chain])
        for kind, chain in zip(residues.residue_type.tolist(), residues.chain.tolist(), strict=True)
    ]
    position = []
    for row, name, element, place in atoms:
        topology.add_atom(name, mdtraj.element.Element.getBySymbol(element), rows[row])
        position.append(place)
    return mdtraj.Trajectory(np.array(position, dtype=np.float32)[None] * _NM_PER_ANGSTROM, topology)
