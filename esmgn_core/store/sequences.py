"""Sequences of stores and structure files, and the proteins that are related to them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.errors import DataError
from esmgn_core.io import FORMATS, nothing_found, read_structures, search
from esmgn_core.io.formats import Formats
from esmgn_core.printable import counted
from esmgn_core.related import Chains, Sequences, related_between
from esmgn_core.store.reader import Store
from esmgn_core.store.settings import is_store
from esmgn_core.store.splits import run_mmseqs
from esmgn_core.text import read_lines


def read_sequences(path: Path, formats: Formats = FORMATS) -> tuple[Sequences, list[str]]:
    """Read names and chains of a store, a structure file or a folder of such files, and notes about it.

    Raises:
        DataError: no protein can be read.
        StructureError: the path does not exist, or has no structure files.
    """
    path = path.expanduser()
    if path.is_dir() and is_store(path):
        store = Store(path)
        return Sequences(store.names, store.chains()), []
    found = search([path], formats)
    if not found.files:
        raise nothing_found([path], found)
    proteins, refused = read_structures(found.files, formats=formats)
    refused = [*refused, *found.refused]
    if not proteins:
        raise DataError(f"no protein of {path} can be read", f"{refused[0].path}: {refused[0].reason}")
    notes = (
        [f"{counted(len(refused), 'file')} of {path} not compared: {refused[0].reason}"] if refused else []
    )
    return Sequences([protein.name for protein in proteins], Chains.of(proteins)), notes


def similar_by_identity(one: Sequences, other: Sequences, identity: float) -> list[tuple[int, int]]:
    """Find the proteins of ``one`` with a chain that an installed MMseqs2 finds for a chain of ``other``.

    Returns:
        Pairs as :func:`esmgn_core.related.related_between`.

    Raises:
        DataError: MMseqs2 is not installed, or fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        queries, targets, hits = (
            Path(folder, name) for name in ("queries.fasta", "targets.fasta", "hits.tsv")
        )
        for file, sequences in ((queries, other), (targets, one)):
            file.write_text("".join(_records(sequences.chains)), encoding="utf-8")
        run_mmseqs("easy-search", queries, targets, hits, Path(folder, "tmp"), identity=identity)
        rows = [line.split("\t")[:2] for line in read_lines(hits)] if hits.exists() else []
    first: dict[int, int] = {}
    for query, target in rows:
        first.setdefault(int(target.partition("_")[0]), int(query.partition("_")[0]))
    return sorted(first.items())


def _records(chains: Chains) -> Iterator[str]:
    """FASTA records of chains, named by the number of their protein and their own."""
    letters = np.array([*AMINO_ACIDS, *"X" * (256 - len(AMINO_ACIDS))])
    for number, (first, end) in enumerate(pairwise(chains.ptr.tolist())):
        if end > first:
            sequence = "".join(letters[chains.residue_type[first:end]])
            yield f">{chains.protein[number]}_{number}\n{sequence}\n"


def related_to(
    proteins: Sequences,
    paths: Iterable[Path],
    *,
    shared: float,
    identity: float | None = None,
    formats: Formats = FORMATS,
) -> tuple[dict[int, str], list[str]]:
    """Find the proteins that are related to those at some paths.

    Args:
        proteins: the proteins.
        paths: stores, structure files and folders of such files.
        shared: see :func:`esmgn_core.related.related`.
        identity: also those of :func:`similar_by_identity`; ``None`` for none.
        formats: formats of structure files.

    Returns:
        For each such protein, by index, the name and path of a protein that it is related to; and notes.

    Raises:
        DataError, StructureError: see :func:`read_sequences` and :func:`similar_by_identity`.
    """
    found: dict[int, str] = {}
    notes: list[str] = []
    for path in paths:
        others, problems = read_sequences(path, formats)
        pairs = related_between(proteins, others, shared=shared)
        if identity is not None:
            pairs = sorted((dict(similar_by_identity(proteins, others, identity)) | dict(pairs)).items())
        found |= {index: f"{others.names[other]} of {path}" for index, other in pairs if index not in found}
        examples = ", ".join(f"{proteins.names[index]} ({others.names[other]})" for index, other in pairs[:3])
        of = f"{counted(len(others.names), 'protein')} of {path}"
        notes.append(
            f"left out as related to {of}: {counted(len(pairs), 'protein')}{': ' * bool(pairs)}{examples}"
        )
        notes += problems
    return found, notes
