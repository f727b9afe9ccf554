"""One structure file -> one protein: bytes, format, residues, arrays, protein."""

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
    """The protein in a structure file, see :func:`read_structure`."""
    return read_structure(path, name=name, features=features, formats=formats)[0]


def read_structure(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    features: Collection[str] = (),
    formats: Formats = FORMATS,
) -> tuple[Protein, ReadReport]:
    """Read the first model of a PDB, mmCIF or BinaryCIF file, packed or not.

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
        formats: the formats that are read, by name; those of plugins are in ``discover().formats()``.

    Raises:
        StructureError: the file cannot be read, holds no protein, or a feature cannot be computed; the
            message says why.
    """
    path = Path(path)
    try:
        return _read(path, structure_name(path, formats) if name is None else name, features, formats)
    except UnreadableError as error:
        raise StructureError(f"cannot read {path}: {error}") from error


def iter_structures(
    paths: Sequence[Path], *, features: Collection[str] = (), formats: Formats = FORMATS
) -> Iterator[Protein | Refusal]:
    """For each file in turn its protein, or the reason why it has none.

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
    """The proteins of the files that can be read, and the other files with the reason.

    Args:
        paths: files, as :func:`find_structures` gives them.
        progress: draw a progress bar on stderr.
        formats: the formats that are read, by name.
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
        content: the file, packed or not.
        file_name: its name, which may say that it is a prediction.
        formats: the formats that are read, by name.

    Raises:
        UnreadableError: the content cannot be read or holds no protein; the message says why.
    """
    name, text = unpacked_text(content, file_name, formats)
    parsed = formats[name].read(text, file_name)
    note = "" if parsed.has_plddt else unread_plddt_note(text, file_name)
    return protein_of(parsed, name, note)


def _read(path: Path, name: str, features: Collection[str], formats: Formats) -> tuple[Protein, ReadReport]:
    reading = read_content(bytes_of(path), path.name, formats)
    columns, notes = annotate(reading.residues, reading.structure, features)
    if notes:
        raise UnreadableError("; ".join(notes))
    values = {feature_name: feature(feature_name, column) for feature_name, column in columns.items()}
    residues = replace(reading.residues, notes=reading.report.notes)
    return residues.protein(name, values), reading.report
