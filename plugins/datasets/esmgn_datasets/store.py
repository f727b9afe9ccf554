"""The dataset ``store``: proteins of a memory-mapped store on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import DataError, SettingsError
from esmgn_core.formats import structure_formats
from esmgn_core.io import group_notes
from esmgn_core.related import SHARED, Sequences, described, related
from esmgn_core.settings import ComponentSettings
from esmgn_core.splits import Shares, Split, assign
from esmgn_core.store import Store, read_splits, related_to, sequence_hashes

_MOST_COMPARED = 100_000
"""Proteins whose 5-mers are compared when the dataset is built, which takes about a minute."""


class StoreDataset:
    """Proteins of a store made by ``esmgn data build``, read on access.

    Without a file of splits, a hash of the sequences assigns groups of related proteins to splits; see
    :func:`esmgn_core.related.related`.

    Attributes:
        lengths: int64 [P], residues of each protein, from the index of the store.
        residue_features: names of the proteins' residue features.
        notes: atoms and residues dropped, divided or guessed when the files were read, grouped by kind.

    Raises:
        SettingsError: no path is set.
        DataError: the path is not a store, or no protein in it fits the settings.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`StoreDataset`."""

        path: Path | None = None
        """Folder of the store."""
        valid_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for validation, without a file of splits."""
        shared_kmers: float = Field(SHARED, ge=0, le=1)
        """Chains that share at least this part of the shorter chain's 5-mers are in one split. 0 compares
        identical sequences and fragments of one AlphaFold accession only."""
        splits: Path | None = None
        """File of splits, from esmgn data split. Only its training and validation proteins are used."""
        min_length: int = Field(1, ge=1)
        """Leave out proteins with fewer residues."""
        max_length: int | None = Field(None, ge=1)
        """Leave out proteins with more residues."""
        min_plddt: float = Field(0, ge=0, le=100)
        """Leave out predicted structures with a lower mean pLDDT."""
        max_resolution: float | None = Field(None, gt=0)
        """Leave out experimental structures with a larger resolution value, in angstrom."""
        max_chains: int | None = Field(None, ge=1)
        """Leave out proteins with more chains."""
        exclude_similar_to: tuple[Path, ...] = ()
        """Leave out proteins related to those of these stores, structure files and folders, such as the test
        set of a later task. ``shared_kmers`` says what is related."""
        exclude_identity: float | None = Field(None, gt=0, le=1)
        """With ``exclude_similar_to``, also leave out proteins that an installed MMseqs2 finds at this
        sequence identity."""
        unique_sequences: bool = False
        """Keep only the first protein of each sequence."""

        @field_validator("exclude_similar_to", mode="before")
        @classmethod
        def _one_or_many(cls, value: object) -> object:
            return (value,) if isinstance(value, str | Path) else value

    group_size = 1

    def __init__(self, settings: Settings) -> None:
        if settings.path is None:
            raise SettingsError("the dataset 'store' needs a path", "set it: --data STORE")
        self._store = Store(settings.path.expanduser())
        self._rows = _chosen(self._store, settings)
        self._rows, notes = _unrelated(self._store, settings, self._rows)
        if settings.splits is None:
            held, compared = _by_relation(self._store, settings, self._rows)
            notes += compared
        else:
            held, self._rows = _by_file(self._store, settings.splits, self._rows)
        if not len(self._rows):
            raise DataError(f"no protein of {settings.path} fits the settings of the dataset")
        self._splits = {"train": np.flatnonzero(~held), "valid": np.flatnonzero(held)}
        self.lengths: NDArray[np.int64] = self._store.lengths[self._rows]
        self.residue_features = self._store.layout.annotations
        self.notes = [*group_notes(self._store.notes(self._rows)), *notes]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Protein:
        return self._store[int(self._rows[index])]

    def batch(self, indices: Sequence[int]) -> ProteinBatch:
        """Read several proteins at once, packed into a batch."""
        return self._store.batch(self._rows[np.asarray(indices)])

    def split(self, name: Split) -> Sequence[int]:
        """Indices of the proteins of one split."""
        return self._splits[name].tolist()


def _chosen(store: Store, settings: StoreDataset.Settings) -> NDArray[np.int64]:
    """Rows of the store that fit the settings."""
    fits = store.lengths >= settings.min_length
    if settings.max_length is not None:
        fits &= store.lengths <= settings.max_length

    def column(name: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = store.index([name]).column(name).to_numpy().astype(np.float64)
        return values

    if settings.min_plddt > 0:
        fits &= ~(column("mean_plddt") < settings.min_plddt)
    if settings.max_resolution is not None:
        fits &= ~(column("resolution") > settings.max_resolution)
    if settings.max_chains is not None:
        fits &= column("num_chains") <= settings.max_chains
    rows = np.flatnonzero(fits)
    if settings.unique_sequences:
        hashes = store.index(["sequence_hash"]).column("sequence_hash").to_numpy()[rows]
        rows = rows[np.sort(np.unique(hashes, return_index=True)[1])]
    return rows


def _unrelated(
    store: Store, settings: StoreDataset.Settings, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[str]]:
    """The rows that are not related to proteins of ``exclude_similar_to``, and notes on them."""
    if not settings.exclude_similar_to:
        return rows, []
    names = store.names
    sequences = Sequences([names[row] for row in rows], store.chains().take(rows))
    found, notes = related_to(
        sequences,
        settings.exclude_similar_to,
        shared=settings.shared_kmers,
        identity=settings.exclude_identity,
        formats=structure_formats(),
    )
    return np.delete(rows, [*found]), notes


def _by_relation(
    store: Store, settings: StoreDataset.Settings, rows: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Mask of the rows used for validation, and notes on the comparison of sequences."""
    shares = Shares(settings.valid_fraction)
    if not shares.valid:
        return np.zeros(len(rows), dtype=np.bool_), []
    names, hashes = store.names, sequence_hashes(store)
    keys = [hashes[row] for row in rows]
    shared = settings.shared_kmers if len(rows) <= _MOST_COMPARED else 0.0
    groups = related([names[row] for row in rows], keys, store.chains().take(rows), shared=shared)
    splits = assign(groups.tolist(), keys, shares)
    notes = [described(splits, groups, shares, shared)]
    if shared < settings.shared_kmers:
        notes.append(
            f"more than {_MOST_COMPARED:,} proteins: a run does not compare 5-mers at every start; "
            "compare them once: esmgn data split STORE -o FILE, and set data.splits=FILE"
        )
    return np.array(splits) == "valid", notes


def _by_file(
    store: Store, path: Path, rows: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Mask of the validation rows, and the rows that the file assigns to ``train`` or ``valid``."""
    split_of = read_splits(path)
    names = store.names
    found = np.array([split_of.get(names[row], "") for row in rows])
    kept = np.isin(found, ["train", "valid"])
    if not (found == "train").any():
        raise DataError(
            f"{path} assigns no protein of {store.path} to the split 'train'",
            "make a new file of splits: esmgn data split STORE -o FILE",
        )
    return found[kept] == "valid", rows[kept]
