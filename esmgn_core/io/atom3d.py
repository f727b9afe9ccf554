"""Read data sets of ATOM3D: LMDB folders with one gzipped JSON record per example.

LMDB maps its file into memory and follows the offsets in it. Damaged offsets end the process, so a child
process opens the file, once, and returns the compressed records.

Source: Townshend et al. 2021 (arXiv 2012.04035), https://www.atom3d.ai.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gemmi

from esmgn_core.errors import StructureError
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.files import UnreadableError, inflate
from esmgn_core.io.mmcif import block_table, mmcif_structure
from esmgn_core.io.notes import not_read
from esmgn_core.io.polymer import rows_of_protein
from esmgn_core.machine.child import ChildError, call
from esmgn_core.machine.parse import parse_json

if TYPE_CHECKING:
    from esmgn_core.batch import Protein

_DATA = "data.mdb"
_MAX_RECORD = 1 << 26  # bytes of JSON; the largest complexes of ATOM3D have some ten million
_NUM_AHEAD, _MAX_AHEAD = 64, 1 << 22  # records and bytes read ahead
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
    """The records of one LMDB folder, read one at a time; can be pickled.

    A record is a dictionary with the keys of the data set (``id``, ``scores``, ``label``, ...). Each table
    of atoms in it is a dictionary of columns, lists of equal length; :func:`atoms_to_protein` reads it.

    Raises:
        StructureError: the folder is not an LMDB of ATOM3D, or a record is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.parent if path.name == _DATA else path
        if not (self.path / _DATA).is_file():
            raise StructureError(f"no ATOM3D data set in {self.path}: it has no {_DATA}")
        stored, form = self._get("num_examples"), self._get("serialization_format")
        if stored is None or form is None:
            raise StructureError(f"{self.path / _DATA} is an LMDB, but not one of ATOM3D: no 'num_examples'")
        if form != b"json":
            raise StructureError(
                f"{self.path / _DATA} has records in the format '{_shown(form)}', only json is read",
                "convert it with the package atom3d: atom3d.datasets.make_lmdb_dataset(..., "
                "serialization_format='json')",
            )
        if not (stored.isdigit() and int(stored) <= self._call(_num_entries)):
            raise StructureError(f"{self.path / _DATA} is damaged: 'num_examples' is '{_shown(stored)}'")
        self._length = int(stored)
        self._ahead: dict[int, bytes | None] = {}
        self._num_ahead = _NUM_AHEAD
        self._next = 0

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
        """Read record ``index``, 0 <= index < len.

        Raises:
            StructureError: the record is missing or damaged.
        """
        packed = self._packed(index)
        if packed is None:
            raise StructureError(f"{self.path / _DATA} has no record {index} of the {len(self)} it declares")
        try:
            record = parse_json(inflate(packed, _MAX_RECORD))
            if not isinstance(record, dict):
                raise TypeError("expected a JSON object")  # noqa: TRY301
            return {name: _columns(value) for name, value in record.items()}
        except (UnreadableError, TypeError, ValueError) as error:
            raise StructureError(f"record {index} of {self.path / _DATA} is damaged: {error}") from error

    def _packed(self, index: int) -> bytes | None:
        """Return a compressed record. In sequential reading, one call to the child returns many records."""
        if index not in self._ahead:
            keys = [str(number) for number in range(index, min(index + self._num_ahead, len(self)))]
            try:
                values = self._values(*keys[: len(keys) if index == self._next else 1])
            except StructureError:
                if self._num_ahead == 1:
                    raise
                self._num_ahead = 1  # from now on one by one, so that only the damaged record is lost
                values = self._values(str(index))
            self._ahead = dict(enumerate(values, index))
        self._next = index + 1
        return self._ahead[index]

    def _get(self, key: str) -> bytes | None:
        return self._values(key)[0]

    def _values(self, *keys: str) -> list[bytes | None]:
        values: list[bytes | None] = self._call(_values, [key.encode() for key in keys])
        return values

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(function, str(self.path), *args)
        except UnreadableError as error:
            raise StructureError(f"cannot open {self.path / _DATA} as LMDB: {error}") from error
        except ChildError as error:
            raise StructureError(
                f"{self.path / _DATA} is damaged: the LMDB library crashed or hung on it ({error})"
            ) from error


def _values(folder: str, keys: Sequence[bytes]) -> list[bytes | None]:
    """Read the values of the first keys, at least one, until they exceed a total size."""
    values: list[bytes | None] = []
    size = 0
    with _lmdb_errors(), _environment(folder).begin() as transaction:
        for key in keys:
            value = transaction.get(key)
            values.append(value)
            size += len(value or b"")
            if size >= _MAX_AHEAD:
                break
    return values


