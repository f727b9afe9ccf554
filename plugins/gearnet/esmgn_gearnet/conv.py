"""The relational graph convolution of GearNet."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.graph import ResidueGraph


class Neighborhoods:
    """Incoming edges of a graph grouped by (target, relation), computed once for all layers.

    Attributes:
        source: int64 [E], sources in order of target, then relation.
        offsets: int64 [N * R + 1], where the group of each (target, relation) starts.
    """

    def __init__(self, source: Tensor, offsets: Tensor) -> None:
        self.source = source
        self.offsets = offsets

    @classmethod
    def of(cls, graph: ResidueGraph, num_residues: int) -> Self:
        """Neighborhoods of a graph on ``num_residues`` residues."""
        source, target = graph.edge_index
        group = target * graph.num_relations + graph.relation
        counts = group.bincount(minlength=num_residues * graph.num_relations)
        return cls(source, torch.cat([counts.new_zeros(1), counts.cumsum(0)]))

    def sum(self, features: Tensor) -> Tensor:
        """Sum of the neighbours' features for each residue and relation, [N, R * d] from [N, d]."""
        summed = functional.embedding_bag(self.source, features, self.offsets, mode="sum", include_last_offset=True)
        return summed.view(features.shape[0], -1)


class RelationalConv(nn.Module):
    r"""One relational convolution with batch normalisation.

    .. math::
        h_i = \mathrm{ReLU}\Bigl(\mathrm{BN}\Bigl(W_\mathrm{self} x_i
              + \sum_r W_r \sum_{j \in \mathcal{N}_r(i)} x_j + b\Bigr)\Bigr)

    The sums are plain: no normalisation by degree. ``linear`` holds the W_r side by side, relation
    ``r`` in columns ``r * d`` to ``(r + 1) * d``.

    Shapes: features [N, input_dim] -> [N, output_dim].

    Source: Zhang et al. 2023 (arXiv 2203.06125), equation 1.
    """

    def __init__(self, input_dim: int, output_dim: int, num_relations: int) -> None:
        super().__init__()
        self.self_loop = nn.Linear(input_dim, output_dim)
        self.linear = nn.Linear(num_relations * input_dim, output_dim)
        self.batch_norm = nn.BatchNorm1d(output_dim)

    def forward(self, neighborhoods: Neighborhoods, features: Tensor) -> Tensor:
        """Convolve ``features`` along the edges."""
        update = self.linear(neighborhoods.sum(features)) + self.self_loop(features)
        return functional.relu(self.batch_norm(update))
