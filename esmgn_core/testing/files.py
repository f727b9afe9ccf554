"""Write proteins as PDB files, for tests."""

from __future__ import annotations

from pathlib import Path

import gemmi

from esmgn_core.batch import BACKBONE_ATOMS, Protein


def write_pdb(protein: Protein, path: Path) -> Path:
    """Write the backbone of a protein."""
    lines: list[str] = []
    for row, letter in enumerate(protein.sequence):
        chain = protein.chains[int(protein.chain_index[row])]
        code = gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA)
        residue = f"{code} {chain}{int(protein.residue_index[row]):4d}"
        for column, atom in enumerate(BACKBONE_ATOMS):
            if protein.atom_mask[row, column]:
                place = "".join(f"{value:8.3f}" for value in protein.backbone[row, column].tolist())
                serial = f"ATOM  {len(lines) + 1:5d}"
                lines.append(f"{serial}  {atom:<3s} {residue}    {place}  1.00 20.00          {atom[0]:>2s}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "END"]) + "\n")
    return path
