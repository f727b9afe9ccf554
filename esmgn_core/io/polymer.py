"""Which rows of a residue table are residues of a protein chain."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.io.residues import ResidueClass
from esmgn_core.io.table import CB, ResidueTable

N = BACKBONE_ATOMS.index("N")
C = BACKBONE_ATOMS.index("C")

MAX_PEPTIDE_BOND = 2.0
"""Largest C-N distance in angstrom that still counts as a peptide bond (1.33 in a good structure)."""

MAX_CA_CA = 4.2
"""Largest CA-CA distance in angstrom of neighbours (3.8), where N or C is missing."""

MAX_CA_CB = 2.0
"""Largest CA-CB distance in angstrom of real atoms (1.53); beads of coarse-grained models lie further."""


@dataclass(frozen=True, slots=True)
class ProteinRows:
    """Masks over the R rows of a residue table.

    Attributes:
        kept: bool [R], residues of protein chains that have a CA atom.
        without_ca: bool [R], residues of protein chains that have none, or one that is not finite.
    """

    kept: NDArray[np.bool_]
    without_ca: NDArray[np.bool_]


def protein_rows(table: ResidueTable) -> ProteinRows:
    """Tell the residues of protein chains from ligands, waters, ions and nucleic acids.

    A residue belongs to the protein if the file says that it is part of a polymer (mmCIF entity; PDB
    chain closed by TER), if it is a known amino acid in an ATOM record, or if a peptide bond joins it
    to a neighbour. So a free amino acid, a HETATM bound to nothing, is left out.
    """
    polymer = table.entity_type == gemmi.EntityType.Polymer.value
    amino_acid = table.residue_class == ResidueClass.AMINO_ACID
    possible = amino_acid | (table.residue_class == ResidueClass.UNLISTED)
    possible &= polymer | (table.entity_type == gemmi.EntityType.Unknown.value)
    trusted = polymer | (amino_acid & ~table.is_hetatm)
    candidate = possible & table.has_ca
    return ProteinRows(
        kept=candidate & (trusted | _bonded(table, candidate)),
        without_ca=possible & trusted & amino_acid & ~table.has_ca,
    )


def _bonded(table: ResidueTable, candidate: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask, bool [R], of candidates with a peptide bond to the candidate before or after them."""
    rows = np.flatnonzero(candidate)
    before, after = rows[:-1], rows[1:]
    peptide = _distance(table.position[before, C], table.position[after, N])
    trace = _distance(table.position[before, CA], table.position[after, CA])
    bond = np.where(np.isnan(peptide), trace < MAX_CA_CA, peptide < MAX_PEPTIDE_BOND)
    bond &= table.chain[before] == table.chain[after]
    bonded = np.zeros(len(candidate), dtype=np.bool_)
    bonded[before] |= bond
    bonded[after] |= bond
    return bonded


def is_coarse_grained(table: ResidueTable, kept: NDArray[np.bool_]) -> bool:
    """Whether the kept residues are beads named like atoms: no N, C or O, and CB far from CA."""
    position = table.position[kept]
    others = [N, C, BACKBONE_ATOMS.index("O")]
    if np.isfinite(position[:, others]).any():
        return False
    distance = _distance(position[:, CA], position[:, CB])
    distance = distance[np.isfinite(distance)]
    return len(distance) > 0 and float(np.median(distance)) > MAX_CA_CB


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.linalg.norm(a.astype(np.float64) - b, axis=-1)
    return distance
