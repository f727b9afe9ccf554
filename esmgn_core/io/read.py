"""One structure file -> one protein, with an account of what was left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import gemmi

from esmgn_core.alphabet import CA, UNKNOWN, decode
from esmgn_core.errors import StructureError
from esmgn_core.io.alphafold_cif import read_aligned_mmcif
from esmgn_core.io.alphafold_pdb import read_by_stride
from esmgn_core.io.annotate import annotate, feature
from esmgn_core.io.arrays import ResidueArrays
from esmgn_core.io.files import Refusal, UnreadableError, structure_name, unique_names
from esmgn_core.io.formats import Format, load_text, refuse_pqr, text_of
from esmgn_core.io.mmcif import mmcif_structure, read_mmcif
from esmgn_core.io.origin import Origin, mmcif_origin, pdb_origin
from esmgn_core.io.pdb import pdb_structure, read_pdb
from esmgn_core.io.plddt import mmcif_has_plddt, pdb_has_plddt, pdb_header, unread_plddt_note
from esmgn_core.io.polymer import ProteinRows, is_coarse_grained, protein_rows
from esmgn_core.io.residues import STANDARD_NAMES, ResidueClass
from esmgn_core.io.seqres import (
    ChainAccount,
    chain_accounts,
    mmcif_declared,
    pdb_declared,
    standard_chain_account,
    standard_pdb_account,
)
from esmgn_core.io.table import ResidueTable

if TYPE_CHECKING:
    from esmgn_core.batch import Protein


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What became of the content of one file.

    Attributes:
        format: the format found in the file, whatever its name says.
        num_models: models in the file; the first one was read.
        without_ca: residues of the protein dropped because they have no CA atom, or one whose
            coordinates are not finite.
        left_out: residues that are no part of a protein chain: waters, ions, ligands, nucleic acids.
        left_out_kinds: how many of them of each kind, ``{"water": 88}``.
        alternates: residues with alternate locations, of which one was read.
        modified: modified residue -> one-letter code of the parent it was read as, ``{"MSE": "M"}``.
        unknown: residue without a standard parent -> how many of them were read as X.
        notes: what was dropped, divided or guessed besides, one short sentence each.
    """

    format: Format
    num_models: int
    without_ca: int
    left_out: int
    modified: Mapping[str, str]
    unknown: Mapping[str, int]
    left_out_kinds: Mapping[str, int] = field(default_factory=dict)
    alternates: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a structure file gives: its protein, and where that comes from.

    Attributes:
        residues: the protein.
        report: what became of the rest of the file.
        origin: reads method, resolution and organism.
        chains: compares each chain with the sequence the file declares.
        structure: parses all atoms of the file once more; ``None`` where the source has no file of its own.
    """

    residues: ResidueArrays
    report: ReadReport
    origin: Callable[[], Origin]
    chains: Callable[[], tuple[ChainAccount, ...]]
    structure: Callable[[], gemmi.Structure] | None = None


def read_protein(
    path: str | os.PathLike[str], *, name: str | None = None, features: Collection[str] = ()
) -> Protein:
    """The protein in a structure file, see :func:`read_structure`."""
    return read_structure(path, name=name, features=features)[0]


def read_structure(
    path: str | os.PathLike[str], *, name: str | None = None, features: Collection[str] = ()
) -> tuple[Protein, ReadReport]:
    """Read the first model of a PDB, mmCIF or BinaryCIF file, gzipped or not.

    The format is found by content. All protein chains of the model make up one protein, with the
    author's chain identifiers and residue numbers; chains that share an identifier have numbers added
    (:mod:`esmgn_core.io.copies`). Residues without a CA atom are dropped; waters,
    ligands, ions and nucleic acids are left out; modified residues become their parent
    (:func:`esmgn_core.io.residues.classify`); of alternate locations one conformer is read
    (:func:`esmgn_core.io.conformers.choose_conformers`). pLDDT is read from the B-factor column of
    files that say they are predictions (:mod:`esmgn_core.io.plddt`).

    Args:
        path: the file.
        name: name of the protein; the file name without ``.pdb.gz`` and the like by default.
        features: what to compute of each residue besides, as a store does: ``secondary_structure``,
            ``exposure``; other names are passed over.

    Raises:
        StructureError: the file cannot be read, holds no protein, or a feature cannot be computed; the
            message says why.
    """
    path = Path(path)
    try:
        return _read(path, structure_name(path) if name is None else name, features)
    except UnreadableError as error:
        raise StructureError(f"cannot read {path}: {error}") from error


def iter_structures(paths: Sequence[Path], *, features: Collection[str] = ()) -> Iterator[Protein | Refusal]:
    """For each file in turn its protein, or the reason why it has none.

    Proteins are named after their files; where two files would give one name, see
    :func:`esmgn_core.io.files.unique_names`. ``features`` are those of :func:`read_structure`.
    """
    for path, name in zip(paths, unique_names(paths), strict=True):
        try:
            yield _read(path, name, features)[0]
        except UnreadableError as error:
            yield Refusal(path, str(error))


def read_structures(paths: Sequence[Path], *, progress: bool = False) -> tuple[list[Protein], list[Refusal]]:
    """The proteins of the files that can be read, and the other files with the reason.

    Args:
        paths: files, as :func:`find_structures` gives them.
        progress: draw a progress bar on stderr.
    """
    results = iter_structures(paths)
    if progress:
        from rich.console import Console
        from rich.progress import track

        bar = Console(stderr=True)
        results = iter(track(results, "reading structures", total=len(paths), console=bar))
    proteins, refusals = [], []
    for result in results:
        if isinstance(result, Refusal):
            refusals.append(result)
        else:
            proteins.append(result)
    return proteins, refusals


def _read(path: Path, name: str, features: Collection[str]) -> tuple[Protein, ReadReport]:
    reading = read_text(*load_text(path), path.name)
    columns, notes = annotate(reading.residues, reading.structure, features)
    if notes:
        raise UnreadableError("; ".join(notes))
    values = {feature_name: feature(feature_name, column) for feature_name, column in columns.items()}
    residues = replace(reading.residues, notes=reading.report.notes)
    return residues.protein(name, values), reading.report


def read_content(content: bytes, file_name: str) -> Reading:
    """Read the bytes of a structure file, see :func:`read_structure`.

    Args:
        content: the file, gzipped or not.
        file_name: its name, which may say that it is a prediction.

    Raises:
        UnreadableError: the content cannot be read or holds no protein; the message says why.
    """
    return read_text(*text_of(content), file_name)


def read_text(file_format: Format, text: bytes, file_name: str) -> Reading:
    """Like :func:`read_content` for inflated text of known format."""
    reading = _read_text(file_format, text, file_name)
    if reading.residues.plddt is None and (note := unread_plddt_note(text, file_name)):
        return replace(reading, report=replace(reading.report, notes=(*reading.report.notes, note)))
    return reading


def _read_text(file_format: Format, text: bytes, file_name: str) -> Reading:
    if file_format in ("mmcif", "bcif"):
        aligned = read_aligned_mmcif(text, file_name) if file_format == "mmcif" else None
        if aligned is not None:
            return _whole_mmcif(*aligned, text)
        table, num_models, block = read_mmcif(text, is_binary=file_format == "bcif")
        return _reading(
            table,
            file_format,
            num_models,
            has_plddt=mmcif_has_plddt(block, file_name),
            declared=lambda: mmcif_declared(block),
            origin=lambda has_plddt: mmcif_origin(block, has_plddt=has_plddt),
            structure=lambda: mmcif_structure(block),
        )
    refuse_pqr(text, file_name)
    header = pdb_header(text)
    residues = read_by_stride(text, header, file_name)
    if residues is not None:
        return _whole_pdb(residues, header, text)
    table, num_models = read_pdb(text)
    return _reading(
        table,
        file_format,
        num_models,
        has_plddt=pdb_has_plddt(header, file_name),
        declared=lambda: pdb_declared(header),
        origin=lambda has_plddt: pdb_origin(header, has_plddt=has_plddt),
        structure=lambda: pdb_structure(text),
    )


def _reading(
    table: ResidueTable,
    file_format: Format,
    num_models: int,
    *,
    has_plddt: bool,
    declared: Callable[[], Mapping[str, Sequence[str]]],
    origin: Callable[[bool], Origin],
    structure: Callable[[], gemmi.Structure],
) -> Reading:
    rows = rows_of_protein(table)
    kept = table.take(rows.kept)
    residues = ResidueArrays.from_table(kept, has_plddt=has_plddt)
    return Reading(
        residues,
        _report(table, rows, file_format, num_models),
        origin=lambda: origin(residues.plddt is not None),
        chains=lambda: chain_accounts(kept, declared()),
        structure=structure,
    )


def _whole_pdb(residues: ResidueArrays, header: bytes, text: bytes) -> Reading:
    """What was read by stride: every residue is standard and has a CA atom, and nothing was left out."""
    return Reading(
        residues,
        ReadReport("pdb", num_models=1, without_ca=0, left_out=0, modified={}, unknown={}),
        origin=lambda: pdb_origin(header, has_plddt=residues.plddt is not None),
        chains=lambda: standard_pdb_account(residues, header),
        structure=lambda: pdb_structure(text),
    )


def _whole_mmcif(residues: ResidueArrays, block: gemmi.cif.Block, text: bytes) -> Reading:
    return Reading(
        residues,
        ReadReport("mmcif", num_models=1, without_ca=0, left_out=0, modified={}, unknown={}),
        origin=lambda: mmcif_origin(block, has_plddt=residues.plddt is not None),
        chains=lambda: standard_chain_account(residues, mmcif_declared(block)),
        structure=lambda: mmcif_structure(gemmi.cif.read_string(text).sole_block()),
    )


def rows_of_protein(table: ResidueTable) -> ProteinRows:
    """The rows that are residues of the protein.

    Raises:
        UnreadableError: there are none, they are coarse-grained beads, or all are at one place; the message
            says which.
    """
    rows = protein_rows(table)
    if not rows.kept.any():
        raise UnreadableError(_why_no_protein(table, rows))
    if is_coarse_grained(table, rows.kept):
        raise UnreadableError("coarse-grained beads, not atoms: CB lies far from CA, and there is no N, C, O")
    ca = table.position[rows.kept, CA]
    if len(ca) > 1 and (ca == ca[0]).all():
        x, y, z = ca[0].tolist()
        raise UnreadableError(
            f"all {len(ca)} CA atoms are at one place ({x:g}, {y:g}, {z:g}): no coordinates"
        )
    return rows


def _report(table: ResidueTable, rows: ProteinRows, file_format: Format, num_models: int) -> ReadReport:
    left_out = ~rows.kept & ~rows.without_ca
    names, types = table.name[rows.kept].tolist(), table.residue_type[rows.kept].tolist()
    counts = {
        (name.decode("latin-1").upper(), residue_type): count
        for (name, residue_type), count in Counter(zip(names, types, strict=True)).items()
    }
    return ReadReport(
        format=file_format,
        num_models=num_models,
        without_ca=int(rows.without_ca.sum()),
        left_out=int(left_out.sum()),
        left_out_kinds={
            word: count
            for residue_class, word in _WORDS.items()
            if (count := int((table.residue_class[left_out] == residue_class).sum()))
        },
        alternates=int(table.has_alternates[rows.kept].sum()),
        modified={
            name: decode([residue_type])
            for name, residue_type in counts
            if residue_type != UNKNOWN and name not in STANDARD_NAMES
        },
        unknown={name: count for (name, residue_type), count in counts.items() if residue_type == UNKNOWN},
        notes=table.notes,
    )


def _why_no_protein(table: ResidueTable, rows: ProteinRows) -> str:
    if rows.without_ca.any():
        return f"no CA atom in any of its amino-acid residues ({rows.without_ca.sum()})"
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for residue_class, word in _WORDS.items()
        if (count := int((table.residue_class == residue_class).sum()))
    ]
    return f"no protein residue, only {' and '.join(counts)}"


_WORDS = {
    ResidueClass.AMINO_ACID: "free amino acid",
    ResidueClass.NUCLEOTIDE: "nucleotide",
    ResidueClass.WATER: "water",
    ResidueClass.OTHER: "ligand",
    ResidueClass.UNLISTED: "unknown residue",
}
