"""Fusers with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002, ARG003 - broken components keep the signatures of their contract

from __future__ import annotations

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
