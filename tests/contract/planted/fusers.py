"""Fusers with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002, ARG003 - broken components keep the signatures of their contract

from __future__ import annotations

import time

import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, valid


@valid(Kind.FUSE)
class HealthyFuser(nn.Module):
    """Both encoders side by side, the structure encoder on residue types."""

    class Settings(ComponentSettings):
        """No settings."""

    def __init__(self, settings: Settings, *, sequence_dim: int, structure_dim: int) -> None:
        super().__init__()
        self.output_dim = sequence_dim + structure_dim

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        return sequence_dim

    def forward(self, batch, graph, sequence, structure):
        first = sequence(batch)
        second = structure(batch, graph, first.residue)
        return Encoding(
            torch.cat([first.residue, second.residue], 1), torch.cat([first.protein, second.protein], 1)
        )


@fault(Kind.FUSE, r"no gradient reaches: structure\.linear\.weight")
class ForgetsStructure(HealthyFuser):
    def __init__(self, settings, *, sequence_dim, structure_dim):
        super().__init__(settings, sequence_dim=sequence_dim, structure_dim=structure_dim)
        self.output_dim = sequence_dim

    def forward(self, batch, graph, sequence, structure):
        return sequence(batch)


@fault(Kind.FUSE, r"structure_input_dim\(10\) is 0, expected a positive integer")
class FeedsNothing(HealthyFuser):
    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        return 0


@fault(Kind.FUSE, "packing changes the residue representations")
class NormalisesOverTheBatch(HealthyFuser):
    def forward(self, batch, graph, sequence, structure):
        found = super().forward(batch, graph, sequence, structure)
        return Encoding(found.residue / found.residue.std(), found.protein)


class Projects(HealthyFuser):
    """Projects both encodings to a fixed width."""

    def __init__(self, settings, *, sequence_dim, structure_dim):
        super().__init__(settings, sequence_dim=sequence_dim, structure_dim=structure_dim)
        self.linear = nn.Linear(self.output_dim, 7)
        self.output_dim = 7

    def forward(self, batch, graph, sequence, structure):
        found = super().forward(batch, graph, sequence, structure)
        return Encoding(self.linear(found.residue), self.linear(found.protein))


@valid(Kind.FUSE)
class ProjectsToAFixedWidth(Projects):
    pass


@valid(Kind.FUSE)
class ReturnsTheStructureHalf(HealthyFuser):
    """Serial fusion: gradients reach the sequence encoder through the structure encoder."""

    def __init__(self, settings, *, sequence_dim, structure_dim):
        super().__init__(settings, sequence_dim=sequence_dim, structure_dim=structure_dim)
        self.output_dim = structure_dim

    def forward(self, batch, graph, sequence, structure):
        return structure(batch, graph, sequence(batch).residue)


@valid(Kind.FUSE)
class FeedsOneHot(HealthyFuser):
    """The structure encoder reads residue types only."""

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        return 21

    def forward(self, batch, graph, sequence, structure):
        first, second = sequence(batch), structure(batch, graph, batch.residue_one_hot)
        return Encoding(
            torch.cat([first.residue, second.residue], 1), torch.cat([first.protein, second.protein], 1)
        )


@valid(Kind.FUSE)
class GatesWithDropout(Projects):
    """Drops a part of the projection in training."""

    def forward(self, batch, graph, sequence, structure):
        found = super().forward(batch, graph, sequence, structure)
        return Encoding(torch.dropout(found.residue, 0.2, self.training), found.protein)


@fault(Kind.FUSE, "was checked for: Residue|Features|mat1")
class KnowsOnePairOfWidths(Projects):
    """Its projection is made for widths 10 and 14."""

    def __init__(self, settings, *, sequence_dim, structure_dim):
        super().__init__(settings, sequence_dim=10, structure_dim=14)


@fault(Kind.FUSE, r"expected \(196, output_dim = 24\)")
class ReportsOneWidth(HealthyFuser):
    """``output_dim`` is right for widths 10 and 14 only."""

    def __init__(self, settings, *, sequence_dim, structure_dim):
        super().__init__(settings, sequence_dim=sequence_dim, structure_dim=structure_dim)
        self.output_dim = 24


@fault(Kind.FUSE, "was checked for: Residue")
class FeedsOneWidth(HealthyFuser):
    """``structure_input_dim`` ignores the width of the sequence encoder."""

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        return 10


@fault(Kind.FUSE, "was checked for: Residue")
class AddsUnlikeWidths(HealthyFuser):
    """Adds both representations, which agree in width only by chance."""

    def forward(self, batch, graph, sequence, structure):
        first = sequence(batch)
        second = structure(batch, graph, first.residue)
        return Encoding(first.residue + second.residue, first.protein + second.protein)


@fault(Kind.FUSE, r"no gradient reaches: sequence\.linear\.weight")
class DetachesTheSequence(HealthyFuser):
    def forward(self, batch, graph, sequence, structure):
        with torch.no_grad():
            first = sequence(batch)
        second = structure(batch, graph, first.residue)
        return Encoding(
            torch.cat([first.residue, second.residue], 1), torch.cat([first.protein, second.protein], 1)
        )


@fault(Kind.FUSE, "reads the labels of the proteins")
class ReadsLabels(HealthyFuser):
    def forward(self, batch, graph, sequence, structure):
        found = super().forward(batch, graph, sequence, structure)
        shift = 0 if batch.labels is None else batch.labels.nan_to_num().mean()
        return Encoding(found.residue, found.protein + shift)


@fault(Kind.FUSE, "8 threads")
class SharesAnAttribute(HealthyFuser):
    def forward(self, batch, graph, sequence, structure):
        self.first = sequence(batch)
        time.sleep(1e-3)  # another thread runs in between
        second = structure(batch, graph, self.first.residue)
        return Encoding(
            torch.cat([self.first.residue, second.residue], 1),
            torch.cat([self.first.protein, second.protein], 1),
        )


@fault(Kind.FUSE, "packing changes the protein representations")
class MixesProteins(Projects):
    """Attention between the proteins of a batch."""

    def forward(self, batch, graph, sequence, structure):
        found = super().forward(batch, graph, sequence, structure)
        weights = (found.protein @ found.protein.T).softmax(1)
        return Encoding(found.residue, weights @ found.protein)


@fault(Kind.FUSE, "never reads its setting 'width'")
class IgnoresItsWidth(Projects):
    class Settings(ComponentSettings):
        width: int = 7
        """Width of the projection."""
