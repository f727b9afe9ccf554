"""Base class of labelled datasets: proteins in memory, with labels, splits and test sets."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from esmgn_core.batch import Protein
from esmgn_core.errors import StructureError
from esmgn_core.formats import structure_formats
from esmgn_core.io import Refusal, group_notes, iter_structures
from esmgn_core.splits import Split

_LARGEST = torch.finfo(torch.float32).max


@dataclass(slots=True)
class Gathered:
    """Proteins and labels, collected one by one or group by group.

    Attributes:
        proteins: P proteins.
        values: labels of each protein, L numbers or the numbers of its classes; NaN where unknown.
        splits: indices of the proteins of each split and test set.
        refused: files and records left out, each with its reason.
        notes: remarks on the labels for the user, one sentence each.
    """

    proteins: list[Protein] = field(default_factory=list)
    values: list[Sequence[float]] = field(default_factory=list)
    splits: dict[str, list[int]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, split: str, proteins: Sequence[Protein], values: Sequence[float], *more: str) -> None:
        """Add a group of proteins with one label to a split, and to more test sets.

        Raises:
            StructureError: a label is infinite or beyond float32.
        """
        if wrong := [value for value in values if abs(value) > _LARGEST]:
            raise StructureError(f"the label {wrong[0]} is infinite or beyond float32")
        for protein in proteins:
            for name in (split, *more):
                self.splits.setdefault(name, []).append(len(self.proteins))
            self.proteins.append(protein)
            self.values.append(values)


class LabeledProteins:
    """Proteins in memory with labels.

    Attributes:
        refused: files and records left out, each with its reason.
        notes: remarks on the labels and files for the user.
        label_names: names of classes or of values.
        lengths: residues of each protein.

    Raises:
        StructureError: no training protein is left, or none with a known label.
    """

    group_size = 1
    refused: tuple[Refusal, ...]
    notes: list[str]
    label_names: tuple[str, ...]
    lengths: list[int]

    def hold(self, gathered: Gathered, label_names: Iterable[str], *, classes: bool) -> None:
        """Keep the gathered proteins, labels and splits.

        Args:
            gathered: proteins, labels and splits.
            label_names: names of classes or of values.
            classes: True if ``gathered.values`` are numbers of classes, to be turned into 0 and 1.

        Raises:
            StructureError: no training protein is left, or none with a known label.
        """
        self.refused, self.label_names = tuple(gathered.refused), tuple(label_names)
        self._proteins, self._values, self._splits = gathered.proteins, gathered.values, gathered.splits
        self._classes = classes
        read = group_notes((protein.name, protein.notes) for protein in self._proteins)
        self.notes = [*gathered.notes, *read]
        self.lengths = [len(protein) for protein in self._proteins]
        if not self._splits.get("train"):
            reasons = [f"{item.path}: {item.reason}" for item in self.refused[:3]]
            raise StructureError("the dataset has no training protein", *reasons)
        self._check_known()

    def _check_known(self) -> None:
        """Note each label that no training protein has.

        Raises:
            StructureError: no training protein has a known label.
        """
        values = [self._values[index] for index in self._splits["train"]]
        if self._classes:
            known = [any(not any(map(math.isnan, row)) for row in values)]
        else:
            known = [not all(map(math.isnan, column)) for column in zip(*values, strict=True)]
        if not any(known):
            raise StructureError("no training protein has a known label", *self.notes)
        if not self._classes:
            self.notes += [
                f"no training protein has a known '{name}'"
                for name, is_known in zip(self.label_names, known, strict=False)
                if not is_known
            ]

    def __len__(self) -> int:
        return len(self._proteins)

    def __getitem__(self, index: int) -> Protein:
        return replace(self._proteins[index], labels=self.labels([index])[0])

    def split(self, name: Split) -> Sequence[int]:
        """Indices of the training or the validation proteins."""
        return self._splits.get(name, [])

    @property
    def test_sets(self) -> Mapping[str, Sequence[int]]:
        """Indices of the proteins of each test set."""
        return {name: indices for name, indices in self._splits.items() if name.startswith("test")}

    def labels(self, indices: Sequence[int]) -> Tensor:
        """Labels of some proteins, float32 [len(indices), L]; 0 and 1 for classes, NaN where unknown."""
        if not self._classes:
            return torch.tensor([self._values[index] for index in indices], dtype=torch.float32)
        labels = torch.zeros(len(indices), len(self.label_names))
        for row, index in enumerate(indices):
            if any(map(math.isnan, self._values[index])):
                labels[row] = math.nan
            else:
                labels[row, [int(number) for number in self._values[index]]] = 1
        return labels


def read_files(paths: Sequence[Path]) -> Iterable[tuple[Path, Protein | Refusal]]:
    """Read files: each path with its protein or refusal. A terminal shows a progress bar."""
    results: Iterable[Protein | Refusal] = iter_structures(paths, formats=structure_formats())
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        results = track(results, "reading structures", total=len(paths), console=Console(stderr=True))
    return zip(paths, results, strict=True)
