"""Sequences of the training or test proteins of a run, a store or structure files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from esmgn_core.errors import EsmgnError
from esmgn_core.formats import structure_formats
from esmgn_core.host.configure import configure
from esmgn_core.host.registry import discover
from esmgn_core.model.compose import resolve
from esmgn_core.printable import counted
from esmgn_core.protocols import LabeledDataset, ProteinDataset
from esmgn_core.related import Chains, Sequences
from esmgn_core.run_folder import RunFolder
from esmgn_core.store import read_sequences


@dataclass(frozen=True, slots=True, eq=False)
class FoundSequences:
    """Sequences, and notes on what was left out."""

    sequences: Sequences
    notes: tuple[str, ...]


def sequences_of(path: Path, *, test: bool) -> FoundSequences:
    """Read names and chains of the training or the test proteins at a path.

    Args:
        path: a run folder, whose dataset is read again, a store, a structure file, or a folder of such files.
        test: of a run folder, read the test sets (without any, the validation set) instead of the training
            and validation proteins.

    Raises:
        EsmgnError: the path has no proteins, or the configuration of the run is damaged.
    """
    run = RunFolder(path)
    if not run.config.is_file():
        sequences, notes = read_sequences(path, structure_formats())
        return FoundSequences(sequences, tuple(notes))
    registry = discover()
    tables, _ = run.recorded_tables()
    dataset = resolve(registry, configure(registry, [tables])).dataset()
    proteins, left_out = [], []
    for index in _indices(dataset, test=test):
        try:
            proteins.append(dataset[index])
        except (EsmgnError, OSError, ValueError) as error:
            left_out.append(str(error))
    notes = [f"{counted(len(left_out), 'protein')} of {path} not compared: {left_out[0]}"] if left_out else []
    names = [protein.name for protein in proteins]
    return FoundSequences(Sequences(names, Chains.of(proteins)), tuple(notes))


def _indices(dataset: ProteinDataset, *, test: bool) -> list[int]:
    if not test:
        return [*dataset.split("train"), *dataset.split("valid")]
    sets = dataset.test_sets.values() if isinstance(dataset, LabeledDataset) else ()
    return sorted({index for indices in sets for index in indices}) or [*dataset.split("valid")]
