"""Complete the atom tables of mmCIF blocks, and explain why a block has no atoms."""

from __future__ import annotations

import re
from collections.abc import Sequence

import gemmi

_PREFIX = "_atom_site."
_COORDINATES = ("Cartn_x", "Cartn_y", "Cartn_z")
_EITHER = (
    ("label_atom_id", "auth_atom_id"),
    ("label_comp_id", "auth_comp_id"),
    ("label_seq_id", "auth_seq_id"),
    ("label_asym_id", "auth_asym_id"),
)
_ADDED = ("id", "type_symbol", "label_alt_id", "label_asym_id")
_OTHER_CONTENT = {
    "_refln.": "reflections (structure factors), not coordinates: get the entry's model (.cif without -sf)",
    "_chem_comp_atom.": "the definition of a chemical component, not a structure",
    "_ihm_sphere_obj_site.": "an integrative model of spheres, without atoms",
    "_atom_site_fract_x": "a small-molecule crystal structure (fractional coordinates), not a protein",
    "_pdbx_vrpt_summary.": "a validation report, not coordinates: get the entry's model",
}
"""Tag, or beginning of a tag, in blocks without atoms -> what the block contains."""


def missing_columns(block: gemmi.cif.Block) -> list[str]:
    """List the required columns of the atom table that this block lacks."""
    tags = _tags(block)
    missing = [f"{_PREFIX}{name}" for name in _COORDINATES if name not in tags]
    return missing + [f"{_PREFIX}{one} or {other}" for one, other in _EITHER if not {one, other} & tags]


def add_missing_columns(block: gemmi.cif.Block) -> None:
    """Add the columns that gemmi requires and that follow from the others.

    These are ``id`` (atoms are numbered), ``type_symbol`` (from the names of atoms and residues),
    ``label_alt_id`` (no alternate locations) and ``label_asym_id`` (the author's chain).
    """
    absent = [name for name in _ADDED if name not in _tags(block)]
    loop = block.find_loop(f"{_PREFIX}Cartn_x").get_loop()
    if not absent or loop is None or missing_columns(block):
        return
    values: dict[str, Sequence[str]] = {}
    if "id" in absent:
        values["id"] = [str(number) for number in range(1, loop.length() + 1)]
    if "type_symbol" in absent:
        atoms, residues = _column(block, *_EITHER[0]), _column(block, *_EITHER[1])
        values["type_symbol"] = [element_of(a, r) for a, r in zip(atoms, residues, strict=True)]
    if "label_asym_id" in absent:
        values["label_asym_id"] = _column(block, "auth_asym_id")
    loop.add_columns([f"{_PREFIX}{name}" for name in absent], ".")
    for name, column in values.items():
        target = block.find_values(f"{_PREFIX}{name}")
        for row, value in enumerate(column):
            target[row] = value


def _tags(block: gemmi.cif.Block) -> set[str]:
    """Column names of the atom table, without their prefix; empty if the block has no table."""
    return {tag[len(_PREFIX) :] for tag in block.find_mmcif_category(_PREFIX).tags}


def _column(block: gemmi.cif.Block, *names: str) -> list[str]:
    """Raw values of the first of these columns that exists; empty if none does."""
    return next((list(found) for name in names if (found := block.find_values(f"{_PREFIX}{name}"))), [])


def element_of(atom: str, residue: str) -> str:
    """Infer the element symbol of an atom from its name and the residue name.

    >>> element_of("CA", "ALA"), element_of("CA", "CA"), element_of("1HB", "SER"), element_of("SE", "MSE")
    ('C', 'CA', 'H', 'SE')
    """
    letters = re.sub("[^A-Z]", "", gemmi.cif.as_string(atom).upper())
    standard = gemmi.find_tabulated_residue(gemmi.cif.as_string(residue).upper())
    in_protein = standard.found() and (standard.is_amino_acid() or standard.is_nucleic_acid())
    symbol = letters[:2]
    if symbol == "SE" or (not in_protein and len(letters) > 1 and gemmi.Element(symbol).is_metal):
        return symbol
    return letters[:1] or "X"


def why_no_atoms(document: gemmi.cif.Document) -> str:
    """Explain why no block of a document has readable atoms: missing columns, or other content."""
    for block in document:
        if _tags(block):
            missing = ", ".join(missing_columns(block))
            return (
                f"its _atom_site table lacks {missing}" if missing else "its _atom_site table cannot be read"
            )
    for block in document:
        for tag, what in _OTHER_CONTENT.items():
            if any(name == tag for name in block.get_mmcif_category_names()) or block.find_values(tag):
                return f"no atoms, but {what}"
    return "the mmCIF text has no atoms (no _atom_site table)"
