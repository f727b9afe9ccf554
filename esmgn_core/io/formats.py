"""The table of structure formats: how each is recognised and read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import gemmi

from esmgn_core.io.alphafold_cif import read_aligned_mmcif
from esmgn_core.io.alphafold_pdb import read_by_stride
from esmgn_core.io.content import (
    is_bcif,
    is_mmcif,
    is_pdb,
    plain_text,
    refuse_other_content,
    refuse_pqr,
)
from esmgn_core.io.files import UnreadableError, unpacked, unpacked_name
from esmgn_core.io.mmcif import mmcif_structure, read_mmcif
from esmgn_core.io.notes import not_read
from esmgn_core.io.origin import Origin, mmcif_origin, pdb_origin
from esmgn_core.io.pdb import pdb_structure, read_pdb
from esmgn_core.io.plddt import mmcif_has_plddt, pdb_has_plddt, pdb_header
from esmgn_core.io.seqres import mmcif_declared, pdb_declared
from esmgn_core.io.table import ResidueTable, residue_table

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ATOM_SITE = re.compile(rb"[\r\n]_atom_site\.")


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """The residues of a file, and what its header declares, which is read when it is needed.

    Attributes:
        table: residues of the first model: protein, ligands and waters alike.
        structure: parses all atoms.
        has_plddt: True if the B-factors are pLDDT.
        num_models: models in the file.
        is_protein: True if all rows of ``table`` are residues of the protein and have a CA atom.
        origin: reads method, resolution and organism.
        declared: reads the declared sequences: chain identifier -> residue names.
    """

    table: ResidueTable
    structure: Callable[[], gemmi.Structure]
    has_plddt: bool = False
    num_models: int = 1
    is_protein: bool = False
    origin: Callable[[], Origin] = Origin
    declared: Callable[[], Mapping[str, Sequence[str]]] = dict

    @classmethod
    def of(cls, structure: gemmi.Structure, *, has_plddt: bool = False) -> Self:
        """The first model of a structure whose chains have different names.

        Raises:
            UnreadableError: the model has no atoms, or a chain has two residues of one number.
        """
        table = residue_table(structure)
        if table.repeats_residues:
            raise UnreadableError("a chain has two residues of one number: number them, or name the chains")
        notes = [not_read("models after the first", len(structure) - 1)] if len(structure) > 1 else []
        table = replace(table, notes=(*notes, *table.notes))
        return cls(table, lambda: structure, has_plddt=has_plddt, num_models=len(structure))


@dataclass(frozen=True, slots=True)
class Format:
    """One structure format.

    Attributes:
        title: its name in messages.
        suffixes: endings of file names, in lower case with the dot. Files of folders and archives with these
            endings are read, also packed (:data:`esmgn_core.io.files.PACKINGS`).
        sniff: True if content, or the first bytes of it, is of this format.
        read: parses the unpacked content of a file, given its name; raises ``UnreadableError``. It is sent to
            other processes, so it is a function of a module.
    """

    title: str
    suffixes: tuple[str, ...]
    sniff: Callable[[bytes], bool]
    read: Callable[[bytes, str], ParsedFile]


Formats = Mapping[str, Format]
"""Name of a format, as reports and stores give it -> the format."""


def _read_pdb(content: bytes, file_name: str) -> ParsedFile:
    text = plain_text(content)
    header = pdb_header(text)
    refuse_pqr(text, file_name, len(header) - 1)
    chain = read_by_stride(text, header)
    table, num_models = read_pdb(text) if chain is None else (chain, 1)
    return ParsedFile(
        table,
        structure=lambda: pdb_structure(text),
        has_plddt=pdb_has_plddt(header, file_name),
        num_models=num_models,
        is_protein=chain is not None,
        origin=lambda: pdb_origin(header),
        declared=lambda: pdb_declared(header),
    )


def _read_mmcif(content: bytes, file_name: str) -> ParsedFile:
    text = plain_text(content)
    aligned = read_aligned_mmcif(text)
    if aligned is None:
        return _read_blocks(text, file_name)
    chain, block = aligned
    return ParsedFile(
        chain,
        structure=lambda: mmcif_structure(gemmi.cif.read_string(text).sole_block()),
        has_plddt=mmcif_has_plddt(block, file_name),
        is_protein=True,
        origin=lambda: mmcif_origin(block),
        declared=lambda: mmcif_declared(block),
    )


def _read_bcif(content: bytes, file_name: str) -> ParsedFile:
    return _read_blocks(content, file_name, is_binary=True)


def _read_blocks(content: bytes, file_name: str, *, is_binary: bool = False) -> ParsedFile:
    table, num_models, block = read_mmcif(content, is_binary=is_binary)
    return ParsedFile(
        table,
        structure=lambda: mmcif_structure(block),
        has_plddt=mmcif_has_plddt(block, file_name),
        num_models=num_models,
        origin=lambda: mmcif_origin(block),
        declared=lambda: mmcif_declared(block),
    )


FORMATS: Formats = {
    "pdb": Format("PDB", (".pdb", ".ent", ".pdbqt"), is_pdb, _read_pdb),
    "mmcif": Format("mmCIF", (".cif", ".mmcif"), is_mmcif, _read_mmcif),
    "bcif": Format("BinaryCIF", (".bcif",), is_bcif, _read_bcif),
}
"""The formats that are read without a plugin."""


def format_of(content: bytes, file_name: str, formats: Formats = FORMATS) -> str | None:
    """The name of the format that content, or the beginning of it, has; ``None`` if no format claims it.

    Formats with an ending of the file's name are asked first, so that a format can be a dialect of another.
    """
    ending = unpacked_name(file_name).lower()
    by_ending = sorted(formats.items(), key=lambda item: not ending.endswith(item[1].suffixes))
    return next((name for name, known in by_ending if known.sniff(content)), None)


def unpacked_text(content: bytes, file_name: str, formats: Formats = FORMATS) -> tuple[str, bytes]:
    """The name of the format of a file and its unpacked content. Content decides, not the file name.

    Raises:
        UnreadableError: the content cannot be unpacked, or is of no format in the table.
    """
    if not content:
        raise UnreadableError("the file is empty")
    content = unpacked(content).removeprefix(_BYTE_ORDER_MARK)
    name = format_of(content, file_name, formats)
    if name is None:
        refuse_other_content(content)
        name = "mmcif" if _ATOM_SITE.search(content) else "pdb"
    return name, content
