"""The rows of a residue table that are residues of a protein chain, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.residues import ResidueClass
from esmgn_core.io.table import CB, ResidueTable

N = BACKBONE_ATOMS.index("N")
C = BACKBONE_ATOMS.index("C")

CLASS_WORDS = {
    ResidueClass.AMINO_ACID: "free amino acid",
    ResidueClass.NUCLEOTIDE: "nucleotide",
    ResidueClass.WATER: "water",
    ResidueClass.OTHER: "ligand",
    ResidueClass.UNLISTED: "unknown residue",
}
"""What messages and reports call residues that are not of a protein."""

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


def rows_of_protein(table: ResidueTable) -> ProteinRows:
    """Select the residues of protein chains from ligands, waters, ions and nucleic acids.

    A residue belongs to the protein if the file says that it is part of a polymer (mmCIF entity; PDB
    chain closed by TER), if it is a known amino acid in an ATOM record, or if a peptide bond joins it
    to a neighbour. So a free amino acid, a HETATM bound to nothing, is left out.

    Raises:
        UnreadableError: there are no residues of a protein, they are coarse-grained beads, or all are at one
            place; the message says which.
    """
    polymer = table.entity_type == gemmi.EntityType.Polymer.value
    amino_acid = table.residue_class == ResidueClass.AMINO_ACID
    possible = amino_acid | (table.residue_class == ResidueClass.UNLISTED)
    possible &= polymer | (table.entity_type == gemmi.EntityType.Unknown.value)
    trusted = polymer | (amino_acid & ~table.is_hetatm)
    candidate = possible & table.has_ca
    rows = ProteinRows(
        kept=candidate & (trusted | _bonded(table, candidate)),
        without_ca=possible & trusted & amino_acid & ~table.has_ca,
    )
    if not rows.kept.any():
        raise UnreadableError(_why_no_protein(table, rows))
    if _is_coarse_grained(table, rows.kept):
        raise UnreadableError("coarse-grained beads, not atoms: CB lies far from CA, and there is no N, C, O")
    ca = table.position[rows.kept, CA]
    if len(ca) > 1 and (ca == ca[0]).all():
        x, y, z = ca[0].tolist()
        raise UnreadableError(
            f"all {len(ca)} CA atoms are at one place ({x:g}, {y:g}, {z:g}): no coordinates"
        )
    return rows


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


def _is_coarse_grained(table: ResidueTable, kept: NDArray[np.bool_]) -> bool:
    """True if the kept residues are beads named like atoms: no N, C or O, and CB far from CA."""
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


def _why_no_protein(table: ResidueTable, rows: ProteinRows) -> str:
    if rows.without_ca.any():
        return f"no CA atom in any of its amino-acid residues ({rows.without_ca.sum()})"
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for residue_class, word in CLASS_WORDS.items()
        if (count := int((table.residue_class == residue_class).sum()))
    ]
    return f"no protein residue, only {' and '.join(counts)}"
