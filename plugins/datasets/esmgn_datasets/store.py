"""The dataset ``store``: proteins of a memory-mapped store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import DataError, SettingsError
from esmgn_core.io import group_notes
from esmgn_core.related import SHARED, described, related
from esmgn_core.settings import ComponentSettings
from esmgn_core.splits import Shares, Split, assign
from esmgn_core.store import Store, read_splits, sequence_hashes

_MOST_COMPARED = 100_000
"""Proteins whose 5-mers are compared when the dataset is built, which takes about a minute."""


class StoreDataset:
    """Proteins of a store made by ``esmgn data build``. Nothing is read before it is asked for.

    Without a file of splits, related proteins are in one split, see :func:`esmgn_core.related.related`; a
    hash of their sequences decides.

    Attributes:
        lengths: int64 [P], residues of each protein, known without reading any.
        residue_features: names of the features of its proteins.
        notes: what was dropped, divided or guessed in their files, a line for each kind of note.

    Raises:
        SettingsError: no path is set.
        DataError: there is no store, or no protein in it fits the settings.
    """

    class Settings(ComponentSettings):
        """Settings of :class:`StoreDataset`."""

        path: Path | None = None
        """Folder of the store."""
        valid_fraction: float = Field(0.1, ge=0, lt=1)
        """Share of the groups of related proteins used for validation, where there is no file of splits."""
        shared_kmers: float = Field(SHARED, ge=0, le=1)
        """Chains that share this part of the smaller one's 5-mers stay in one split; 0 compares identical
        sequences and fragments of one AlphaFold accession only."""
        splits: Path | None = None
        """File of splits, from esmgn data split; its proteins of other splits are left out."""
        min_length: int = Field(1, ge=1)
        """Leave out proteins with fewer residues."""
        max_length: int | None = Field(None, ge=1)
        """Leave out proteins with more residues."""
        min_plddt: float = Field(0, ge=0, le=100)
        """Leave out predicted structures with a lower mean pLDDT."""
        max_resolution: float | None = Field(None, gt=0)
        """Leave out experimental structures with a coarser resolution, in angstrom."""
        max_chains: int | None = Field(None, ge=1)
        """Leave out proteins with more chains."""
        unique_sequences: bool = False
        """Of proteins with the same sequence keep the first."""

    group_size = 1

    def __init__(self, settings: Settings) -> None:
        if settings.path is None:
            raise SettingsError("the dataset 'store' has no path", "give it one: --data STORE")
        self._store = Store(settings.path.expanduser())
        self._rows = _chosen(self._store, settings)
        notes: list[str] = []
        if settings.splits is None:
            held, notes = _by_relation(self._store, settings, self._rows)
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
        """These proteins packed end to end, read at once."""
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


def _by_relation(
    store: Store, settings: StoreDataset.Settings, rows: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which of the rows are used for validation, and what was compared."""
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
            f"more than {_MOST_COMPARED:,} proteins: 5-mers are not compared at every start of a run; "
            "compare them once: esmgn data split STORE -o FILE, and set data.splits=FILE"
        )
    return np.array(splits) == "valid", notes


def _by_file(
    store: Store, path: Path, rows: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which of the rows are held out, and the rows that the file puts into train or valid."""
    split_of = read_splits(path)
    names = store.names
    found = np.array([split_of.get(names[row], "") for row in rows])
    kept = np.isin(found, ["train", "valid"])
    if not (found == "train").any():
        raise DataError(
            f"{path} puts no protein of {store.path} into the split 'train'",
            "make one that does: esmgn data split STORE -o FILE",
        )
    return found[kept] == "valid", rows[kept]
