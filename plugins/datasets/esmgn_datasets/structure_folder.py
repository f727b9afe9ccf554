"""The dataset ``folder``: structure files, read into memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator

from esmgn_core.batch import Protein
from esmgn_core.errors import SettingsError, StructureError
from esmgn_core.formats import structure_formats
from esmgn_core.io import (
    FoundFiles,
    Refusal,
    group_notes,
    nothing_found,
    passed_over_text,
    read_structures,
    search,
    unique_names,
)
from esmgn_core.printable import counted
from esmgn_core.related import SHARED, Chains, Sequences, split_proteins
from esmgn_core.settings import ComponentSettings
from esmgn_core.splits import Shares, Split
from esmgn_core.store import related_to

_SHOWN_REASONS = 3


class StructureFolder:
    """PDB and mmCIF files, read into memory when the dataset is built.

    Related proteins are in one split; see :func:`esmgn_core.related.related`. The split depends on a hash of
    their sequences, so that unrelated files do not change it.

    Attributes:
        refused: the files left out, each with its reason.
        notes: atoms and residues dropped, divided or guessed in the other files, grouped by kind.
        passed_over: a line about the files of other kinds, empty if there are none.
        lengths: residues of each protein.

    Raises:
        SettingsError: no path is set.
        StructureError: a path does not exist, or no file gives a protein.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`StructureFolder`."""

        path: tuple[Path, ...] = ()
        """Structure files, and folders to search for them (with all folders inside)."""
        valid_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for validation."""
        shared_kmers: float = Field(SHARED, ge=0, le=1)
        """Chains that share at least this part of the shorter chain's 5-mers are in one split. 0 compares
        identical sequences and fragments of one AlphaFold accession only."""
        min_length: int = Field(1, ge=1)
        """Leave out proteins with fewer residues."""
        max_length: int | None = Field(None, ge=1)
        """Leave out proteins with more residues."""
        exclude_similar_to: tuple[Path, ...] = ()
        """Leave out proteins related to those of these stores, structure files and folders, such as the test
        set of a later task. ``shared_kmers`` says what is related."""
        exclude_identity: float | None = Field(None, gt=0, le=1)
        """With ``exclude_similar_to``, also leave out proteins that an installed MMseqs2 finds at this
        sequence identity."""

        @field_validator("path", "exclude_similar_to", mode="before")
        @classmethod
        def _one_or_many(cls, value: object) -> object:
            return (value,) if isinstance(value, str | Path) else value

    group_size = 1

    def __init__(self, settings: Settings) -> None:
        if not settings.path:
            raise SettingsError("the dataset 'folder' needs a path", "set it: --data PATH")
        formats = structure_formats()
        searched = search((path.expanduser() for path in settings.path), formats)
        paths, self.passed_over = searched.files, passed_over_text(searched.passed_over)
        proteins, refused = read_structures(paths, progress=sys.stderr.isatty(), formats=formats)
        path_of = dict(zip(unique_names(paths, formats), paths, strict=True))
        wrong_length = [
            Refusal(path_of[protein.name], reason)
            for protein in proteins
            if (reason := _wrong_length(len(protein), settings))
        ]
        self._proteins = [protein for protein in proteins if not _wrong_length(len(protein), settings)]
        sequences = Sequences([protein.name for protein in self._proteins], Chains.of(self._proteins))
        similar, similarity_notes = related_to(
            sequences,
            settings.exclude_similar_to,
            shared=settings.shared_kmers,
            identity=settings.exclude_identity,
            formats=formats,
        )
        related = [
            Refusal(path_of[sequences.names[index]], f"related to {other} (exclude_similar_to)")
            for index, other in similar.items()
        ]
        self._proteins = [item for index, item in enumerate(self._proteins) if index not in similar]
        self.refused: tuple[Refusal, ...] = (*refused, *searched.refused, *wrong_length, *related)
        if not self._proteins:
            raise _nothing_read(settings.path, self.refused, searched)
        self.notes = group_notes((protein.name, protein.notes) for protein in self._proteins)
        self.lengths = [len(protein) for protein in self._proteins]
        splits, notes = split_proteins(
            [protein.name for protein in self._proteins],
            self._proteins,
            Shares(settings.valid_fraction),
            shared=settings.shared_kmers,
        )
        self.notes += [*similarity_notes, *notes]
        self._splits = splits

    def __len__(self) -> int:
        return len(self._proteins)

    def __getitem__(self, index: int) -> Protein:
        return self._proteins[index]

    def split(self, name: Split) -> Sequence[int]:
        """Indices of the proteins of one split; ``train`` is never empty."""
        return [index for index, split in enumerate(self._splits) if split == name]


def _wrong_length(length: int, settings: StructureFolder.Settings) -> str:
    if length < settings.min_length:
        return f"{counted(length, 'residue')}, fewer than min_length {settings.min_length}"
    if settings.max_length is not None and length > settings.max_length:
        return f"{counted(length, 'residue')}, more than max_length {settings.max_length}"
    return ""


def _nothing_read(paths: Sequence[Path], refused: Sequence[Refusal], searched: FoundFiles) -> StructureError:
    places = ", ".join(map(str, paths))
    if not searched.files:
        return nothing_found(paths, searched)
    more = [f"... and {len(refused) - _SHOWN_REASONS} more"] if len(refused) > _SHOWN_REASONS else []
    return StructureError(
        f"no protein could be read from {places}, {len(refused)} file{'s' if len(refused) > 1 else ''} tried",
        *(f"{item.path}: {item.reason}" for item in refused[:_SHOWN_REASONS]),
        *more,
    )
