"""Read PDB text into a residue table, with checks that gemmi does not make.

gemmi reads a coordinate field that is not a number (``********``, blank, shifted by a column) as zero. Here
it is an error. gemmi reads residue names of four letters as chains of two letters, and merges residues of
chains that share a name; see :mod:`esmgn_core.io.pdb_lines`.
"""

from __future__ import annotations

import re
from dataclasses import replace

import gemmi
import numpy as np

from esmgn_core.io.files import UnreadableError
from esmgn_core.io.notes import not_read
from esmgn_core.io.pdb_lines import AtomLines, DividedText, divided_text
from esmgn_core.io.table import ResidueTable, gemmi_errors, residue_table

_MODEL_END = re.compile(rb"\n(?i:END)(?:(?i:MDL)|\s|\Z)")  # the rule of gemmi
_ANY_ATOM = re.compile(rb"\n(?:ATOM|HETATM)")
_CA_ATOM = re.compile(rb"\n(?:ATOM  |HETATM)[^\n]{6} CA ")


def read_pdb(text: bytes) -> tuple[ResidueTable, int]:
    """Return the residues of the first model, and the number of models.

    Raises:
        UnreadableError: there are no atoms, or a coordinate field is cut off or not a number.
    """
    num_models = max(1, text.count(b"\nENDMDL"))
    model, notes = _first_model(text, num_models)
    if len(model) < len(text) and _ANY_ATOM.search(text) and not _ANY_ATOM.search(b"\n" + model):
        raise UnreadableError("no atoms in the first model: an END record is before them")
    table, _ = _read(model)
    # gemmi calls everything after TER a ligand, but some programs write TER at a chain break.
    ligand = table.entity_type == gemmi.EntityType.NonPolymer.value
    unknown = np.where(ligand, gemmi.EntityType.Unknown.value, table.entity_type).astype(np.uint8)
    return replace(table, entity_type=unknown, notes=(*notes, *table.notes)), num_models


def _read(model: bytes) -> tuple[ResidueTable, DividedText | None]:
    """Return the residues of a model, and the rewritten text if its chains had to be divided."""
    lines = AtomLines.of(model)
    divided = table = None
    # Dividing chains takes long, so it is done only if the text, or the table of gemmi, shows a need for it.
    if not lines.may_hide_chains:
        table = residue_table(_parse(model))
    if table is None or _merges_chains(table, has_ter=b"\nTER" in model):
        divided = divided_text(model, lines)
    if divided is not None:
        table = residue_table(_parse(divided.text, ignore_ter=True))
        if unknown := set(table.chains) - divided.names.keys():
            raise UnreadableError(
                f"atoms of chain {min(unknown)!r} are damaged: gemmi reads another chain name"
            )
        names = tuple(divided.names[code] for code in table.chains)
        table = replace(table, chains=names, notes=divided.notes)
    return table or residue_table(_parse(model)), divided


def _merges_chains(table: ResidueTable, *, has_ter: bool) -> bool:
    """True if residues repeat in a chain, or TER records divide a chain without a name."""
    if table.repeats_residues:
        return True
    return has_ter and any(not table.chains[chain] for chain in np.unique(table.chain[table.has_ca]))


def _first_model(text: bytes, num_models: int) -> tuple[bytes, tuple[str, ...]]:
    """Return the text of the first model, and notes on content after it."""
    end = _MODEL_END.search(text)
    if end is None:
        return text, ()
    notes, last_model_end = [], end.start()
    if end[0][4:].upper() == b"MDL":
        last_model_end = text.rfind(b"\nENDMDL")
        if num_models > 1:
            notes.append(not_read("models after the first", num_models - 1))
    if after_end := len(_CA_ATOM.findall(text, last_model_end)):
        notes.append(not_read("residues after END", after_end))
    return text[: end.start() + 1], tuple(notes)


def pdb_structure(text: bytes) -> gemmi.Structure:
    """Parse all atoms of PDB text, with the chains of the first model divided as by :func:`read_pdb`."""
    structure = _parse(text)
    _, divided = _read(_first_model(text, 1)[0])
    return structure if divided is None else _parse(divided.text, ignore_ter=True)


def _parse(text: bytes, *, ignore_ter: bool = False) -> gemmi.Structure:
    with gemmi_errors():
        structure = gemmi.read_pdb_string(text, ignore_ter=ignore_ter)
    structure.merge_chain_parts()
    return structure
