"""Read mmCIF text or BinaryCIF into a residue table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.io.atom_site import add_missing_columns, missing_columns, why_no_atoms
from esmgn_core.io.bcif import read_bcif
from esmgn_core.io.copies import DROPPED, Atoms, divide
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.notes import not_read
from esmgn_core.io.table import ResidueTable, gemmi_errors, residue_table

_ANY_ATOM = "_atom_site.Cartn_x"
_CHAIN = "_atom_site.auth_asym_id"
_LABEL = "_atom_site.label_asym_id"


def read_mmcif(text: bytes, *, is_binary: bool = False) -> tuple[ResidueTable, int, gemmi.cif.Block]:
    """Return the residues of the first model, the number of models, and the block of the atoms.

    Chains have the author's identifiers, residues the author's numbers; see :func:`block_table`.

    Raises:
        UnreadableError: the content is not valid CIF or BinaryCIF, has no block with atoms, or its chains
            cannot be divided.
    """
    with gemmi_errors():
        document = read_bcif(text) if is_binary else gemmi.cif.read_string(text)
    for number, block in enumerate(document):
        with gemmi_errors():  # raised if the loop has columns of another category
            add_missing_columns(block)
        if missing_columns(block):
            continue
        structure = mmcif_structure(block)
        if len(structure) and structure[0].count_atom_sites():
            table = block_table(block, structure)
            notes = [not_read("models after the first", len(structure) - 1)] if len(structure) > 1 else []
            if more := sum(bool(block.find_values(_ANY_ATOM)) for block in list(document)[number + 1 :]):
                notes.append(not_read("further data blocks with atoms", more))
            return replace(table, notes=(*notes, *table.notes)), len(structure), block
    raise UnreadableError(why_no_atoms(document))


def mmcif_structure(block: gemmi.cif.Block) -> gemmi.Structure:
    """Parse all atoms of a block, with the parts of each chain joined."""
    with gemmi_errors():
        structure = gemmi.make_structure_from_block(block)
    structure.merge_chain_parts()
    return structure


def block_table(block: gemmi.cif.Block, structure: gemmi.Structure) -> ResidueTable:
    """Return the residues of the first model of a block. Changes the block if chains share a name.

    1. If copies of a chain share an author's identifier, as in some assemblies, all chains are named by
       ``label_asym_id``.
    2. If that does not distinguish them, or if proteins of one author's identifier differ in
       ``label_asym_id``, chains are divided as in PDB text.

    Args:
        block: a block with atoms.
        structure: the result of :func:`mmcif_structure` for it.

    Raises:
        UnreadableError: see :func:`esmgn_core.io.copies.divide`.
    """
    table = residue_table(structure)
    if table.repeats_atoms:
        author = list(block.find_values(_CHAIN))
        if _write_chains(block, list(block.find_values(_LABEL))):
            renamed = residue_table(mmcif_structure(block))
            if not renamed.repeats_atoms:
                return renamed
            _write_chains(block, author)
    if not table.repeats_residues and not _has_several_polymers(table):
        return table
    atoms = _atoms(block)
    division = divide(atoms)
    if not division.notes:
        return table
    _write_chains(block, [f"c{number}" for number in _every_row(division.chain, atoms.chain)])
    divided = residue_table(mmcif_structure(block))
    names = tuple(division.names[int(code[1:])] for code in divided.chains)
    return replace(divided, chains=names, notes=division.notes)


def _has_several_polymers(table: ResidueTable) -> bool:
    """True if the amino acids of a chain have more than one ``label_asym_id``."""
    rows = table.is_trusted & table.has_ca
    pairs = np.unique(np.stack([table.chain[rows], table.subchain[rows]]), axis=1)
    return bool(len(np.unique(pairs[0])) < pairs.shape[1])


def _write_chains(block: gemmi.cif.Block, names: Sequence[str]) -> bool:
    """Write the chain identifiers of the first atoms; return False if the block has fewer atoms, or none."""
    author = block.find_values(_CHAIN if block.find_values(_CHAIN) else _LABEL)
    for row, name in enumerate(names if len(author) >= len(names) else ()):
        author[row] = name
    return 0 < len(names) <= len(author)


def _atoms(block: gemmi.cif.Block) -> Atoms:
    """Return the atoms of the first model, with ``label_asym_id`` as segment."""
    model = _column(block, "pdbx_PDB_model_num")
    count = int((model == model[0]).argmin()) if len(model) and (model != model[0]).any() else None

    def column(*items: str) -> NDArray[np.bytes_]:
        found = next((values for item in items if len(values := _column(block, item))), None)
        return np.zeros(len(position), dtype="S1") if found is None else found[:count]

    coordinates = [_column(block, f"Cartn_{axis}")[:count] for axis in "xyz"]
    with np.errstate(all="ignore"):
        position = np.stack([_numbers(values) for values in coordinates], axis=1)
    number = column("auth_seq_id", "label_seq_id")
    code = column("pdbx_PDB_ins_code")
    return Atoms(
        chain=column("auth_asym_id", "label_asym_id"),
        part=np.zeros(len(position), dtype=np.int64),
        segment=column("label_asym_id"),
        number=np.char.add(np.char.add(number, np.bytes_(b" ")), code),
        residue=column("auth_comp_id", "label_comp_id"),
        name=column("auth_atom_id", "label_atom_id"),
        altloc=column("label_alt_id"),
        position=position,
        is_hetatm=column("group_PDB") == b"HETATM",
    )


def _column(block: gemmi.cif.Block, item: str) -> NDArray[np.bytes_]:
    texts = map(gemmi.cif.as_string, block.find_values(f"_atom_site.{item}"))
    return np.array([text.encode("latin-1", "replace") for text in texts], dtype=bytes)


def _numbers(values: NDArray[np.bytes_]) -> NDArray[np.float64]:
    return np.array([gemmi.cif.as_number(value.decode("latin-1")) for value in values.tolist()])


def _every_row(chain: NDArray[np.int64], name: NDArray[np.bytes_]) -> Iterator[int]:
    """The chain of each atom; alternates stay beside the residue they repeat, which is read."""
    latest: dict[bytes, int] = {}
    for number, one in zip(chain.tolist(), name.tolist(), strict=True):
        latest[one] = number if number != DROPPED else latest.get(one, 0)
        yield latest[one]