def _num_entries(folder: str) -> int:
    with _lmdb_errors():
        return int(_environment(folder).stat()["entries"])


_environments: dict[str, tuple[tuple[int, ...], Any]] = {}
"""Open folders of the child process: path -> identity of the file, environment."""


def _environment(folder: str) -> Any:
    """Open an LMDB in the child process, once while its file stays the same."""
    import lmdb

    stat = Path(folder, _DATA).stat()
    identity = stat.st_ino, stat.st_size, stat.st_mtime_ns
    known, environment = _environments.get(folder, (None, None))
    if known == identity:
        return environment
    if environment is not None:
        environment.close()  # LMDB must not open a file twice in one process
    environment = lmdb.open(folder, readonly=True, lock=False, readahead=False)
    _environments[folder] = identity, environment
    end = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if end > stat.st_size:
        raise UnreadableError(f"cut off: {stat.st_size:,} bytes, expected at least {end:,}")
    return environment


@contextmanager
def _lmdb_errors() -> Iterator[None]:
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableError(str(error) or type(error).__name__) from error


def _shown(value: bytes) -> str:
    return value[:20].decode("ascii", "backslashreplace")


def _columns(value: Any) -> Any:
    """Convert a stored data frame to a dictionary of columns; return other values unchanged."""
    if not (isinstance(value, dict) and value.keys() >= {"columns", "data"}):
        return value
    rows = zip(*value["data"], strict=True) if value["data"] else ([] for _ in value["columns"])
    return {name: list(column) for name, column in zip(value["columns"], rows, strict=True)}


def atoms_to_protein(atoms: Mapping[str, Sequence[Any]], name: str) -> Protein:
    """Read the protein in one table of atoms, by the rules of :func:`esmgn_core.io.read_structure`.

    The first model is read. Hydrogens and side chains are not needed.

    Args:
        atoms: columns of the table, see :class:`Atom3DRecords`; x, y, z in angstrom.
        name: name of the protein.

    Raises:
        StructureError: a column is missing, or the table contains no protein.
    """
    try:
        return atoms_to_residues(atoms).protein(name)
    except UnreadableError as error:
        raise StructureError(f"no protein in the atoms of '{name}': {error}") from error


def atoms_to_residues(atoms: Mapping[str, Sequence[Any]]) -> ResidueArrays:
    """Like :func:`atoms_to_protein`, but return arrays.

    Raises:
        UnreadableError: a column is missing, or the table contains no protein.
    """
    if not isinstance(atoms, Mapping):
        raise UnreadableError("not a table of atoms")
    if missing := [column for column in _COLUMNS if column not in atoms]:
        raise UnreadableError(f"the table lacks the columns: {', '.join(missing)}")
    try:
        block = _block(atoms)
        table = block_table(block, mmcif_structure(block))
        models = set(atoms.get("model", ()))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnreadableError(f"the table of atoms is damaged ({type(error).__name__}: {error})") from error
    if len(models) > 1:
        table = replace(table, notes=(not_read("models after the first", len(models) - 1), *table.notes))
    return ResidueArrays.from_table(table.take(rows_of_protein(table).kept), has_plddt=False)


def _block(atoms: Mapping[str, Sequence[Any]]) -> gemmi.cif.Block:
    """Convert the first model of a table of atoms to an mmCIF block."""
    if len({len(atoms[column]) for column in _CIF_ITEMS.values() if column in atoms}) > 1:
        raise UnreadableError("the columns of the table differ in length")
    if not atoms["x"]:
        raise UnreadableError("the table has no atoms")
    models = atoms.get("model", ())
    rows = [row for row in range(len(atoms["x"])) if not models or models[row] == models[0]]
    items: dict[str, list[Any]] = {
        item: [_cif(atoms[column][row]) for row in rows]
        for item, column in _CIF_ITEMS.items()
        if column in atoms
    }
    items.setdefault("label_alt_id", [False] * len(rows))
    items.setdefault("type_symbol", [str(atoms["name"][row]).strip()[:1] or False for row in rows])
    items["group_PDB"] = ["HETATM" if str(atoms["hetero"][row]).strip() else "ATOM" for row in rows]
    items["id"] = list(range(1, len(rows) + 1))
    block = gemmi.cif.Block("atom3d")
    block.set_mmcif_category("_atom_site.", items)
    return block


def _cif(value: Any) -> Any:
    """Return a cell for gemmi, which writes False as '.', not applicable."""
    if isinstance(value, str):
        return value.strip() or False
    return value
