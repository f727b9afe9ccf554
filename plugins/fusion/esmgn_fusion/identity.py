"""The structure encoder ``identity``: its input features, for fusers that read the graph themselves."""

from __future__ import annotations

from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.graph import ResidueGraph
from esmgn_core.settings import ComponentSettings


class Identity(nn.Module):
    """Returns its features [N, input_dim] as they are, and pools them to [B, input_dim]."""

    class Settings(ComponentSettings):
        readout: Readout = "mean"
        """Pooling of residues into a protein."""

    def __init__(
        self,
        settings: Settings,
        *,
        input_dim: int,
        num_relations: int,  # noqa: ARG002 - the contract's argument
    ) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = input_dim

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,  # noqa: ARG002 - the contract's argument
        features: Tensor,
    ) -> Encoding:
        """The features themselves."""
        return Encoding.from_residues(features, batch, self.settings.readout)
