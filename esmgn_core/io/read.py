"""Read one protein from one structure file: bytes, format, residues, arrays, protein."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from esmgn_core.errors import StructureError
from esmgn_core.io.annotate import annotate, feature
from esmgn_core.io.files import Refusal, UnreadableError, bytes_of
from esmgn_core.io.formats import FORMATS, Formats, unpacked_text
from esmgn_core.io.names import structure_name, unique_names
from esmgn_core.io.plddt import unread_plddt_note
from esmgn_core.io.protein import Reading, ReadReport, protein_of

if TYPE_CHECKING:
    from esmgn_core.batch import Protein


def read_protein(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    features: Collection[str] = (),
    formats: Formats = FORMATS,
) -> Protein:
    """Read the protein in a structure file, see :func:`read_structure`."""
    return read_structure(path, name=name, features=features, formats=formats)[0]


def read_structure(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    features: Collection[str] = (),
    formats: Formats = FORMATS,
) -> tuple[Protein, ReadReport]:
    """Read the first model of a PDB, mmCIF or BinaryCIF file, compressed or not.

    - The content of the file decides its format, not the file name.
    - All protein chains of the model form one protein, with the author's chain identifiers and residue
      numbers. Chains that share an identifier get a number (:mod:`esmgn_core.io.copies`).
    - Residues without a CA atom, waters, ligands, ions and nucleic acids are dropped.
    - A modified residue becomes its parent (:func:`esmgn_core.io.residues.classify`).
    - One conformer is read of alternate locations (:func:`esmgn_core.io.conformers.choose_conformers`).
    - The B-factors of predicted structures are pLDDT (:mod:`esmgn_core.io.plddt`).

    Args:
        path: the file.
        name: name of the protein; by default the file name without endings such as ``.pdb.gz``.
        features: residue features to compute: ``secondary_structure``, ``exposure``. Other names are ignored.
        formats: the formats to read, by name; :func:`esmgn_core.formats.structure_formats` adds those of
            plugins.

    Raises:
        StructureError: the file cannot be read, contains no protein, or a feature cannot be computed.
    """
    path = Path(path)
    try:
        return _read(path, structure_name(path, formats) if name is None else name, features, formats)
    except UnreadableError as error:
        raise StructureError(f"cannot read {path}: {error}") from error


def iter_structures(
    paths: Sequence[Path], *, features: Collection[str] = (), formats: Formats = FORMATS
) -> Iterator[Protein | Refusal]:
    """Yield the protein of each file, or the reason why the file cannot be read.

    Proteins are named after their files, see :func:`esmgn_core.io.unique_names`. ``features`` and
    ``formats`` are those of :func:`read_structure`.
    """
    for path, name in zip(paths, unique_names(paths, formats), strict=True):
        try:
            yield _read(path, name, features, formats)[0]
        except UnreadableError as error:
            yield Refusal(path, str(error))


def read_structures(
    paths: Sequence[Path], *, progress: bool = False, formats: Formats = FORMATS
) -> tuple[list[Protein], list[Refusal]]:
    """Read files into proteins, and list the files that cannot be read with the reason.

    Args:
        paths: files, see :func:`find_structures`.
        progress: True to draw a progress bar on stderr.
        formats: the formats to read, by name.
    """
    results = iter_structures(paths, formats=formats)
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


def read_content(content: bytes, file_name: str, formats: Formats = FORMATS) -> Reading:
    """Read the bytes of a structure file, see :func:`read_structure`.

    Args:
        content: the file, compressed or not.
        file_name: its name; names such as those of AlphaFold DB mark a predicted structure.
        formats: the formats to read, by name.

    Raises:
        UnreadableError: the content cannot be read or contains no protein.
    """
    format_name, text = unpacked_text(content, file_name, formats)
    parsed = formats[format_name].read(text, file_name)
    note = "" if parsed.has_plddt else unread_plddt_note(text, file_name)
    return protein_of(parsed, format_name, note)


def _read(path: Path, name: str, features: Collection[str], formats: Formats) -> tuple[Protein, ReadReport]:
    reading = read_content(bytes_of(path), path.name, formats)
    columns, notes = annotate(reading.residues, reading.structure, features)
    if notes:
        raise UnreadableError("; ".join(notes))
    values = {feature_name: feature(feature_name, column) for feature_name, column in columns.items()}
    residues = replace(reading.residues, notes=reading.report.notes)
    return residues.protein(name, values), reading.report
