"""Inputs for embeddings: structure files, folders, stores and FASTA files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.host.registry import suggested_encoder
from esmgn_core.inference.fasta import is_fasta, protein_of_record, read_fasta
from esmgn_core.io import Refusal, read_protein, unique_names
from esmgn_core.io.files import UnreadableError, bytes_of
from esmgn_core.io.folders import nothing_found, search
from esmgn_core.io.formats import FORMATS, Formats
from esmgn_core.store import Store, is_store


@dataclass(frozen=True, slots=True)
class Input:
    """A protein to be read; picklable.

    Attributes:
        name: unique among the inputs of a job.
        path: its file or store.
        sequence: one-letter sequence of a FASTA record; ``None`` for a structure file.
        row: row of the protein in the store; ``None`` for a file.
        features: residue features to compute, see :func:`esmgn_core.io.read_structure`.
        formats: known formats of structure files.
        reason: reason for a refusal by the search for files; empty if there is none.
    """

    name: str
    path: Path
    sequence: str | None = None
    row: int | None = None
    features: tuple[str, ...] = ()
    formats: Formats = field(default_factory=lambda: FORMATS)
    reason: str = ""

    def key(self) -> str:
        """SHA-256 of name and content, which identifies the result of the input."""
        if self.reason:
            content = self.reason.encode(errors="surrogateescape")
        elif self.row is not None:
            content = _protein_bytes(_store(self.path)[self.row])
        else:
            content = self.sequence.encode() if self.sequence is not None else _bytes(self.path)
        return hashlib.sha256(self.name.encode() + b"\0" + content).hexdigest()

    def read(self) -> Protein | Refusal:
        """Read the protein; a :class:`Refusal` if it cannot be read."""
        if self.reason:
            return Refusal(self.path, self.reason)
        if self.sequence is not None:
            try:
                return protein_of_record(self.name, self.sequence)
            except ValueError as error:
                return Refusal(self.path, str(error))
        if self.row is not None:
            return replace(_store(self.path)[self.row], name=self.name)
        try:
            return read_protein(self.path, name=self.name, features=self.features, formats=self.formats)
        except StructureError as error:
            return Refusal(self.path, error.message.removeprefix(f"cannot read {self.path}: "))


def find_inputs(
    paths: Sequence[Path],
    *,
    sequence_only: bool,
    features: tuple[str, ...] = (),
    formats: Formats = FORMATS,
    passed_over: Counter[str] | None = None,
) -> list[Input]:
    """Find the inputs in ``paths`` and give each a unique name.

    Unreadable structure files become inputs with a reason.

    Args:
        paths: structure files, folders with structure files, stores, FASTA files.
        sequence_only: True if the model needs no structures.
        features: residue features to compute from structure files.
        formats: known formats of structure files.
        passed_over: counter of skipped files by suffix, updated in place.

    Raises:
        StructureError: a path does not exist, there is no input, or the model needs structures and a path is
            a FASTA file.
    """
    fasta = [path for path in paths if path.is_file() and is_fasta(path)]
    if fasta and not sequence_only:
        raise StructureError(
            f"{fasta[0]} holds sequences, but this model needs structures",
            f"use a sequence encoder alone: --seq {suggested_encoder()}, without --struct and --fuse",
            "or give structure files of these proteins (PDB or mmCIF)",
        )
    stores = [path for path in paths if path.is_dir() and is_store(path)]
    found = search((path for path in paths if path not in fasta and path not in stores), formats)
    records = [(path, *record) for path in fasta for record in read_fasta(path)]
    stored = [(path, row, name) for path in stores for row, name in enumerate(_store(path).names)]
    if not found.files and not records and not stored:
        raise nothing_found(paths, found)
    names = unique_names([*found.files, *(item.path for item in found.refused)], formats)
    inputs = [
        Input(name, path, features=features, formats=formats)
        for name, path in zip(names, found.files, strict=False)
    ]
    inputs += [Input(name, path, sequence) for path, name, sequence in records]
    inputs += [Input(name, path, row=row) for path, row, name in stored]
    inputs += [
        Input(name, item.path, reason=item.reason)
        for name, item in zip(names[len(found.files) :], found.refused, strict=True)
    ]
    if passed_over is not None:
        passed_over.update(found.passed_over)
    return list(_uniquely_named(inputs))


def _uniquely_named(inputs: Sequence[Input]) -> Iterator[Input]:
    """Append a number to names that occur before."""
    taken = {item.name for item in inputs}
    seen: Counter[str] = Counter()
    for item in inputs:
        seen[item.name] += 1
        name, number = item.name, seen[item.name]
        while number > 1 and name in taken:
            name, number = f"{item.name}_{number}", number + 1
        taken.add(name)
        yield replace(item, name=name)


@lru_cache(maxsize=4)
def _store(path: Path) -> Store:
    return Store(path)


def _protein_bytes(protein: Protein) -> bytes:
    tensors = (
        *(protein.residue_type, protein.backbone, protein.residue_index, protein.chain_index),
        *(protein.features[name] for name in sorted(protein.features)),
    )
    return b"".join(tensor.numpy().tobytes() for tensor in tensors)


def _bytes(path: Path) -> bytes:
    try:
        return bytes_of(path)
    except UnreadableError:
        return b""  # reading it gives the reason
