"""SchNet on residues: continuous-filter convolutions."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout
from esmgn_pyg.edges import edges_within
from esmgn_pyg.library import GaussianSmearing, InteractionBlock
from esmgn_pyg.settings import LayerSettings
from esmgn_pyg.stack import joined


class SchNet(nn.Module):
    r"""SchNet with residue features in place of atomic numbers, CA-CA distances for interatomic ones.

    .. math::
        x^{(0)} = W f + b, \quad
        x^{(l)}_i = x^{(l-1)}_i + \mathrm{MLP}_l\Bigl(\sum_{j \in \mathcal{N}(i)}
                    x^{(l-1)}_j \odot w_l(d_{ij})\Bigr)

    The filters w fade out towards ``cutoff``; pairs farther apart do not see each other, even if
    the graph joins them.

    Shapes: features [N, input_dim] -> residue [N, output_dim], protein [B, output_dim].

    Source: Schuett et al. 2017 (arXiv 1706.08566).
    """

    class Settings(LayerSettings):
        num_filters: int = Field(128, ge=1)
        """Channels of the convolutions."""
        num_gaussians: int = Field(50, ge=2)
        """Gaussian basis functions of the distance, from 0 to ``cutoff``."""
        cutoff: float = Field(10.0, gt=0)
        """Distance at which the filters have faded out, in angstrom."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(input_dim, settings.hidden_dim)
        self.bases = GaussianSmearing(0.0, settings.cutoff, settings.num_gaussians)
        self.interactions = nn.ModuleList(
            InteractionBlock(
                settings.hidden_dim, settings.num_gaussians, settings.num_filters, settings.cutoff
            )
            for _ in range(settings.num_layers)
        )
        self.output_dim = settings.output_dim
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        # The cosine that fades the filters out would rise again beyond the cutoff.
        edge_index, distance = edges_within(batch, graph, self.settings.cutoff)
        bases = self.bases(distance)
        hidden = self.embed(features)
        hiddens = []
        for interaction in self.interactions:
            update = interaction(hidden, edge_index, distance, bases)
            hidden = hidden + functional.dropout(update, self.settings.dropout, self.training)
            hiddens.append(hidden)
        encoding: Encoding = self.readout(joined(hiddens, self.settings), batch)
        return encoding
