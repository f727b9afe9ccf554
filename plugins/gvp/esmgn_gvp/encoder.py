"""The structure encoder ``gvp``: scalar and vector features."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.readout import ProteinReadout, Readout
from esmgn_core.settings import ComponentSettings
from esmgn_gvp.features import Dims, FeatureNorm, Features
from esmgn_gvp.layer import GVPLayer, Neighbors
from esmgn_gvp.perceptron import GVP


class GVPGNN(nn.Module):
    r"""Graph network of geometric vector perceptrons.

    The input of a residue is scalars from its feature and no vectors. The input of an edge j -> i is the
    vector x_i - x_j, which is then normalised, and its length d in radial basis functions

    .. math::
        \exp\bigl(-((d - \mu_k) / w)^2\bigr), \quad \mu_k = 0, \dots, \mathrm{max\_distance},
        \quad w = \mathrm{max\_distance} / \mathrm{num\_distance\_bases}

    The output consists of scalars, which do not depend on the orientation of the protein.

    Relations of edges are ignored; the intended graph builder is ``radius``. A residue without edges is
    encoded from its own feature.

    Shapes: features [N, input_dim] -> residue [N, scalar_dim], protein [B, scalar_dim].

    Source: Jing et al. 2021 (arXiv 2009.01411 and 2106.03843), as used by Zhang et al. 2023
    (arXiv 2303.06275).
    """

    class Settings(ComponentSettings):
        scalar_dim: int = Field(256, ge=1)
        """Scalar channels of a residue, the width of the output."""
        vector_dim: int = Field(16, ge=1)
        """Vector channels of a residue."""
        edge_scalar_dim: int = Field(64, ge=1)
        """Scalar channels of an edge."""
        edge_vector_dim: int = Field(1, ge=1)
        """Vector channels of an edge."""
        num_layers: int = Field(5, ge=1)
        """Number of message passing layers."""
        dropout: float = Field(0.1, ge=0, lt=1)
        """Share of scalars and of whole vectors dropped from every update in training."""
        num_distance_bases: int = Field(16, ge=2)
        """Number of radial basis functions of the length of an edge."""
        max_distance: float = Field(20.0, gt=0)
        """Centre of the last basis function, in angstrom."""
        max_edges_kept: int = Field(60_000, ge=0)
        """Largest graph, in edges, whose messages are kept for the backward pass, about 40 KB per edge.
        Messages of larger graphs are recomputed, which takes a third more time."""
        readout: Readout = "mean"
        """Pooling of residues into a protein."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        super().__init__()
        self.settings = settings
        nodes = Dims(settings.scalar_dim, settings.vector_dim)
        edges = Dims(settings.edge_scalar_dim, settings.edge_vector_dim)
        raw_edges = Dims(settings.num_distance_bases, 1)
        self.node_projection = nn.Linear(input_dim, input_dim, bias=False)
        self.node_norm = nn.LayerNorm(input_dim)
        self.node_input = GVP(Dims(input_dim, 0), nodes, activation=False)
        self.edge_norm = FeatureNorm(raw_edges)
        self.edge_input = GVP(raw_edges, edges, activation=False)
        self.layers = nn.ModuleList(
            GVPLayer(nodes, edges, settings.dropout) for _ in range(settings.num_layers)
        )
        self.output_norm = FeatureNorm(nodes)
        self.output = GVP(nodes, Dims(settings.scalar_dim, 0))
        self.output_dim = settings.scalar_dim
        self.readout = ProteinReadout(settings.readout, self.output_dim)

    def forward(self, batch: ProteinBatch, graph: ResidueGraph, features: Tensor) -> Encoding:
        """Encode ``features`` [N, input_dim] on the residue graph."""
        neighbors = Neighbors.of(graph, batch.num_residues, self.settings.max_edges_kept)
        edges = self.edge_input(self.edge_norm(self._edge_features(batch.ca.float(), neighbors)))
        scalars = self.node_norm(self.node_projection(features))
        nodes = self.node_input(Features(scalars, batch.ca.new_empty(batch.num_residues, 3, 0)))
        for layer in self.layers:
            nodes = layer(nodes, edges, neighbors)
        output = self.output(self.output_norm(nodes)).scalars
        encoding: Encoding = self.readout(output, batch)
        return encoding

    def _edge_features(self, ca: Tensor, neighbors: Neighbors) -> Features:
        """Basis functions of the length, and the vector, of each edge, float32."""
        last, number = self.settings.max_distance, self.settings.num_distance_bases
        vector = ca[neighbors.target] - ca[neighbors.source]
        distance = vector.norm(dim=1, keepdim=True)
        centers = torch.linspace(0, last, number, device=ca.device)
        return Features(torch.exp(-((distance - centers) * number / last).square()), vector.unsqueeze(-1))
