"""SchNet on residues: continuous-filter convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.edges import edges_within
from esmgn_pyg.library import schnet
from esmgn_pyg.settings import LayerSettings
from esmgn_pyg.stack import LayerEncoder


class SchNet(LayerEncoder):
    r"""SchNet with residue features instead of atomic numbers, and CA-CA instead of interatomic distances.

    .. math::
        x^{(0)} = W f + b, \quad
        x^{(l)}_i = x^{(l-1)}_i + \mathrm{MLP}_l\Bigl(\sum_{j \in \mathcal{N}(i)}
                    x^{(l-1)}_j \odot w_l(d_{ij})\Bigr)

    The filters w vanish at ``cutoff``. Longer edges of the graph are left out.

    Source: Schuett et al. 2017 (arXiv 1706.08566).
    """

    class Settings(LayerSettings):
        num_filters: int = Field(128, ge=1)
        """Number of channels of the convolutions."""
        num_gaussians: int = Field(50, ge=2)
        """Number of Gaussian basis functions of the distance, from 0 to ``cutoff``."""
        cutoff: float = Field(10.0, gt=0)
        """Distance at which the filters vanish, in angstrom. Longer edges of the graph are left out."""

    settings: Settings

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        super().__init__(settings, input_dim=input_dim)
        width, gaussians, cutoff = settings.hidden_dim, settings.num_gaussians, settings.cutoff
        self.bases = schnet.GaussianSmearing(0.0, cutoff, gaussians)
        self.interactions = nn.ModuleList(
            schnet.InteractionBlock(width, gaussians, settings.num_filters, cutoff)
            for _ in range(settings.num_layers)
        )

    def layer_outputs(self, hidden: Tensor, batch: ProteinBatch, graph: ResidueGraph) -> Iterator[Tensor]:
        """Output of each layer in turn, float [N, hidden_dim]."""
        # Beyond the cutoff the cosine that scales the filters would rise again.
        edge_index, distance = edges_within(batch, graph, self.settings.cutoff)
        bases = self.bases(distance)
        for interaction in self.interactions:
            hidden = hidden + self.dropout(interaction(hidden, edge_index, distance, bases))
            yield hidden
