"""The conformance kit catches sequence encoders that break their contract."""

# ruff: noqa: ARG002 - broken components keep the signatures of their contract

from __future__ import annotations

import pytest
import torch
from torch import nn

from esmgn_core.batch import Encoding
from esmgn_core.settings import ComponentSettings
from esmgn_core.spec import Kind
from esmgn_core.testing import check_class


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


class ReadsStructure(HealthySequence):
    def forward(self, batch):
        near = (batch.ca.norm(dim=1) < 50).unsqueeze(1)
        return Encoding.from_residues(self.embedding(batch.residue_type) * near, batch)


class ReadsNumbers(HealthySequence):
    def forward(self, batch):
        return Encoding.from_residues(
            self.embedding(batch.residue_type) + batch.residue_index.unsqueeze(1), batch
        )


class HidesMaskedResidues(HealthySequence):
    def forward(self, batch):
        found = self.embedding(batch.residue_type)
        return Encoding.from_residues(
            found.masked_fill((batch.residue_type == 21).unsqueeze(1), torch.nan), batch
        )


def test_a_healthy_sequence_encoder_passes():
    check_class(Kind.SEQ, HealthySequence)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (ReadsStructure, "depends on more than residue types and chains"),
        (ReadsNumbers, "depends on more than residue types and chains"),
        (HidesMaskedResidues, "residue representations are not all finite"),
    ],
)
def test_a_broken_sequence_encoder_is_caught(component, message):
    with pytest.raises(AssertionError, match=f"^sequence encoder '{component.__name__}': {message}"):
        check_class(Kind.SEQ, component)
