"""Fast reader of mmCIF text with atoms in lines of one length and one chain of standard residues.

All mmCIF files of AlphaFold DB have this form: the atoms come last, and each item is left-aligned in a
column. The reader checks everything it relies on and leaves any other text to gemmi. gemmi also reads
everything before the atoms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray

from esmgn_core.alphabet import BACKBONE_ATOMS, CA
from esmgn_core.io.fixed_columns import (
    Fields,
    Words,
    are_numbers,
    backbone_atoms,
    first_atoms,
    joined,
    residue_types,
    whole_chain,
    word,
)
from esmgn_core.io.table import ResidueTable

_ITEMS = re.compile(rb"\nloop_ *\n((?:_atom_site\.\w+ *\n)+)(?=ATOM )")
_CONSTANT = (
    *("group_PDB", "label_alt_id", "label_asym_id", "label_entity_id", "pdbx_PDB_ins_code"),
    *("pdbx_formal_charge", "auth_asym_id", "pdbx_PDB_model_num"),
)
_UNKNOWN = ("label_alt_id", "pdbx_PDB_ins_code", "pdbx_formal_charge")
_COORDINATES = ("Cartn_x", "Cartn_y", "Cartn_z")
_NAMES = ("type_symbol", "label_comp_id", "label_atom_id", "auth_comp_id", "auth_atom_id")
_NUMBERS = (*_COORDINATES, "B_iso_or_equiv", "label_seq_id", "auth_seq_id")
_PASSED_OVER = re.compile(r"id|occupancy|pdbx_sifts_xref_db_\w+")
_SPECIAL = b"\"'#_$[;"  # characters that may begin a quotation, a comment, a tag or a text field
_SPACE = ord(" ")
_SPACES = np.uint64(word(b" " * 8))
_ATOMS = np.array([word(f"{name:<8}".encode()) for name in BACKBONE_ATOMS], dtype=np.uint64)
_ELEMENTS = np.array([[word(f"{name[0]:<8}".encode())] for name in BACKBONE_ATOMS], dtype=np.uint64)
_AFTER_NAME = np.uint64(word(b"     ") << 24)


def read_aligned_mmcif(text: bytes) -> tuple[ResidueTable, gemmi.cif.Block] | None:
    """Read mmCIF text of this form into residues and the block before the atoms; ``None`` for other text."""
    table = _find_table(text)
    block = None if table is None else _block_of_one_polymer(text[: table.start], table)
    if table is None or block is None:
        return None
    number = table.right_aligned("auth_seq_id")
    name = table.words("label_comp_id") ^ _AFTER_NAME
    starts = first_atoms(number, name)
    if starts is None:
        return None
    atoms = backbone_atoms(table.words("label_atom_id"), starts, _ATOMS)
    residue_type = residue_types(name[starts])
    if atoms is None or residue_type is None or (table.words("type_symbol")[atoms] != _ELEMENTS).any():
        return None
    position = _halves(np.stack([table.right_aligned(item, atoms) for item in _COORDINATES]))
    factors = _halves(table.right_aligned("B_iso_or_equiv", atoms[CA], decimals=2))
    fields = joined(position, _halves(number[starts]).after, factors)
    if not _are_integers(number[starts]) or not are_numbers(fields):
        return None
    chain = whole_chain(residue_type, fields, table.first("auth_asym_id"))
    return None if chain is None else (chain, block)


@dataclass(frozen=True, slots=True)
class _Table:
    """Atoms in lines of one length.

    Attributes:
        text: the file.
        start: offset of the loop of atoms.
        first_line: offset of the first atom.
        lines: uint8 [N, L], the characters of each line.
        columns: item without ``_atom_site.`` -> its first column, and that of the next item.
    """

    text: bytes
    start: int
    first_line: int
    lines: NDArray[np.uint8]
    columns: dict[str, tuple[int, int]]

    def first(self, item: str) -> str:
        """The value in the first line."""
        start, end = self.columns[item]
        return self.lines[0, start:end].tobytes().decode().strip()

    def words(self, item: str) -> Words:
        """Values of an item, up to eight characters, padded with spaces on the right, uint64 [N]."""
        start, end = self.columns[item]
        num_atoms, length = self.lines.shape
        used = np.uint64(2 ** (8 * min(8, end - start)) - 1)
        words: Words = np.ndarray(num_atoms, "<u8", self.text, self.first_line + start, (length,)) & used
        words |= _SPACES & ~used
        return words

    def right_aligned(self, item: str, rows: NDArray[np.int64] | None = None, *, decimals: int = 3) -> Words:
        """Values of an item, padded with spaces on the left and with zeros to three decimals."""
        words = self.words(item)
        characters = (words if rows is None else words[rows]) ^ _SPACES
        # Padding is zero now, so the exponent of the value as a float gives the number of used bytes.
        length = (np.frexp(characters.astype(np.float64))[1] + 7) // 8
        free = 8 - length - (3 - decimals)
        fill = int(_SPACES) >> 8 * (3 - decimals) | word(b"0" * (3 - decimals)) << 8 * (5 + decimals)
        moved: Words = (characters << (8 * np.maximum(free, 0)).astype(np.uint64)) ^ np.uint64(fill)
        moved[free < 0] = 0  # too long: not a number of this form
        return moved


def _find_table(text: bytes) -> _Table | None:
    """Find the table of atoms; ``None`` unless it ends the file and every line has the same columns."""
    start = text.rfind(b"\nloop_", 0, text.find(b"\n_atom_site.") + 1)
    items = _ITEMS.match(text, start) if start >= 0 else None
    end = text.rfind(b"\n#") + 1
    if items is None or text[end:].strip() != b"#":
        return None
    first_line = items.end()
    length = text.find(b"\n", first_line) + 1 - first_line
    if length < 1 or end <= first_line or (end - first_line) % length:
        return None
    names = [item.removeprefix(b"_atom_site.").decode() for item in items[1].split()]
    lines = np.frombuffer(text, np.uint8, end - first_line, first_line).reshape(-1, length)
    columns = _columns(lines, names)
    if columns is None or not _is_plain(text[first_line:end], lines):
        return None
    table = _Table(text, start, first_line, lines, columns)
    return table if _is_one_chain(table) else None


def _columns(lines: NDArray[np.uint8], names: list[str]) -> dict[str, tuple[int, int]] | None:
    """Columns of each item; ``None`` if they differ between lines or the items are not those expected."""
    is_space = lines == _SPACE
    is_space[:, -1] = True
    begins = is_space[:, :-1] & ~is_space[:, 1:]
    starts = np.concatenate([[0], np.flatnonzero(begins[0]) + 1])
    is_aligned = len(starts) == len(names) and np.count_nonzero(begins) == len(lines) * (len(names) - 1)
    if not is_aligned or is_space[:, 0].any() or not begins[:, starts[1:] - 1].all():
        return None
    ends = [*starts[1:].tolist(), lines.shape[1]]
    columns = dict(zip(names, zip(starts.tolist(), ends, strict=True), strict=True))
    used = [columns.get(name, (0, 99)) for name in (*_NAMES, *_NUMBERS)]
    known = {*_CONSTANT, *_NAMES, *_NUMBERS}
    if len(columns) < len(names) or not all(_PASSED_OVER.fullmatch(name) for name in columns.keys() - known):
        return None
    fits = all(end - start <= 9 and start + 8 <= lines.shape[1] for start, end in used)
    return columns if fits and columns.keys() >= known else None


def _is_plain(atoms: bytes, lines: NDArray[np.uint8]) -> bool:
    """True if everything between spaces is a plain value, and line ends are at the ends of lines only."""
    if any(character in atoms for character in _SPECIAL):
        return False
    return bool((lines[:, -1] == ord("\n")).all() and np.count_nonzero(lines < _SPACE) == len(lines))


def _is_one_chain(table: _Table) -> bool:
    """True for one chain of ATOM records of one model, without altlocs, with equal author and label names."""
    constant = np.concatenate([np.arange(*table.columns[item]) for item in _CONSTANT])
    if (table.lines[:, constant] != table.lines[0, constant]).any():
        return False
    if any(table.first(item) not in (".", "?") for item in _UNKNOWN):
        return False
    if table.first("group_PDB") != "ATOM" or table.first("auth_asym_id") in (".", "?"):
        return False
    if not table.first("pdbx_PDB_model_num").isdigit() or not _are_integers(
        table.right_aligned("label_seq_id")
    ):
        return False
    same = [table.words(f"label_{name}") == table.words(f"auth_{name}") for name in ("comp_id", "atom_id")]
    return bool(np.all(same))


def _block_of_one_polymer(head: bytes, table: _Table) -> gemmi.cif.Block | None:
    """Parse the text before the atoms; ``None`` unless it declares one polymer, the entity of the atoms."""
    try:
        document = gemmi.cif.read_string(head)
    except (RuntimeError, ValueError):
        return None
    if len(document) != 1:
        return None
    block = document[0]
    types, entities = (list(block.find_values(f"_entity.{item}")) for item in ("type", "id"))
    return block if types == ["polymer"] and entities == [table.first("label_entity_id")] else None


def _are_integers(words: Words) -> bool:
    """True if all right-aligned values are whole numbers of at most four characters."""
    spaces, after = _halves(words)
    no_decimals = np.full(len(words), word(b".000"), dtype=np.uint32)
    return are_numbers(Fields(after, no_decimals)) and bool((spaces == np.uint32(_SPACES >> 32)).all())


def _halves(words: Words) -> Fields:
    """Divide words of eight characters into the first and the last four."""
    halves = words.view("<u4").reshape(*words.shape, 2)
    return Fields(halves[..., 0].copy(), halves[..., 1].copy())
