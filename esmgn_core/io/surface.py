"""Secondary structure and solvent exposure of the residues of a protein, by mdtraj.

Both are computed on the protein as it was read: its chains together, one conformer, without hydrogens, waters
and ligands. mdtraj's DSSP (Kabsch and Sander 1983) needs N, CA, C and O; its Shrake-Rupley (1973, probe of
1.4 angstrom, 960 points) needs the side chains too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import AMINO_ACIDS, BACKBONE_ATOMS
from esmgn_core.io.arrays import ResidueArrays

SECONDARY_STATES = "HBEGITS-"
"""States of DSSP: alpha helix, bridge, strand, 3-10 helix, pi helix, turn, bend, loop."""
UNKNOWN_STATE = len(SECONDARY_STATES)
"""Code of a residue that lacks one of N, CA, C, O."""

_NM_PER_ANGSTROM = 0.1
_NUM_HEAVY = (5, 11, 8, 8, 6, 9, 9, 4, 10, 8, 8, 9, 8, 11, 7, 6, 7, 14, 12, 7)
_HEAVY_ATOMS = dict(zip("ARNDCQEGHILKMFPSTWYV", _NUM_HEAVY, strict=True))
_WHOLE = np.array([_HEAVY_ATOMS[letter] for letter in AMINO_ACIDS] + [4])
_PROLINE = AMINO_ACIDS.index("P")

Atom = tuple[int, str, str, tuple[float, ...]]
"""Residue, name, element, position in angstrom."""


def secondary_structure(residues: ResidueArrays) -> NDArray[np.uint8]:
    """DSSP state of each residue, uint8 [n]: place in ``SECONDARY_STATES``, 8 where it is unknown."""
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

    NaN where heavy atoms of the residue are missing. Chain identifiers, numbers and insertion codes tell
    which residues of ``structure`` are meant.

    Raises:
        LookupError: a residue is not in the structure, or mdtraj has no radius for an element.
    """
    import mdtraj

    atoms = list(_atoms(residues, structure))
    count = np.bincount([row for row, *_ in atoms], minlength=len(residues))
    area = mdtraj.shrake_rupley(_trajectory(residues, atoms), mode="residue")[0] / _NM_PER_ANGSTROM**2
    whole = count >= _WHOLE[np.minimum(residues.residue_type, len(_WHOLE) - 1)]
    return np.where(whole, area, np.nan).astype(np.float32)


def _atoms(residues: ResidueArrays, structure: gemmi.Structure) -> Iterable[Atom]:
    """Heavy atoms of the residues, of alternatives those that come first."""
    found: dict[tuple[str, int | None, str], gemmi.Residue] = {}
    for chain in structure[0]:
        for residue in chain:
            if "CA" in residue:
                found.setdefault((chain.name, residue.seqid.num, residue.seqid.icode), residue)
    for row in range(len(residues)):
        code = chr(residues.insertion_code[row])
        key = (residues.chains[residues.chain[row]], int(residues.number[row]), code)
        taken: set[str] = set()
        for atom in found[key]:
            if atom.name not in taken and not atom.element.is_hydrogen:
                taken.add(atom.name)
                yield row, atom.name, atom.element.name, tuple(atom.pos.tolist())


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
