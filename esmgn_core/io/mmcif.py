"""mmCIF text or BinaryCIF -> residue table."""

from __future__ import annotations

from dataclasses import replace

import gemmi

from esmgn_core.io.atom_site import add_missing_columns, missing_columns, why_no_atoms
from esmgn_core.io.bcif import read_bcif
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.notes import not_read
from esmgn_core.io.table import ResidueTable, gemmi_errors, residue_table

_ANY_ATOM = "_atom_site.Cartn_x"


def read_mmcif(text: bytes, *, is_binary: bool = False) -> tuple[ResidueTable, int, gemmi.cif.Block]:
    """The residues of the first model, the number of models, and the block they stand in.

    Chains have the author's identifiers, residues the author's numbers. Where copies of a chain have
    one author's identifier, as in some assemblies, all chains have the ``label_asym_id`` instead.

    Raises:
        UnreadableError: not valid CIF or BinaryCIF, or no block with atoms.
    """
    with gemmi_errors():
        document = read_bcif(text) if is_binary else gemmi.cif.read_string(text)
    for number, block in enumerate(document):
        add_missing_columns(block)
        if missing_columns(block):
            continue
        structure = mmcif_structure(block)
        if len(structure) and structure[0].count_atom_sites():
            table = residue_table(structure)
            if table.repeats_atoms and _rename_chains(block):
                renamed = residue_table(mmcif_structure(block))
                table = table if renamed.repeats_atoms else renamed
            notes = [not_read("models after the first", len(structure) - 1)] if len(structure) > 1 else []
            if more := sum(bool(block.find_values(_ANY_ATOM)) for block in list(document)[number + 1 :]):
                notes.append(not_read("further data blocks with atoms", more))
            return replace(table, notes=tuple(notes)), len(structure), block
    raise UnreadableError(why_no_atoms(document))


def mmcif_structure(block: gemmi.cif.Block) -> gemmi.Structure:
    """All atoms of a block, the parts of each chain joined."""
    with gemmi_errors():
        structure = gemmi.make_structure_from_block(block)
    structure.merge_chain_parts()
    return structure


def _rename_chains(block: gemmi.cif.Block) -> bool:
    """Put ``label_asym_id`` in the place of ``auth_asym_id``; False if the block lacks either."""
    author = block.find_values("_atom_site.auth_asym_id")
    label = block.find_values("_atom_site.label_asym_id")
    for row, name in enumerate(label if len(author) == len(label) else ()):
        author[row] = name
    return 0 < len(author) == len(label)
