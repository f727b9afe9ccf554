"""Data sets of ATOM3D: LMDB folders with one gzipped JSON record per example.

Source: Townshend et al. 2021 (arXiv 2012.04035), https://www.atom3d.ai.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gemmi
import lmdb

from esmgn_core.errors import StructureError
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.files import UnreadableError
from esmgn_core.io.read import rows_of_protein
from esmgn_core.io.table import gemmi_errors, residue_table

if TYPE_CHECKING:
    from esmgn_core.batch import Protein

_DATA = "data.mdb"
_COLUMNS = ("chain", "hetero", "insertion_code", "residue", "resname", "x", "y", "z", "name")

_CIF_ITEMS = {
    "label_atom_id": "name",
    "auth_atom_id": "name",
    "label_alt_id": "altloc",
    "label_comp_id": "resname",
    "label_asym_id": "chain",
    "auth_asym_id": "chain",
    "auth_seq_id": "residue",
    "pdbx_PDB_ins_code": "insertion_code",
    "Cartn_x": "x",
    "Cartn_y": "y",
    "Cartn_z": "z",
    "occupancy": "occupancy",
    "B_iso_or_equiv": "bfactor",
    "type_symbol": "element",
}
"""mmCIF item of ``_atom_site`` -> column of an ATOM3D table of atoms."""

Record = Mapping[str, Any]


class Atom3DRecords(Sequence[Record]):
    """The records of one LMDB folder, read one at a time; safe to send to other processes.

    A record is a dictionary as the data set defines it (``id``, ``scores``, ``label``, ...). Each table
    of atoms in it is a dictionary of columns, lists of equal length; :func:`atoms_to_protein` reads it.

    Raises:
        StructureError: the folder is no LMDB of ATOM3D, or a record is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.parent if path.name == _DATA else path
        if not (self.path / _DATA).is_file():
            raise StructureError(f"no ATOM3D data set in {self.path}: it has no {_DATA}")
        stored = self._get("num_examples")
        form = self._get("serialization_format")
        if stored is None or form is None:
            raise StructureError(f"{self.path / _DATA} is an LMDB, but not one of ATOM3D: no 'num_examples'")
        if form != b"json":
            raise StructureError(
                f"{self.path / _DATA} holds records in the format '{form.decode()}', only json is read",
                "convert it with the package atom3d: atom3d.datasets.make_lmdb_dataset(..., "
                "serialization_format='json')",
            )
        self._length = int(stored)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.read(index % len(self))

    def __iter__(self) -> Iterator[Record]:
        return map(self.read, range(len(self)))

    def read(self, index: int) -> Record:
        """Record ``index``, 0 <= index < len."""
        packed = self._get(str(index))
        if packed is None:
            raise StructureError(f"{self.path / _DATA} has no record {index}; it says it has {len(self)}")
        try:
            record = json.loads(gzip.decompress(packed))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise StructureError(f"record {index} of {self.path / _DATA} is damaged: {error}") from error
        return {name: _columns(value) for name, value in record.items()}

    def _get(self, key: str) -> bytes | None:
        # Opened for each look: LMDB bears neither two openings in one process nor a fork with it open.
        try:
            with (
                lmdb.open(str(self.path), readonly=True, lock=False, readahead=False) as environment,
                environment.begin() as transaction,
            ):
                value: bytes | None = transaction.get(key.encode())
        except lmdb.Error as error:
            raise StructureError(f"cannot open {self.path / _DATA} as LMDB: {error}") from error
        return value


def _columns(value: Any) -> Any:
    """A stored data frame as a dictionary of columns; anything else as it is."""
    if not (isinstance(value, dict) and value.keys() >= {"columns", "data"}):
        return value
    rows = zip(*value["data"], strict=True) if value["data"] else ([] for _ in value["columns"])
    return {name: list(column) for name, column in zip(value["columns"], rows, strict=True)}


def atoms_to_protein(atoms: Mapping[str, Sequence[Any]], name: str) -> Protein:
    """The protein in one table of atoms, by the rules of :func:`esmgn_core.io.read_structure`.

    The first model is read. Hydrogens and side chains do not matter.

    Args:
        atoms: columns of the table, as :class:`Atom3DRecords` gives them; x, y, z in angstrom.
        name: name of the protein.

    Raises:
        StructureError: a column is missing, or there is no protein in the table.
    """
    try:
        return atoms_to_residues(atoms).protein(name)
    except UnreadableError as error:
        raise StructureError(f"no protein in the atoms of '{name}': {error}") from error


def atoms_to_residues(atoms: Mapping[str, Sequence[Any]]) -> ResidueArrays:
    """Like :func:`atoms_to_protein`, as arrays.

    Raises:
        UnreadableError: a column is missing, or there is no protein in the table.
    """
    if missing := [column for column in _COLUMNS if column not in atoms]:
        raise UnreadableError(f"the table lacks the columns: {', '.join(missing)}")
    with gemmi_errors():
        structure = _structure(atoms)
    table = residue_table(structure)
    return ResidueArrays.from_table(table.take(rows_of_protein(table).kept), has_plddt=False)


def _structure(atoms: Mapping[str, Sequence[Any]]) -> gemmi.Structure:
    if not atoms["x"]:
        raise UnreadableError("the table has no atoms")
    models = atoms.get("model", ())
    rows = [row for row in range(len(atoms["x"])) if not models or models[row] == models[0]]
    items: dict[str, list[Any]] = {
        item: [_cif(atoms[column][row]) for row in rows]
        for item, column in _CIF_ITEMS.items()
        if column in atoms
    }
    items["group_PDB"] = ["HETATM" if str(atoms["hetero"][row]).strip() else "ATOM" for row in rows]
    items["id"] = list(range(1, len(rows) + 1))
    block = gemmi.cif.Block("atom3d")
    block.set_mmcif_category("_atom_site.", items)
    structure = gemmi.make_structure_from_block(block)
    structure.merge_chain_parts()
    return structure


def _cif(value: Any) -> Any:
    """A cell for gemmi: False stands for '.', not applicable."""
    if isinstance(value, str):
        return value.strip() or False
    return value
