"""GearNet-Edge: GearNet with messages between edges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import MappingProxyType

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout, Readout
from esmgn_core.settings import ComponentSettings
from esmgn_gearnet.conv import RelationalConv
from esmgn_gearnet.edge_features import UnknownType, edge_feature_dim, edge_features
from esmgn_gearnet.line_graph import line_graph
from esmgn_gearnet.neighborhoods import Neighborhoods
from esmgn_gearnet.published import RESIDUES, Order, PublishedGearNet


class GearNetEdge(PublishedGearNet):
    r"""GearNet with representations of edges, which are updated by messages along the line graph.

    A layer first updates the edges, :math:`z^{(l)} = \mathrm{Conv}^\mathrm{edge}_l(z^{(l-1)})`, on the
    line graph with one relation per angle bin. It then updates the residues:

    .. math::
        x^{(l)} = \mathrm{BN}\Bigl(\mathrm{Conv}_l(x^{(l-1)}) + x^{(l-1)} + \mathrm{ReLU}\Bigl(b +
        \sum_r W_r \sum_{e \in \mathcal{N}_r(i)} z^{(l)}_e\Bigr)\Bigr)

    with W and b the ``linear`` of the residues' convolution. A layer whose input and output differ in width
    has no short cut. The residue representation is the concatenation of all layers.

    Shapes: features [N, input_dim] -> residue [N, num_layers * hidden_dim], protein
    [B, num_layers * hidden_dim].

    Source: Zhang et al. 2023 (arXiv 2203.06125), section 3.3.
    """

    class Settings(ComponentSettings):
        originals = MappingProxyType({"unknown_residue": "G"})

        hidden_dim: int = Field(512, ge=1)
        """Width of every layer."""
        num_layers: int = Field(6, ge=1)
        """Number of layers."""
        num_angle_bins: int = Field(8, ge=1)
        """Number of equal bins of the angle between two edges: the relations of the line graph."""
        short_cut: bool = True
        """Add a layer's input to its output if both have the same width."""
        concat_hidden: bool = True
        """Return the outputs of all layers, concatenated. If false, return that of the last layer."""
        readout: Readout = "sum"
        """Pooling of residues into a protein."""
        unknown_residue: UnknownType = "X"
        """Type of unknown residues in the edge features: X for none, or G for glycine, as in the original."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__()
        self.settings = settings
        widths = [input_dim, *[settings.hidden_dim] * settings.num_layers]
        edge_widths = [edge_feature_dim(num_relations), *widths[:-1]]
        self.layers = nn.ModuleList(
            RelationalConv(width, settings.hidden_dim, num_relations) for width in widths[:-1]
        )
        self.edge_layers = nn.ModuleList(
            RelationalConv(before, after, settings.num_angle_bins)
            for before, after in itertools.pairwise(edge_widths)
        )
        self.batch_norms = nn.ModuleList(nn.BatchNorm1d(settings.hidden_dim) for _ in self.layers)
        self.output_dim = settings.hidden_dim * (settings.num_layers if settings.concat_hidden else 1)
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        residues = Neighborhoods(graph, batch.num_residues)
        edges = Neighborhoods(line_graph(graph, batch.ca, self.settings.num_angle_bins), graph.num_edges)
        hidden, hiddens = features, []
        edge_hidden = edge_features(batch, graph, self.settings.unknown_residue)
        edge_hidden = edge_hidden.to(next(self.parameters()).dtype)
        layers = zip(self.layers, self.edge_layers, self.batch_norms, strict=True)
        for conv, edge_conv, batch_norm in layers:
            assert isinstance(conv, RelationalConv)  # noqa: S101 - a ModuleList forgets its items' type
            if graph.num_edges:
                edge_hidden = edge_conv(edges, edge_hidden)
            else:
                edge_hidden = features.new_empty(0, hidden.shape[1])
            same_width = hidden.shape[1] == self.settings.hidden_dim
            shortcut = hidden if self.settings.short_cut and same_width else None
            update = conv(residues, hidden, shortcut)
            from_edges: Tensor = conv.from_edges(residues.incoming, edge_hidden)
            hidden = batch_norm(update + functional.relu(from_edges))
            hiddens.append(hidden)
        output = torch.cat(hiddens, dim=1) if self.settings.concat_hidden else hidden
        encoding: Encoding = self.readout(output, batch)
        return encoding

    def residue_orders(self) -> Iterator[Order]:
        """Tensors in the order of residue types, including the first hidden features of edges."""
        yield from super().residue_orders()
        num_types, first = len(AMINO_ACIDS), self.edge_layers[0]
        assert isinstance(first, RelationalConv)  # noqa: S101 - a ModuleList forgets its items' type
        # Edge features begin with the one-hot types of both ends, without an unknown type.
        ends = [place + shift for shift in (0, num_types) for place in RESIDUES[:num_types]]
        pairs = [*ends, *range(len(ends), first.self_loop.in_features)]
        for part in ("self_loop", "linear"):
            yield f"edge_layers.0.{part}.weight", 1, pairs
            yield f"edge_layers.0.{part}.weight", 0, RESIDUES
            yield f"edge_layers.0.{part}.bias", 0, RESIDUES
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"edge_layers.0.batch_norm.{part}", 0, RESIDUES
        if len(self.edge_layers) > 1:
            for part in ("self_loop", "linear"):
                yield f"edge_layers.1.{part}.weight", 1, RESIDUES
