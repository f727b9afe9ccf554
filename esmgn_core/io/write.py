"""Write proteins as structure files that read back as the same proteins."""

from __future__ import annotations

import gemmi

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import BACKBONE_ATOMS, Protein
from esmgn_core.errors import DataError

_NAMES = [gemmi.expand_one_letter(letter, gemmi.ResidueKind.AA) for letter in AMINO_ACIDS] + ["UNK"]
_ELEMENTS = [gemmi.Element(name[0]) for name in BACKBONE_ATOMS]
_MAX_PDB_CHAIN = 2
_PDB_NUMBERS = range(-999, 10_000)


def pdb_text(protein: Protein) -> str:
    """Write a protein as PDB text; pLDDT becomes B-factors, declared by a record.

    Raises:
        DataError: its chain names or residue numbers do not fit the format.
    """
    too_long = [chain for chain in protein.chains if len(chain) > _MAX_PDB_CHAIN]
    numbers = (int(protein.residue_index.min()), int(protein.residue_index.max()))
    if too_long or not all(number in _PDB_NUMBERS for number in numbers):
        what = f"chain '{too_long[0]}'" if too_long else f"residue numbers {numbers[0]} to {numbers[1]}"
        raise DataError(f"'{protein.name}' does not fit the PDB format: {what}", "write mmCIF: --format cif")
    options = gemmi.PdbWriteOptions(minimal=True)
    # The record of ESMFold and OpenFold, by which readers recognise B-factors as pLDDT.
    return ("PARENT N/A\n" if protein.plddt is not None else "") + structure(protein).make_pdb_string(options)


def mmcif_text(protein: Protein) -> str:
    """Write a protein as mmCIF text; pLDDT becomes B-factors, declared by a table.

    Raises:
        DataError: two of its chains share a name, or a name has characters that the format cannot hold.
    """
    if len(set(protein.chains)) < len(protein.chains):
        raise DataError(f"'{protein.name}' has two chains with the same name", "write PDB: --format pdb")
    for chain in protein.chains:
        if not (chain.isascii() and chain.isprintable()):
            raise DataError(f"'{protein.name}' does not fit the mmCIF format: chain '{chain}'")
    document = structure(protein).make_mmcif_document()
    # gemmi quotes names such as _ and $x in the table of atoms, but not in the table of chains.
    column = document[0].find_loop("_struct_asym.id")
    for row, name in enumerate(column):
        column[row] = gemmi.cif.quote(name)
    if protein.plddt is not None:
        metric = {"id": [1], "mode": ["local"], "name": ["pLDDT"], "type": ["pLDDT"]}
        document[0].set_mmcif_category("_ma_qa_metric.", metric)
    return document.as_string()


def structure(protein: Protein) -> gemmi.Structure:
    """Convert a protein to a gemmi structure of one model."""
    model = gemmi.Model(1)
    chains = [gemmi.Chain(name) for name in protein.chains]
    present, position = protein.atom_mask.tolist(), protein.backbone.tolist()
    types, numbers = protein.residue_type.tolist(), protein.residue_index.tolist()
    codes = [" "] * len(types)
    if protein.insertion_code is not None:
        codes = [chr(code) for code in protein.insertion_code.tolist()]
    factors = [0.0] * len(types) if protein.plddt is None else protein.plddt.tolist()
    for row, chain in enumerate(protein.chain_index.tolist()):
        residue = gemmi.Residue()
        residue.name, residue.seqid = _NAMES[types[row]], gemmi.SeqId(numbers[row], codes[row])
        residue.entity_type, residue.het_flag = gemmi.EntityType.Polymer, "A"
        for slot, name in enumerate(BACKBONE_ATOMS):
            if present[row][slot]:
                residue.add_atom(_atom(name, _ELEMENTS[slot], position[row][slot], factors[row]))
        chains[chain].add_residue(residue)
    for chain in chains:
        model.add_chain(chain)
    whole = gemmi.Structure()
    whole.name = protein.name
    whole.add_model(model)
    whole.setup_entities()
    return whole


def _atom(name: str, element: gemmi.Element, position: list[float], b_factor: float) -> gemmi.Atom:
    atom = gemmi.Atom()
    atom.name, atom.element, atom.b_iso, atom.occ = name, element, b_factor, 1.0
    atom.pos = gemmi.Position(*position)
    return atom
