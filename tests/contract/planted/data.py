"""Datasets with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import time
from dataclasses import replace

import torch

from esmgn_core.batch import ProteinBatch
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import example_proteins

from . import fault, valid


@valid(Kind.DATA)
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


@fault(Kind.DATA, "has no proteins")
class Empty(Healthy):
    def __init__(self, settings):
        self.proteins = []


@fault(Kind.DATA, "a protein is in several splits")
class Overlaps(Healthy):
    def split(self, name):
        return range(7) if name == "train" else range(6, 10)


@fault(Kind.DATA, "its splits do not cover its proteins")
class LeavesOneOut(Healthy):
    def split(self, name):
        return range(6) if name == "train" else range(6, 9)


@fault(Kind.DATA, "its training split is empty")
class TrainsOnNothing(Healthy):
    def split(self, name):
        return range(0) if name == "train" else range(10)


@fault(Kind.DATA, "split 'train' divides groups of 2 proteins")
class TearsPairs(Healthy):
    group_size = 2

    def split(self, name):
        return range(5) if name == "train" else range(5, 10)


@fault(Kind.DATA, "split 'train' divides groups of 2 proteins")
class SwapsPairs(Healthy):
    group_size = 2

    def split(self, name):
        return [1, 0, 2, 3, 4, 5] if name == "train" else range(6, 10)


@fault(Kind.DATA, "its last group of proteins is incomplete")
class HasHalfAPair(Healthy):
    group_size = 3


@fault(Kind.DATA, "two instances differ in split 'train'")
class SplitsAtRandom(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        self.order = torch.randperm(10).tolist()

    def split(self, name):
        return self.order[:6] if name == "train" else self.order[6:]


@fault(Kind.DATA, "two instances differ in protein 2")
class CropsAtRandom(Healthy):
    def __init__(self, settings):
        super().__init__(settings)
        offset = torch.randint(2**31, ())
        self.proteins[2] = replace(self.proteins[2], residue_index=self.proteins[2].residue_index + offset)


@fault(Kind.DATA, "protein 0 differs at the second access")
class MovesOnReading(Healthy):
    def __getitem__(self, index):
        self.proteins[0].residue_index.add_(1)
        return self.proteins[index]


@fault(Kind.DATA, "names of several proteins: long, pair, predicted, single, two_chains")
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


@fault(Kind.DATA, r"protein 'long': residue_type is not a torch\.int64 tensor of shape \[120\]")
class Int32Types(Changes):
    field = "residue_type"

    def changed(self, protein):
        return protein.residue_type.int()


@fault(Kind.DATA, "protein 'long': residue types are not 0 to 20")
class MaskedTypes(Changes):
    field = "residue_type"

    def changed(self, protein):
        return protein.residue_type.index_fill(0, torch.tensor(4), 21)


@fault(Kind.DATA, r"protein 'long': backbone is not a torch\.float32 tensor of shape \[120, 4, 3\]")
class DoubleCoordinates(Changes):
    field = "backbone"

    def changed(self, protein):
        return protein.backbone.double()


@fault(Kind.DATA, "protein 'long': coordinates and atom_mask disagree")
class ZerosForMissing(Changes):
    field = "backbone"

    def changed(self, protein):
        return protein.backbone.nan_to_num()


@fault(Kind.DATA, "protein 'long': a residue has no CA atom")
class MissingCA(Changes):
    field = "atom_mask"

    def changed(self, protein):
        mask = protein.atom_mask.clone()
        mask[3, 1] = False
        return mask


@fault(Kind.DATA, r"protein 'long': residue_index is not a torch\.int64 tensor of shape \[120\]")
class ShortNumbers(Changes):
    field = "residue_index"

    def changed(self, protein):
        return protein.residue_index[1:]


@fault(Kind.DATA, "protein 'long': chain_index is not an index into chains")
class UnknownChain(Changes):
    field = "chain_index"

    def changed(self, protein):
        return protein.chain_index + 1


@fault(Kind.DATA, "protein 'long': plddt is not between 0 and 100")
class LargePlddt(Changes):
    field = "plddt"

    def changed(self, protein):
        return torch.full((len(protein),), 101.0)


@fault(Kind.DATA, r"protein 'long': insertion_code is not a torch\.uint8 tensor")
class CodesAsText(Changes):
    field = "insertion_code"

    def changed(self, protein):
        return torch.full((len(protein),), 32)


@fault(Kind.DATA, "lengths differ from those of its proteins")
class SwapsLengths(Healthy):
    @property
    def lengths(self):
        return [len(protein) for protein in self.proteins[::-1]]


@fault(Kind.DATA, "lengths differ from those of its proteins")
class CountsAtoms(Healthy):
    @property
    def lengths(self):
        return [int(protein.atom_mask.sum()) for protein in self.proteins]


@fault(Kind.DATA, "lengths differ from those of its proteins")
class MissesALength(Healthy):
    @property
    def lengths(self):
        return [len(protein) for protein in self.proteins[1:]]


@fault(Kind.DATA, "lacks the residue feature 'burial'")
class PromisesAFeature(Healthy):
    residue_features = ("burial",)


@fault(Kind.DATA, "protein 'long' lacks the residue feature 'burial'")
class FeatureOfTheFirst(Healthy):
    residue_features = ("burial",)

    def __getitem__(self, index):
        protein = self.proteins[index]
        size = len(protein) - (index == 2)
        return replace(protein, features={"burial": torch.zeros(size)})


@fault(Kind.DATA, "protein 'single' lacks the residue feature 'burial'")
class FeatureIsDouble(Healthy):
    residue_features = ("burial",)

    def __getitem__(self, index):
        protein = self.proteins[index]
        dtype = torch.float64 if index == 1 else torch.float32
        return replace(protein, features={"burial": torch.zeros(len(protein), dtype=dtype)})


class Batches(Healthy):
    def batch(self, indices):
        return ProteinBatch.from_proteins([self.proteins[index] for index in indices])


@fault(Kind.DATA, r"batch\(\) differs from its proteins")
class SortsItsBatches(Batches):
    def batch(self, indices):
        return super().batch(sorted(indices))


@fault(Kind.DATA, r"batch\(\) differs from its proteins: .*plddt")
class ForgetsPlddt(Batches):
    def batch(self, indices):
        return super().batch(indices).replace(plddt=None)


@fault(Kind.DATA, r"batch\(\) differs from its proteins: .*backbone")
class CentersItsBatches(Batches):
    def batch(self, indices):
        batch = super().batch(indices)
        return batch.replace(backbone=batch.backbone - batch.backbone.nanmean((0, 1)))


@fault(Kind.DATA, "differs if several threads read")
class SharesAPosition(Healthy):
    """Seeks in one file from all threads."""

    def __getitem__(self, index):
        self.position = index
        time.sleep(1e-4)
        return self.proteins[self.position]


@fault(Kind.DATA, "differs if several threads read|list.remove|pop from")
class SharesABuffer(Healthy):
    """Reuses one buffer for coordinates."""

    def __init__(self, settings):
        super().__init__(settings)
        self.buffer = torch.empty(max(len(protein) for protein in self.proteins), 4, 3)

    def __getitem__(self, index):
        protein = self.proteins[index]
        rows = self.buffer[: len(protein)]
        rows.copy_(protein.backbone)
        time.sleep(1e-4)
        return replace(protein, backbone=rows.clone())


@valid(Kind.DATA)
class KnowsItsLengths(Batches):
    @property
    def lengths(self):
        return [len(protein) for protein in self.proteins]


@valid(Kind.DATA)
class HasAFeature(Batches):
    residue_features = ("burial",)

    def __init__(self, settings):
        super().__init__(settings)
        self.proteins = [replace(one, features={"burial": torch.zeros(len(one))}) for one in self.proteins]
