"""The structure formats, and how each is recognised and read."""

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
    """The residues of a file, and functions that read its header on demand.

    Attributes:
        table: residues of the first model, including ligands and waters.
        structure: parses all atoms.
        has_plddt: True if the B-factors are pLDDT.
        num_models: number of models in the file.
        is_protein: True if every row of ``table`` is a protein residue with a CA atom.
        origin: reads method, resolution and organism.
        declared: reads the declared sequences, chain identifier -> residue names.
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
        """Take the first model of a structure whose chains have unique names.

        Raises:
            UnreadableError: the model has no atoms, or two residues of a chain share a number.
        """
        table = residue_table(structure)
        if table.repeats_residues:
            raise UnreadableError(
                "two residues of a chain share a number: renumber them, or give each chain a name"
            )
        notes = [not_read("models after the first", len(structure) - 1)] if len(structure) > 1 else []
        table = replace(table, notes=(*notes, *table.notes))
        return cls(table, lambda: structure, has_plddt=has_plddt, num_models=len(structure))


@dataclass(frozen=True, slots=True)
class Format:
    """One structure format.

    Attributes:
        title: its name in messages.
        suffixes: endings of file names, in lower case with the dot. Files in folders and archives with these
            endings are read, also if compressed (:data:`esmgn_core.io.files.PACKINGS`).
        sniff: returns True for content of this format, given the content or its first bytes.
        read: parses the decompressed content of a file, given its name; raises ``UnreadableError``. Must be
            a function at module level, because it is pickled for other processes.
    """

    title: str
    suffixes: tuple[str, ...]
    sniff: Callable[[bytes], bool]
    read: Callable[[bytes, str], ParsedFile]


Formats = Mapping[str, Format]
"""Formats by the name that reports and stores use."""


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
"""The formats of core."""


def format_of(content: bytes, file_name: str, formats: Formats = FORMATS) -> str | None:
    """Return the name of the format of content or its first bytes; ``None`` if no format matches.

    Formats that list the file's ending are tried first, so that a format can be a dialect of another.
    """
    bare_name = unpacked_name(file_name).lower()
    by_ending = sorted(formats.items(), key=lambda item: not bare_name.endswith(item[1].suffixes))
    return next((name for name, known in by_ending if known.sniff(content)), None)


def unpacked_text(content: bytes, file_name: str, formats: Formats = FORMATS) -> tuple[str, bytes]:
    """Return the name of the format of a file, found by content, and the decompressed content.

    Raises:
        UnreadableError: the content cannot be decompressed, or has none of the formats.
    """
    if not content:
        raise UnreadableError("the file is empty")
    content = unpacked(content).removeprefix(_BYTE_ORDER_MARK)
    name = format_of(content, file_name, formats)
    if name is None:
        refuse_other_content(content)
        # Text that starts with neither format's first record: the parser reports what is wrong with it.
        name = "mmcif" if _ATOM_SITE.search(content) else "pdb"
    return name, content
