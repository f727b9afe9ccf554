"""Select the protein residues of a residue table, or explain why it has none."""

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
"""Names of residue classes in messages and reports."""

MAX_PEPTIDE_BOND = 2.0
"""Largest C-N distance of a peptide bond, in angstrom (1.33 in a good structure)."""

MAX_CA_CA = 4.2
"""Largest CA-CA distance of bonded residues, in angstrom (3.8), used if N or C is missing."""

MAX_CA_CB = 2.0
"""Largest CA-CB distance of atoms, in angstrom (1.53); coarse-grained beads are further apart."""


@dataclass(frozen=True, slots=True)
class ProteinRows:
    """Masks over the R rows of a residue table.

    Attributes:
        kept: bool [R], residues of protein chains that have a CA atom.
        without_ca: bool [R], residues of protein chains without a CA atom with finite coordinates.
    """

    kept: NDArray[np.bool_]
    without_ca: NDArray[np.bool_]


def rows_of_protein(table: ResidueTable) -> ProteinRows:
    """Select the residues of protein chains; leave out ligands, waters, ions and nucleic acids.

    A residue is part of the protein if the file declares it as part of a polymer (mmCIF entity; PDB chain
    closed by TER), if it is a known amino acid in an ATOM record, or if a peptide bond joins it to another.
    A free amino acid, a HETATM without bonds, is left out.

    Raises:
        UnreadableError: there are no protein residues, they are coarse-grained beads, or all CA atoms have
            the same coordinates.
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
        raise UnreadableError(
            "coarse-grained beads, not atoms: CB is far from CA, and N, C and O are missing"
        )
    ca = table.position[rows.kept, CA]
    if len(ca) > 1 and (ca == ca[0]).all():
        x, y, z = ca[0].tolist()
        raise UnreadableError(f"all {len(ca)} CA atoms have the same coordinates ({x:g}, {y:g}, {z:g})")
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
    """True if the kept residues are beads with names of atoms: no N, C or O, and CB far from CA."""
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
