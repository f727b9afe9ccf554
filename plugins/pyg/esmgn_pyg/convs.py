"""Stacks of torch-geometric's convolutions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_pyg.edges import EdgeFeatures, plain_edges
from esmgn_pyg.library import (
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    RGCNConv,
    SAGEConv,
    TransformerConv,
)
from esmgn_pyg.settings import AttentionSettings, DistanceSettings, NormedSettings
from esmgn_pyg.stack import ConvStack


class GCN(ConvStack):
    """Graph convolutional network; every residue is its own neighbour too.

    Source: Kipf and Welling 2017 (arXiv 1609.02907).
    """

    class Settings(NormedSettings):
        """Settings of ``pyg_gcn``."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        width = settings.hidden_dim
        convs = [GCNConv(width, width) for _ in range(settings.num_layers)]
        super().__init__(settings, convs, input_dim=input_dim)


class SAGE(ConvStack):
    """GraphSAGE on whole neighbourhoods, without sampling.

    Source: Hamilton et al. 2017 (arXiv 1706.02216).
    """

    class Settings(NormedSettings):
        aggregation: Literal["mean", "sum", "max"] = "mean"
        """How the neighbours of a residue are combined."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        width = settings.hidden_dim
        convs = [SAGEConv(width, width, aggr=settings.aggregation) for _ in range(settings.num_layers)]
        super().__init__(settings, convs, input_dim=input_dim)


class GIN(ConvStack):
    """Graph isomorphism network: a perceptron of two layers on the sum over the neighbours.

    Source: Xu et al. 2019 (arXiv 1810.00826).
    """

    class Settings(NormedSettings):
        """Settings of ``pyg_gin``."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:  # noqa: ARG002
        convs = [GINConv(perceptron(settings.hidden_dim), train_eps=True) for _ in range(settings.num_layers)]
        super().__init__(settings, convs, input_dim=input_dim)


class RGCN(ConvStack):
    """Relational graph convolutional network: each relation has weights of its own.

    Source: Schlichtkrull et al. 2018 (arXiv 1703.06103).
    """

    class Settings(NormedSettings):
        aggregation: Literal["mean", "sum", "max"] = "mean"
        """How the neighbours that one relation joins to a residue are combined."""
        num_bases: int = Field(0, ge=0)
        """Matrices of which the weights of all relations are mixed; 0 for weights of their own."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        width, bases = settings.hidden_dim, settings.num_bases or None
        convs = [
            RGCNConv(width, width, num_relations, num_bases=bases, aggr=settings.aggregation)
            for _ in range(settings.num_layers)
        ]
        super().__init__(settings, convs, input_dim=input_dim)

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:  # noqa: ARG002
        """All edges, int64 [2, E], and their relations, int64 [E]."""
        return graph.edge_index, graph.relation


class GAT(ConvStack):
    """Graph attention network that knows which relations join a pair.

    Source: Brody et al. 2022 (arXiv 2105.14491); Velickovic et al. 2018 (arXiv 1710.10903).
    """

    class Settings(AttentionSettings):
        version: Literal[1, 2] = 2
        """2 for GATv2, whose ranking of the neighbours depends on the residue; 1 for the original."""
        use_relations: bool = True
        """Whether attention knows the relations of an edge."""

    settings: Settings

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        conv = GATv2Conv if settings.version == 2 else GATConv
        convs = [
            conv(
                settings.hidden_dim,
                settings.head_dim,
                heads=settings.heads,
                dropout=settings.attention_dropout,
                edge_dim=num_relations if settings.use_relations else None,
            )
            for _ in range(settings.num_layers)
        ]
        super().__init__(settings, convs, input_dim=input_dim)

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:  # noqa: ARG002
        """The pairs, int64 [2, P], and their relations, float [P, R]."""
        edges = plain_edges(graph)
        return edges if self.settings.use_relations else (edges.pairs,)


class Transformer(ConvStack):
    """Graph transformer: attention along the edges that knows their relations and lengths.

    Source: Shi et al. 2021 (arXiv 2009.03509).
    """

    class Settings(AttentionSettings, DistanceSettings):
        """Settings of ``pyg_transformer``."""

    def __init__(self, settings: Settings, *, input_dim: int, num_relations: int) -> None:
        features = EdgeFeatures(num_relations, settings.num_distance_bases, settings.max_distance)
        convs = [
            TransformerConv(
                settings.hidden_dim,
                settings.head_dim,
                heads=settings.heads,
                dropout=settings.attention_dropout,
                edge_dim=features.output_dim,
            )
            for _ in range(settings.num_layers)
        ]
        super().__init__(settings, convs, input_dim=input_dim)
        self.edge_features = features

    def edges(self, batch: ProteinBatch, graph: ResidueGraph) -> tuple[Tensor, ...]:
        """The pairs, int64 [2, P], and their features, float [P, D]."""
        pairs, features = self.edge_features(batch, graph)
        return pairs, features


def perceptron(width: int) -> nn.Sequential:
    """Two linear layers, [N, width] -> [N, width]."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
