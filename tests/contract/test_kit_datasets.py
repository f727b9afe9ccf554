"""The conformance kit catches datasets that break their contract."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class, example_proteins


class Healthy:
    """The example proteins twice; the last four are the validation set."""

    class Settings(ComponentSettings):
        """No settings."""

    group_size = 1

    def __init__(self, settings: Settings) -> None:
        self.proteins = example_proteins()
        self.proteins += [replace(protein, name=f"{protein.name}_2") for protein in example_proteins(seed=1)]

    def __len__(self):
        return len(self.proteins)

    def __getitem__(self, index):
        return self.proteins[index]

    def split(self, name):
        return range(6) if name == "train" else range(6, 10)


class Empty(Healthy):
    def __init__(self, settings):
        self.proteins = []


class Overlaps(Healthy):
    def split(self, name):
        return range(7) if name == "train" else range(6, 10)


class LeavesOneOut(Healthy):
    def split(self, name):
        return range(6) if name == "train" else range(6, 9)


class TrainsOnNothing(Healthy):
    def split(self, name):
        return range(0) if name == "train" else range(10)


class TearsPairs(Healthy):
    group_size = 2

    def split(self, name):
        return range(5) if name == "train" else range(5, 10)


class SwapsPairs(Healthy):
    group_size = 2

    def split(self, name):
        return [1, 0, 2, 3, 4, 5] if name == "train" else range(6, 10)


class HasHalfAPair(Healthy):
    group_size = 3


class SplitsAtRandom(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.order = torch.randperm(10).tolist()

    def split(self, name):
        return self.order[:6] if name == "train" else self.order[6:]


class CropsAtRandom(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        offset = torch.randint(2**31, ())
        self.proteins[2] = replace(self.proteins[2], residue_index=self.proteins[2].residue_index + offset)


class MovesOnReading(Healthy):
    def __getitem__(self, index):
        self.proteins[0].residue_index.add_(1)
        return self.proteins[index]


class NamesTwins(Healthy):
    def __init__(self, settings):
        self.proteins = example_proteins() + example_proteins(seed=1)


class Changes(Healthy):
    """One field of the third protein is replaced by something wrong."""

    field = ""

    def __getitem__(self, index):
        protein = self.proteins[index]
        return replace(protein, **{self.field: self.changed(protein)}) if index == 2 else protein

    def changed(self, protein):
        raise NotImplementedError


class Int32Types(Changes):
    field = "residue_type"

    def changed(self, protein):
        return protein.residue_type.int()


class MaskedTypes(Changes):
    field = "residue_type"

    def changed(self, protein):
        return protein.residue_type.index_fill(0, torch.tensor(4), 21)


class DoubleCoordinates(Changes):
    field = "backbone"

    def changed(self, protein):
        return protein.backbone.double()


class ZerosForMissing(Changes):
    field = "backbone"

    def changed(self, protein):
        return protein.backbone.nan_to_num()


class MissingCA(Changes):
    field = "atom_mask"

    def changed(self, protein):
        mask = protein.atom_mask.clone()
        mask[3, 1] = False
        return mask


class ShortNumbers(Changes):
    field = "residue_index"

    def changed(self, protein):
        return protein.residue_index[1:]


class UnknownChain(Changes):
    field = "chain_index"

    def changed(self, protein):
        return protein.chain_index + 1


class LargePlddt(Changes):
    field = "plddt"

    def changed(self, protein):
        return torch.full((len(protein),), 101.0)


class CodesAsText(Changes):
    field = "insertion_code"

    def changed(self, protein):
        return torch.full((len(protein),), 32)


def test_a_healthy_dataset_passes():
    check_class(Kind.DATA, Healthy)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (Empty, "has no proteins"),
        (Overlaps, "a protein is in several splits"),
        (LeavesOneOut, "its splits do not cover its proteins"),
        (TrainsOnNothing, "its training split is empty"),
        (TearsPairs, "split 'train' divides groups of 2 proteins"),
        (SwapsPairs, "split 'train' divides groups of 2 proteins"),
        (HasHalfAPair, "its last group of proteins is incomplete"),
        (SplitsAtRandom, "two instances differ in split 'train'"),
        (CropsAtRandom, "two instances differ in protein 2"),
        (MovesOnReading, "protein 0 differs at the second access"),
        (NamesTwins, "names of several proteins: long, pair, predicted, single, two_chains"),
        (Int32Types, r"protein 'long': residue_type is not a torch\.int64 tensor of shape \[120\]"),
        (MaskedTypes, "protein 'long': residue types are not 0 to 20"),
        (
            DoubleCoordinates,
            r"protein 'long': backbone is not a torch\.float32 tensor of shape \[120, 4, 3\]",
        ),
        (ZerosForMissing, "protein 'long': coordinates and atom_mask disagree"),
        (MissingCA, "protein 'long': a residue has no CA atom"),
        (ShortNumbers, r"protein 'long': residue_index is not a torch\.int64 tensor of shape \[120\]"),
        (UnknownChain, "protein 'long': chain_index is not an index into chains"),
        (LargePlddt, "protein 'long': plddt is not between 0 and 100"),
        (CodesAsText, r"protein 'long': insertion_code is not a torch\.uint8 tensor"),
    ],
)
def test_a_broken_dataset_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^dataset '{component.__name__}': {message}"):
        check_class(Kind.DATA, component)
