"""PDB text -> residue table, with two things gemmi leaves to its callers.

A coordinate field that is no number (``********``, blank, shifted by a column) is zero to gemmi; here
it is an error. Chains that only TER records divide are one chain to gemmi; here they are several.
"""

from __future__ import annotations

import re
from dataclasses import replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.files import UnreadableError
from esmgn_core.io.notes import not_read
from esmgn_core.io.table import ResidueTable, gemmi_errors, residue_table

_MODEL_END = re.compile(rb"\n(?i:END)(?:(?i:MDL)|\s|\Z)")  # as gemmi has it
_ANY_ATOM = re.compile(rb"\n(?:ATOM|HETATM)")
_CA_ATOM = re.compile(rb"\n(?:ATOM  |HETATM)[^\n]{6} CA ")
_COORDINATES = np.arange(30, 54).reshape(3, 8)  # x, y and z, eight columns each


def read_pdb(text: bytes) -> tuple[ResidueTable, int]:
    """The residues of the first model, and the number of models.

    Raises:
        UnreadableError: no atoms, or a coordinate field that is cut off or not a number.
    """
    num_models = max(1, text.count(b"\nENDMDL"))
    model, notes = _first_model(text, num_models)
    if len(model) < len(text) and _ANY_ATOM.search(text) and not _ANY_ATOM.search(b"\n" + model):
        raise UnreadableError("no atoms in the first model: an END record is before them")
    _check_coordinates(model)
    table = residue_table(_parse(model))
    blank_chain = any(not table.chains[chain] for chain in np.unique(table.chain[table.has_ca]))
    if (table.repeats_atoms or blank_chain) and b"\nTER" in model:
        table = residue_table(_parse(model, split_chain_on_ter=True))
    if len(set(table.chains)) < len(table.chains):
        table = _join_parts(table)
    # gemmi calls all that follows TER a ligand, but some programs write TER at a chain break.
    ligand = table.entity_type == gemmi.EntityType.NonPolymer.value
    unknown = np.where(ligand, gemmi.EntityType.Unknown.value, table.entity_type).astype(np.uint8)
    return replace(table, entity_type=unknown, notes=notes), num_models


def _first_model(text: bytes, num_models: int) -> tuple[bytes, tuple[str, ...]]:
    """The first model, and notes on what follows it."""
    end = _MODEL_END.search(text)
    if end is None:
        return text, ()
    notes, read_to = [], end.start()
    if end[0][4:].upper() == b"MDL":
        read_to = text.rfind(b"\nENDMDL")
        if num_models > 1:
            notes.append(not_read("models after the first", num_models - 1))
    if after_end := len(_CA_ATOM.findall(text, read_to)):
        notes.append(not_read("residues after END", after_end))
    return text[: end.start() + 1], tuple(notes)


def pdb_structure(text: bytes) -> gemmi.Structure:
    """All atoms of PDB text. What TER records divide stays apart, also chains of one name."""
    return _parse(text, split_chain_on_ter=True)


def _parse(text: bytes, *, split_chain_on_ter: bool = False) -> gemmi.Structure:
    with gemmi_errors():
        return gemmi.read_pdb_string(text, split_chain_on_ter=split_chain_on_ter)


def _check_coordinates(text: bytes) -> None:
    """Raise for the first atom whose coordinates are cut off or not three numbers."""
    characters = np.frombuffer(text, dtype=np.uint8)
    starts = np.concatenate([[0], np.flatnonzero(characters == ord("\n")) + 1])
    lengths = np.diff(starts, append=len(text) + 1) - 1
    named = np.flatnonzero(lengths >= 4)
    records = np.ascontiguousarray(characters[starts[named, None] + np.arange(4)]).view("S4")[:, 0]
    lines = named[(records == b"ATOM") | (records == b"HETA")]
    if not len(lines):
        raise UnreadableError("no ATOM or HETATM record")
    whole = lengths[lines] > _COORDINATES.max()
    if not whole.all():
        raise UnreadableError(f"line {lines[~whole][0] + 1} is cut off inside the coordinates")
    fields = characters[_COORDINATES[..., None] + starts[lines]]
    for field, atom in np.argwhere(~_look_like_numbers(fields)):
        if not _is_number(fields[field, :, atom].tobytes()):
            content = fields[:, :, atom].tobytes().decode("latin-1")
            raise UnreadableError(f"line {lines[atom] + 1} has no numbers for coordinates: {content!r}")


def _look_like_numbers(fields: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Bool [3, n]: which fields, characters [3, 8, n], are one run of a sign, digits and one point."""
    filled = fields != ord(" ")
    digit = fields - np.uint8(ord("0")) < 10
    point = fields == ord(".")
    sign = (fields == ord("-")) | (fields == ord("+"))
    begins = filled.copy()
    begins[:, 1:] &= ~filled[:, :-1]
    strange = filled & ~(digit | point | (sign & begins))
    counts = [mark.sum(1, dtype=np.uint8) for mark in (begins, point)]
    looks_good: NDArray[np.bool_] = (counts[0] == 1) & (counts[1] == 1) & digit.any(1) & ~strange.any(1)
    return looks_good


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _join_parts(table: ResidueTable) -> ResidueTable:
    """Number the chains of a table whose every contiguous part of a chain is a chain of its own.

    A part continues the last chain of its name unless that name is blank or the chain already holds
    one of the part's residue numbers.
    """
    identity = table.number.astype(np.int64) * 256 + table.insertion_code
    chain_of_part = np.zeros(len(table.chains), dtype=np.int64)
    names: list[str] = []
    seen: list[set[int]] = []
    last: dict[str, int] = {}
    for part, name in enumerate(table.chains):
        numbers = set(identity[(table.chain == part) & table.has_ca].tolist())
        chain = last.get(name)
        if chain is None or not name or seen[chain] & numbers:
            chain = last[name] = len(names)
            names.append(name)
            seen.append(set())
        seen[chain] |= numbers
        chain_of_part[part] = chain
    joined = replace(table, chain=chain_of_part[table.chain], chains=tuple(names))
    return joined.take(np.argsort(joined.chain, kind="stable"))
