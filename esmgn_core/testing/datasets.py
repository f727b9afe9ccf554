"""Claims about datasets."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from esmgn_core.alphabet import UNKNOWN
from esmgn_core.batch import CA, Protein, ProteinBatch
from esmgn_core.protocols import HasResidueFeatures, KnowsLengths, LabeledDataset, ReadsBatches
from esmgn_core.splits import Split
from esmgn_core.testing.claims import Claims, differences, snapshot


@dataclass(frozen=True, slots=True)
class DatasetSubject:
    """A dataset under test."""

    claims: Claims
    build: Callable[[], Any]
    dataset: Any

    def tests(self) -> dict[str, list[int]]:
        """Its test sets, if it has labels."""
        sets = self.dataset.test_sets if isinstance(self.dataset, LabeledDataset) else {}
        return {name: list(indices) for name, indices in sets.items()}


def check_dataset(claims: Claims, _component: type, build: Callable[..., Any]) -> None:
    """Check all claims about a dataset. All proteins are read."""
    checks = (
        *(_size, _proteins, _names, _splits, _labels, _repeatable),
        *(_lengths, _features, _batches, _threads),
    )
    claims.check(checks, DatasetSubject(claims, build, build()))


def _size(subject: DatasetSubject) -> None:
    """The dataset has proteins, in complete groups."""
    dataset = subject.dataset
    subject.claims.require(len(dataset) > 0, "has no proteins")
    subject.claims.require_positive("group_size", dataset.group_size)
    subject.claims.require(len(dataset) % dataset.group_size == 0, "its last group of proteins is incomplete")


def _proteins(subject: DatasetSubject) -> None:
    """Every protein follows the documentation of ``Protein``, and can be packed into a batch."""
    dataset = subject.dataset
    proteins = [dataset[index] for index in range(len(dataset))]
    for protein in proteins:
        check_protein(subject.claims, protein)
    ProteinBatch.from_proteins(proteins)


def check_protein(claims: Claims, protein: object) -> None:
    """A protein has tensors of the documented shapes and types, with valid values."""
    claims.require(isinstance(protein, Protein), f"returns {type(protein).__name__}, expected Protein")
    assert isinstance(protein, Protein)  # noqa: S101 - for the type checker; stated above
    about = f"protein '{protein.name}'"
    length = len(protein)
    claims.require(length > 0, f"{about} has no residues")
    for name, shape, dtype in (
        ("residue_type", (length,), torch.int64),
        ("backbone", (length, 4, 3), torch.float32),
        ("atom_mask", (length, 4), torch.bool),
        ("residue_index", (length,), torch.int64),
        ("chain_index", (length,), torch.int64),
        ("plddt", (length,), torch.float32),
        ("insertion_code", (length,), torch.uint8),
    ):
        tensor: Tensor | None = getattr(protein, name)
        if tensor is None and name in {"plddt", "insertion_code"}:
            continue
        fits = isinstance(tensor, Tensor) and tuple(tensor.shape) == shape and tensor.dtype == dtype
        claims.require(fits, f"{about}: {name} is not a {dtype} tensor of shape {list(shape)}")
    _check_values(claims, about, protein)


def _check_values(claims: Claims, about: str, protein: Protein) -> None:
    kinds, chain = protein.residue_type, protein.chain_index
    claims.require(
        0 <= int(kinds.min()) <= int(kinds.max()) <= UNKNOWN, f"{about}: residue types are not 0 to {UNKNOWN}"
    )
    claims.require(bool(protein.atom_mask[:, CA].all()), f"{about}: a residue has no CA atom")
    present = protein.backbone.isfinite().all(dim=2)
    absent = protein.backbone.isnan().all(dim=2)
    agree = torch.where(protein.atom_mask, present, absent)
    claims.require(bool(agree.all()), f"{about}: coordinates and atom_mask disagree about missing atoms")
    known = 0 <= int(chain.min()) <= int(chain.max()) < len(protein.chains)
    claims.require(known, f"{about}: chain_index is not an index into chains")
    if protein.plddt is not None:
        in_range = bool(((protein.plddt >= 0) & (protein.plddt <= 100)).all())
        claims.require(in_range, f"{about}: plddt is not between 0 and 100")


def _names(subject: DatasetSubject) -> None:
    """Names are unique."""
    dataset = subject.dataset
    names = [dataset[index].name for index in range(len(dataset))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    subject.claims.require(not repeated, f"names of several proteins: {', '.join(repeated)}")


def _splits(subject: DatasetSubject) -> None:
    """The splits have no common proteins, contain all proteins, and keep groups together."""
    dataset = subject.dataset
    splits: dict[str, list[int]] = {name: list(dataset.split(name)) for name in get_args(Split)}
    tests = subject.tests()
    together = [index for indices in splits.values() for index in indices]
    together += sorted({index for indices in tests.values() for index in indices})
    splits |= tests
    claims = subject.claims
    claims.require(len(together) == len(set(together)), "a protein is in several splits")
    claims.require(sorted(together) == list(range(len(dataset))), "its splits do not cover its proteins")
    claims.require(bool(splits["train"]), "its training split is empty")
    size = dataset.group_size
    for name, indices in splits.items():
        groups = [indices[first : first + size] for first in range(0, len(indices), size)]
        whole = all(
            group == list(range(group[0], group[0] + size)) and group[0] % size == 0 for group in groups
        )
        claims.require(whole, f"split '{name}' divides groups of {size} proteins")


def _labels(subject: DatasetSubject) -> None:
    """Every label has a name; every protein has the same labels alone and in ``labels()``."""
    claims, dataset = subject.claims, subject.dataset
    if not isinstance(dataset, LabeledDataset):
        return
    names = list(dataset.label_names)
    claims.require(bool(names) and len(set(names)) == len(names), "its label names are missing or repeated")
    claims.require(
        all(name.startswith("test") for name in dataset.test_sets),
        "the name of a test set does not start with 'test'",
    )
    labels = dataset.labels(range(len(subject.dataset)))
    claims.require(
        labels.dtype == torch.float32
        and tuple(labels.shape) in {(len(labels), 1), (len(labels), len(names))},
        f"labels() returns {labels.dtype} {list(labels.shape)}, expected a float32 column, or one per name",
    )
    own = [subject.dataset[index].labels for index in range(len(labels))]
    same = all(
        a is not None and not differences(snapshot(a), snapshot(b)) for a, b in zip(own, labels, strict=True)
    )
    claims.require(same, "the labels of a protein differ from labels()")


def _repeatable(subject: DatasetSubject) -> None:
    """Two instances, and two accesses to a protein, give the same proteins and splits."""
    claims, one = subject.claims, subject.dataset
    torch.manual_seed(2)
    other = subject.build()
    claims.require(len(one) == len(other), "two instances have different numbers of proteins")
    for name in get_args(Split):
        claims.require(
            list(one.split(name)) == list(other.split(name)), f"two instances differ in split '{name}'"
        )
    for index in range(len(one)):
        first, second, third = snapshot(one[index]), snapshot(one[index]), snapshot(other[index])
        claims.require(not differences(first, second), f"protein {index} differs at the second access")
        claims.require(not differences(first, third), f"two instances differ in protein {index}")


def _lengths(subject: DatasetSubject) -> None:
    """``lengths`` has the residues of each protein."""
    dataset = subject.dataset
    if not isinstance(subject.dataset, KnowsLengths):
        return
    actual = [len(dataset[index]) for index in range(len(dataset))]
    subject.claims.require(list(dataset.lengths) == actual, "lengths differ from those of its proteins")


def _features(subject: DatasetSubject) -> None:
    """Every protein has the features in ``residue_features``, float32 [n]."""
    dataset = subject.dataset
    if not isinstance(subject.dataset, HasResidueFeatures):
        return
    for index in range(len(dataset)):
        protein = dataset[index]
        for name in dataset.residue_features:
            values = protein.features.get(name)
            fits = values is not None and values.dtype == torch.float32 and values.shape == (len(protein),)
            subject.claims.require(fits, f"protein '{protein.name}' lacks the residue feature '{name}'")


def _batches(subject: DatasetSubject) -> None:
    """``batch()`` gives the batch of these proteins, in any order."""
    dataset = subject.dataset
    if not isinstance(subject.dataset, ReadsBatches):
        return
    size = dataset.group_size
    groups = [range(first, first + size) for first in range(0, len(dataset), size)]
    for chosen in (groups, groups[::-1], groups[:1]):
        indices = [index for group in chosen for index in group]
        expected = ProteinBatch.from_proteins([dataset[index] for index in indices])
        changed = differences(snapshot(dataset.batch(indices)), snapshot(expected))
        subject.claims.require(not changed, f"batch() differs from its proteins: {', '.join(changed)}")


def _threads(subject: DatasetSubject) -> None:
    """8 threads read the same proteins as one."""
    dataset, other = subject.dataset, subject.build()
    indices = [index for index in range(len(dataset)) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda index: snapshot(other[index]), indices))
    for index, found in zip(indices, read, strict=True):
        same = not differences(found, snapshot(dataset[index]))
        subject.claims.require(same, f"protein {index} differs if several threads read")
