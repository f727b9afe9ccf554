"""Sequence encoders with a planted fault, and unusual valid ones."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind

from . import fault, valid


@valid(Kind.SEQ)
class HealthySequence(nn.Module):
    """An embedding of the residue type and its neighbour in the chain."""

    class Settings(ComponentSettings):
        """No settings."""

    output_dim = 5

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.embedding = nn.Embedding(22, self.output_dim)

    def forward(self, batch):
        return Encoding.from_residues(self.embedding(batch.residue_type), batch)


@fault(Kind.SEQ, "depends on more than residue types and chains")
class ReadsStructure(HealthySequence):
    def forward(self, batch):
        near = (batch.ca.norm(dim=1) < 50).unsqueeze(1)
        return Encoding.from_residues(self.embedding(batch.residue_type) * near, batch)


@fault(Kind.SEQ, "depends on more than residue types and chains")
class ReadsNumbers(HealthySequence):
    def forward(self, batch):
        return Encoding.from_residues(
            self.embedding(batch.residue_type) + batch.residue_index.unsqueeze(1), batch
        )


@fault(Kind.SEQ, "residue representations are not all finite")
class HidesMaskedResidues(HealthySequence):
    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        return Encoding.from_residues(
            found.masked_fill((batch.residue_type == 21).unsqueeze(1), torch.nan), batch
        )
