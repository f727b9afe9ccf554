"""GPS: message passing along edges and attention over whole proteins."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.attention import attend, pack_of
from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.convs import perceptron
from esmgn_pyg.edges import EdgeFeatures
from esmgn_pyg.library import pyg
from esmgn_pyg.settings import AttentionSettings, DistanceSettings
from esmgn_pyg.stack import LayerEncoder, new_norm


class GPS(LayerEncoder):
    """General, powerful, scalable graph transformer.

    Residues attend to all residues of their protein only. The positional encodings of the paper are left
    out, because relations and distances of edges locate a residue.

    Source: Rampasek et al. 2022 (arXiv 2205.12454).
    """

    class Settings(AttentionSettings, DistanceSettings):
        """Settings of ``pyg_gps``."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__(settings, input_dim=input_dim)
        self.edge_features = EdgeFeatures(settings, num_relations)
        self.layers = nn.ModuleList(
            gps_layer(settings, self.edge_features.output_dim) for _ in range(settings.num_layers)
        )

    def layer_outputs(self, hidden: Tensor, batch: ProteinBatch, graph: ResidueGraph) -> Iterator[Tensor]:
        """Output of each layer in turn, float [N, hidden_dim]."""
        pairs, features = self.edge_features(batch, graph)
        for layer in self.layers:
            hidden = layer(hidden, pairs, batch.protein_index, edge_attr=features)
            yield hidden


class PackedAttention(nn.MultiheadAttention):
    """Attention within proteins that computes neither padding nor the matrix of attention weights.

    It replaces the attention of torch-geometric's ``GPSConv`` and has the same parameters and results.
    """

    def forward(  # type: ignore[override]  # query, key and value are one, and no weights are needed
        self, padded: Tensor, *_: Tensor, key_padding_mask: Tensor, **__: bool
    ) -> tuple[Tensor, None]:
        """Attend within each protein, [B, L, hidden_dim] -> [B, L, hidden_dim], 0 at padding."""
        present = ~key_padding_mask
        hidden = padded[present]
        projected = functional.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.view(len(hidden), 3, self.num_heads, -1).unbind(1)
        dropout = self.dropout if self.training else 0.0
        attended = attend(query, key, value, pack_of(present.sum(dim=1)), dropout=dropout)
        mixed = self.out_proj(attended.flatten(1))
        return mixed.new_zeros(padded.shape).index_put((present,), mixed), None


def gps_layer(settings: GPS.Settings, edge_dim: int) -> nn.Module:
    """Create a layer of torch-geometric with packed attention and the normalisation of the settings."""
    width = settings.hidden_dim
    layer: nn.Module = pyg.GPSConv(
        width, pyg.GINEConv(perceptron(width), edge_dim=edge_dim), dropout=settings.dropout, norm=None
    )
    layer.attn = PackedAttention(width, settings.heads, dropout=settings.attention_dropout, batch_first=True)
    layer.norm1, layer.norm2, layer.norm3 = (new_norm(settings) for _ in range(3))
    return layer
