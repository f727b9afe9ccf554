"""One structure file -> one protein, with an account of what was left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from esmgn_core.alphabet import UNKNOWN, decode
from esmgn_core.batch import BACKBONE_ATOMS, Protein
from esmgn_core.errors import StructureError
from esmgn_core.io.files import Format, UnreadableError, load_text, structure_name, unique_names
from esmgn_core.io.mmcif import read_mmcif
from esmgn_core.io.pdb import read_pdb
from esmgn_core.io.plddt import mmcif_has_plddt, pdb_has_plddt, scale_plddt
from esmgn_core.io.polymer import ProteinRows, is_coarse_grained, protein_rows
from esmgn_core.io.residues import STANDARD_NAMES, ResidueClass
from esmgn_core.io.table import ResidueTable


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What became of the content of one file.

    Attributes:
        format: the format found in the file, whatever its name says.
        num_models: models in the file; the first one was read.
        without_ca: residues of the protein dropped because they have no CA atom, or one whose
            coordinates are not finite.
        left_out: residues that are no part of a protein chain: waters, ions, ligands, nucleic acids.
        modified: modified residue -> one-letter code of the parent it was read as, ``{"MSE": "M"}``.
        unknown: residue without a standard parent -> how many of them were read as X.
    """

    format: Format
    num_models: int
    without_ca: int
    left_out: int
    modified: Mapping[str, str]
    unknown: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was left out, and why."""

    path: Path
    reason: str


def read_protein(path: str | os.PathLike[str], *, name: str | None = None) -> Protein:
    """The protein in a structure file, see :func:`read_structure`."""
    return read_structure(path, name=name)[0]


def read_structure(path: str | os.PathLike[str], *, name: str | None = None) -> tuple[Protein, ReadReport]:
    """Read the first model of a PDB or mmCIF file, gzipped or not.

    The format is found by content. All protein chains of the model make up one protein, with the
    author's chain identifiers and residue numbers. Residues without a CA atom are dropped; waters,
    ligands, ions and nucleic acids are left out; modified residues become their parent
    (:func:`esmgn_core.io.residues.classify`); of alternate locations one conformer is read
    (:func:`esmgn_core.io.conformers.choose_conformers`). pLDDT is read from the B-factor column of
    files that say they are predictions (:mod:`esmgn_core.io.plddt`).

    Args:
        path: the file.
        name: name of the protein; the file name without ``.pdb.gz`` and the like by default.

    Raises:
        StructureError: the file cannot be read or holds no protein; the message says why.
    """
    path = Path(path)
    try:
        return _read(path, structure_name(path) if name is None else name)
    except UnreadableError as error:
        raise StructureError(f"cannot read {path}: {error}") from error


def iter_structures(paths: Sequence[Path]) -> Iterator[Protein | Refusal]:
    """For each file in turn its protein, or the reason why it has none.

    Proteins are named after their files; where two files would give one name, see
    :func:`esmgn_core.io.files.unique_names`.
    """
    for path, name in zip(paths, unique_names(paths), strict=True):
        try:
            yield _read(path, name)[0]
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


def _read(path: Path, name: str) -> tuple[Protein, ReadReport]:
    file_format, text = load_text(path)
    if file_format == "mmcif":
        table, num_models, block = read_mmcif(text)
        has_plddt = mmcif_has_plddt(block, path.name)
    else:
        table, num_models = read_pdb(text)
        has_plddt = pdb_has_plddt(text, path.name)
    rows = rows_of_protein(table)
    return protein(table.take(rows.kept), name, has_plddt), _report(table, rows, file_format, num_models)


def rows_of_protein(table: ResidueTable) -> ProteinRows:
    """The rows that are residues of the protein.

    Raises:
        UnreadableError: there are none, or they are coarse-grained beads; the message says which.
    """
    rows = protein_rows(table)
    if not rows.kept.any():
        raise UnreadableError(_why_no_protein(table, rows))
    if is_coarse_grained(table, rows.kept):
        raise UnreadableError("coarse-grained beads, not atoms: CB lies far from CA, and there is no N, C, O")
    return rows


def protein(table: ResidueTable, name: str, has_plddt: bool) -> Protein:
    """The protein whose residues are all rows of ``table``, as :func:`rows_of_protein` leaves them."""
    used, chain_index = np.unique(table.chain, return_inverse=True)
    backbone = torch.from_numpy(table.position[:, : len(BACKBONE_ATOMS)].copy())
    plddt = scale_plddt(table.ca_b_factor) if has_plddt else None
    return Protein(
        name=name,
        residue_type=torch.from_numpy(table.residue_type),
        backbone=backbone,
        atom_mask=backbone.isfinite().all(-1),
        residue_index=torch.from_numpy(table.number.astype(np.int64)),
        chain_index=torch.from_numpy(chain_index.astype(np.int64)),
        plddt=None if plddt is None else torch.from_numpy(plddt),
        insertion_code=torch.from_numpy(table.insertion_code),
        chains=tuple(table.chains[chain] for chain in used),
    )


def _report(table: ResidueTable, rows: ProteinRows, file_format: Format, num_models: int) -> ReadReport:
    names, types = table.name[rows.kept].tolist(), table.residue_type[rows.kept].tolist()
    counts = {
        (name.decode("latin-1").upper(), residue_type): count
        for (name, residue_type), count in Counter(zip(names, types, strict=True)).items()
    }
    return ReadReport(
        format=file_format,
        num_models=num_models,
        without_ca=int(rows.without_ca.sum()),
        left_out=int((~rows.kept & ~rows.without_ca).sum()),
        modified={
            name: decode([residue_type])
            for name, residue_type in counts
            if residue_type != UNKNOWN and name not in STANDARD_NAMES
        },
        unknown={name: count for (name, residue_type), count in counts.items() if residue_type == UNKNOWN},
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
