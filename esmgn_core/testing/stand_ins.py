"""Simple encoders that stand in for the real ones where a fuser or a pretext task is tested."""

from __future__ import annotations

from torch import Tensor, nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings


class ExampleSequenceEncoder(nn.Module):
    """A linear map of the residue type."""

    class Settings(ComponentSettings):
        """No settings."""

    output_dim = 10

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(NUM_RESIDUE_FEATURES, self.output_dim)

    def forward(self, batch: ProteinBatch) -> Encoding:
        """Encode the residue types."""
        return Encoding.from_residues(self.linear(batch.residue_one_hot), batch, readout="mean")


class ExampleStructureEncoder(nn.Module):
    """A linear map of the features, and what the neighbours send."""

    class Settings(ComponentSettings):
        """No settings."""

    output_dim = 14

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, self.output_dim)
        self.message = nn.Linear(self.output_dim, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` on the residue graph."""
        source, target = graph.edge_index
        hidden = self.linear(features)
        return Encoding.from_residues(hidden.index_add(0, target, self.message(hidden)[source]), batch)
