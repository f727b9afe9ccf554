"""GPS: message passing along edges and attention over whole proteins."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.attention import Pack, attend, pack_of
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout
from esmgn_pyg.convs import perceptron
from esmgn_pyg.edges import EdgeFeatures
from esmgn_pyg.library import GINEConv
from esmgn_pyg.settings import AttentionSettings, DistanceSettings
from esmgn_pyg.stack import joined, new_norm


class GPS(nn.Module):
    """General, powerful, scalable graph transformer.

    Residues attend to all residues of their protein and to no others. The positional encodings of
    the paper are left out: relations and distances on the edges tell where a residue is.

    Shapes: features [N, input_dim] -> residue [N, output_dim], protein [B, output_dim].

    Source: Rampasek et al. 2022 (arXiv 2205.12454).
    """

    class Settings(AttentionSettings, DistanceSettings):
        """Settings of ``pyg_gps``."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.settings = settings
        self.embed = nn.Linear(input_dim, settings.hidden_dim)
        self.edge_features = EdgeFeatures(num_relations, settings.num_distance_bases, settings.max_distance)
        self.layers = nn.ModuleList(
            GPSLayer(settings, self.edge_features.output_dim) for _ in range(settings.num_layers)
        )
        self.output_dim = settings.output_dim
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        edge_index, edge_features = self.edge_features(batch, graph)
        pack = pack_of(batch.lengths)
        hidden = self.embed(features)
        hiddens = []
        for layer in self.layers:
            hidden = layer(hidden, edge_index, edge_features, pack)
            hiddens.append(hidden)
        encoding: Encoding = self.readout(joined(hiddens, self.settings), batch)
        return encoding


class GPSLayer(nn.Module):
    r"""One layer of GPS.

    .. math::
        y = \mathrm{LN}(x + \mathrm{GINE}(x)) + \mathrm{LN}(x + \mathrm{Attention}(x)), \quad
        x' = \mathrm{LN}(y + \mathrm{MLP}(y))

    Formula and parameter names are those of torch-geometric's ``GPSConv``, whose attention pads
    proteins to the longest of the batch; here it runs on the pack.

    Shapes: [N, hidden_dim] -> [N, hidden_dim].
    """

    def __init__(self, settings: GPS.Settings, edge_dim: int) -> None:
        super().__init__()
        width = settings.hidden_dim
        self.settings = settings
        self.conv = GINEConv(perceptron(width), edge_dim=edge_dim)
        # Holds the projections: its own forward would pad.
        self.attn = nn.MultiheadAttention(width, settings.heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(2 * width, width),
            nn.Dropout(settings.dropout),
        )
        self.norm1, self.norm2, self.norm3 = (new_norm(settings) for _ in range(3))

    def forward(self, hidden: Tensor, edge_index: Tensor, edge_features: Tensor, pack: Pack) -> Tensor:
        """Update the representations [N, hidden_dim] of the proteins of ``pack``."""
        along_edges = self._dropped(self.conv(hidden, edge_index, edge_features))
        over_protein = self._dropped(self._attended(hidden, pack))
        joined = self.norm1(hidden + along_edges) + self.norm2(hidden + over_protein)
        updated: Tensor = self.norm3(joined + self.mlp(joined))
        return updated

    def _dropped(self, update: Tensor) -> Tensor:
        return functional.dropout(update, self.settings.dropout, self.training)

    def _attended(self, hidden: Tensor, pack: Pack) -> Tensor:
        projected = functional.linear(hidden, self.attn.in_proj_weight, self.attn.in_proj_bias)
        parts = (part.view(len(hidden), self.settings.heads, -1) for part in projected.chunk(3, dim=1))
        query, key, value = parts
        dropout = self.settings.attention_dropout if self.training else 0.0
        mixed: Tensor = self.attn.out_proj(attend(query, key, value, pack, dropout=dropout).flatten(1))
        return mixed
