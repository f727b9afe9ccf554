"""GearNet-IEConv: relational messages of residues and edges, and learned filters."""

from __future__ import annotations

import itertools
from types import MappingProxyType

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout, Readout
from esmgn_core.settings import ComponentSettings
from esmgn_gearnet.edge_features import UnknownType, edge_feature_dim, edge_features
from esmgn_gearnet.frames import NUM_FEATURES, local_frames, pair_features
from esmgn_gearnet.ieconv import IEConv
from esmgn_gearnet.line_graph import line_graph
from esmgn_gearnet.neighborhoods import Neighborhoods, relational_sum
from esmgn_gearnet.normalize import normalized
from esmgn_gearnet.pooled_edges import pooled_edges


class GearNetIEConv(nn.Module):
    r"""GearNet with representations of edges and an intrinsic-extrinsic convolution in every layer.

    Features are first embedded, :math:`x^{(0)} = \mathrm{BN}(W x + b)`. A layer is

    .. math::
        x^{(l)} = \mathrm{LN}\bigl(\mathrm{dropout}(\mathrm{Conv}_l(x^{(l-1)}, z^{(l)})
                  + \mathrm{IEConv}_l(x^{(l-1)})) + x^{(l-1)}\bigr), \quad
        \mathrm{Conv}(x, z)_i = \mathrm{ReLU}\Bigl(\mathrm{BN}\Bigl(b + \sum_r W_r
                  \sum_{e = (j \to i, r)} (x_j + z_e)\Bigr)\Bigr)

    where :math:`z^{(l)} = \mathrm{Conv}^\mathrm{edge}_l(z^{(l-1)})` are the representations of edges, updated
    on the line graph.

    Shapes: features [N, input_dim] -> residue [N, num_layers * hidden_dim], protein
    [B, num_layers * hidden_dim].

    Source: Zhang et al. 2023 (arXiv 2203.06125), section 3.3 and appendix; the original's fold
    classification.
    """

    class Settings(ComponentSettings):
        originals = MappingProxyType({"unknown_residue": "G"})

        hidden_dim: int = Field(512, ge=4)
        """Width of the embedding and of every layer."""
        num_layers: int = Field(6, ge=1)
        """Number of layers."""
        num_angle_bins: int = Field(8, ge=1)
        """Number of equal bins of the angle between two edges: the relations of the line graph."""
        dropout: float = Field(0.2, ge=0, lt=1)
        """Share of a layer's output dropped in training, before the short cut."""
        short_cut: bool = True
        """Add a layer's input to its output."""
        layer_norm: bool = True
        """Normalise the output of every layer."""
        concat_hidden: bool = True
        """Return the outputs of all layers, concatenated. If false, return that of the last layer."""
        readout: Readout = "sum"
        """Pooling of residues into a protein."""
        unknown_residue: UnknownType = "X"
        """Type of unknown residues in the edge features: X for none, or G for glycine, as in the original."""
        reference: bool = False
        """Compute local frames as in the original, where frames at the ends of a protein depend on the
        protein before or after it in the batch."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.settings = settings
        width, depth = settings.hidden_dim, settings.num_layers
        self.linear = nn.Linear(input_dim, width)
        self.embedding_batch_norm = nn.BatchNorm1d(width)
        edge_widths = [edge_feature_dim(num_relations), *[width] * depth]
        self.layers = nn.ModuleList(_Conv(width, width, num_relations) for _ in range(depth))
        self.edge_layers = nn.ModuleList(
            _Conv(before, after, settings.num_angle_bins) for before, after in itertools.pairwise(edge_widths)
        )
        self.ieconvs = nn.ModuleList(
            IEConv(width, width // 4, width, edge_dim=NUM_FEATURES) for _ in range(depth)
        )
        self.layer_norms = nn.ModuleList(
            nn.LayerNorm(width) if settings.layer_norm else nn.Identity() for _ in range(depth)
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.output_dim = width * (depth if settings.concat_hidden else 1)
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        residues = Neighborhoods(graph, batch.num_residues)
        edges = Neighborhoods(line_graph(graph, batch.ca, self.settings.num_angle_bins), graph.num_edges)
        frames = local_frames(batch, packed=self.settings.reference)
        pairs = pair_features(batch, frames, graph.edge_index)
        dtype = self.linear.weight.dtype
        edge_hidden = edge_features(batch, graph, self.settings.unknown_residue).to(dtype)
        hidden, hiddens = self.embedding_batch_norm(self.linear(features)), []
        parts = zip(self.layers, self.edge_layers, self.ieconvs, self.layer_norms, strict=True)
        for conv, edge_conv, ieconv, layer_norm in parts:
            if graph.num_edges:
                edge_hidden = edge_conv(edges, edge_hidden)
            else:
                edge_hidden = edge_hidden.new_empty(0, self.settings.hidden_dim)
            update = conv(residues, hidden, edge_hidden)
            update = self.dropout(update + ieconv(graph.edge_index, hidden, pairs.to(dtype)))
            hidden = layer_norm(update + hidden if self.settings.short_cut else update)
            hiddens.append(hidden)
        output = torch.cat(hiddens, dim=1) if self.settings.concat_hidden else hidden
        encoding: Encoding = self.readout(output, batch)
        return encoding


class _Conv(nn.Module):
    """Relational convolution without self weight; representations of edges are added to the messages."""

    def __init__(self, input_dim: int, output_dim: int, num_relations: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_relations * input_dim, output_dim)
        self.batch_norm = nn.BatchNorm1d(output_dim)

    def forward(
        self, neighborhoods: Neighborhoods, features: Tensor, edge_features: Tensor | None = None
    ) -> Tensor:
        weight, bias = self.linear.weight, self.linear.bias
        update = relational_sum(neighborhoods, features, None, weight, bias)
        if edge_features is not None:
            update = update + pooled_edges(
                neighborhoods.incoming, edge_features, weight, torch.zeros_like(bias)
            )
        return normalized(update, self.batch_norm)
