"""Encoders with one convolution of torch-geometric per layer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.edges import EdgeFeatures, plain_edges
from esmgn_pyg.library import pyg
from esmgn_pyg.settings import AttentionSettings, DistanceSettings, NormedSettings
from esmgn_pyg.stack import ConvEncoder


class GCN(ConvEncoder):
    """Graph convolutional network with self-loops.

    Source: Kipf and Welling 2017 (arXiv 1609.02907).
    """

    def conv(self) -> Any:
        """A new convolution."""
        return pyg.GCNConv(self.settings.hidden_dim, self.settings.hidden_dim)


class SAGE(ConvEncoder):
    """GraphSAGE on whole neighbourhoods, without sampling.

    Source: Hamilton et al. 2017 (arXiv 1706.02216).
    """

    class Settings(NormedSettings):
        aggregation: Literal["mean", "sum", "max"] = "mean"
        """Aggregation over the neighbours of a residue."""

    settings: Settings

    def conv(self) -> Any:
        """A new convolution."""
        width = self.settings.hidden_dim
        return pyg.SAGEConv(width, width, aggr=self.settings.aggregation)


class GIN(ConvEncoder):
    """Graph isomorphism network: a perceptron of two layers on the sum over the neighbours.

    Source: Xu et al. 2019 (arXiv 1810.00826).
    """

    def conv(self) -> Any:
        """A new convolution."""
        return pyg.GINConv(perceptron(self.settings.hidden_dim), train_eps=True)


class RGCN(ConvEncoder):
    """Relational graph convolutional network, with separate weights for each relation.

    Source: Schlichtkrull et al. 2018 (arXiv 1703.06103).
    """

    class Settings(NormedSettings):
        aggregation: Literal["mean", "sum", "max"] = "mean"
        """Aggregation over the neighbours of a residue in each relation."""
        num_bases: int = Field(0, ge=0)
        """Number of basis matrices whose linear combinations are the weights of the relations; 0 for
        independent weights."""

    settings: Settings

    def conv(self) -> Any:
        """A new convolution."""
        width, bases = self.settings.hidden_dim, self.settings.num_bases or None
        return pyg.RGCNConv(width, width, self.num_relations, num_bases=bases, aggr=self.settings.aggregation)

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:  # noqa: ARG002
        """All edges, int64 [2, E], and their relations, int64 [E]."""
        return graph.edge_index, graph.relation


class GAT(ConvEncoder):
    """Graph attention network with relations as edge features.

    Source: Brody et al. 2022 (arXiv 2105.14491); Velickovic et al. 2018 (arXiv 1710.10903).
    """

    class Settings(AttentionSettings):
        version: Literal[1, 2] = 2
        """1 for the original GAT, 2 for GATv2, whose ranking of neighbours depends on the residue."""
        use_relations: bool = True
        """Use the relations of an edge as its features."""

    settings: Settings

    def conv(self) -> Any:
        """A new convolution."""
        conv = pyg.GATv2Conv if self.settings.version == 2 else pyg.GATConv
        edge_dim = self.num_relations if self.settings.use_relations else None
        return conv(**self.settings.of_attention(), edge_dim=edge_dim)

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:  # noqa: ARG002
        """The pairs, int64 [2, P], and their relations, float [P, R]."""
        return plain_edges(graph)[: 2 if self.settings.use_relations else 1]


class Transformer(ConvEncoder):
    """Graph transformer: attention along edges, with their relations and lengths as features.

    Source: Shi et al. 2021 (arXiv 2009.03509).
    """

    class Settings(AttentionSettings, DistanceSettings):
        """Settings of ``pyg_transformer``."""

    settings: Settings

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        super().__init__(settings, input_dim=input_dim, num_relations=num_relations)
        self.edge_features = EdgeFeatures(settings, num_relations)

    def conv(self) -> Any:
        """A new convolution."""
        edge_dim = self.num_relations + self.settings.num_distance_bases
        return pyg.TransformerConv(**self.settings.of_attention(), edge_dim=edge_dim)

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:
        """The pairs, int64 [2, P], and their features, float [P, D]."""
        features: tuple[Tensor, Tensor] = self.edge_features(batch, graph)
        return features


def perceptron(width: int) -> nn.Sequential:
    """Two linear layers, [N, width] -> [N, width]."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
