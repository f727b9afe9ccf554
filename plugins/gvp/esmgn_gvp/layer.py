"""Message passing with geometric vector perceptrons."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from esmgn_core.graph import ResidueGraph
from esmgn_gvp.features import Dims, FeatureDropout, FeatureNorm, Features, lengths
from esmgn_gvp.perceptron import GVP


class Neighbors(NamedTuple):
    """Who sends to whom, the same for all layers.

    Attributes:
        source: int64 [E].
        target: int64 [E].
        degree: int64 [N, 1], incoming edges of each residue.
    """

    source: Tensor
    target: Tensor
    degree: Tensor

    @classmethod
    def of(cls, graph: ResidueGraph, num_residues: int) -> Self:
        """All edges of a graph, whatever their relation."""
        source, target = graph.edge_index
        return cls(source, target, target.bincount(minlength=num_residues).unsqueeze(1))

    def mean(self, messages: Tensor) -> Tensor:
        """float32 [N, ...] from [E, ...]: mean over incoming edges, zero where there is none."""
        flat = messages.float().flatten(1)
        summed = flat.new_zeros(len(self.degree), flat.shape[1]).index_add(0, self.target, flat)
        return (summed / self.degree.clamp(min=1)).view(-1, *messages.shape[1:])


class GVPMessages(nn.Module):
    r"""The mean message to each residue, from three perceptrons on both ends and the edge.

    .. math::
        m_i = \frac{1}{|\mathcal{N}(i)|} \sum_{j \in \mathcal{N}(i)}
              g_3(g_2(g_1([h_j \,\Vert\, e_{ji} \,\Vert\, h_i])))

    Only the nonlinear middle runs on edges. The linear maps of g_1 run on residues and are gathered
    along the edges; the scalar map of g_3, which nothing follows, runs on the mean of its inputs.

    Shapes: nodes [N, s], [N, 3, v]; edges [E, s_e], [E, 3, v_e] -> [N, s], [N, 3, v].

    Source: Jing et al. 2021 (arXiv 2009.01411), section 3.
    """

    def __init__(self, nodes: Dims, edges: Dims) -> None:
        super().__init__()
        self.dims = (nodes, edges, nodes)
        joined = Dims(2 * nodes.scalars + edges.scalars, 2 * nodes.vectors + edges.vectors)
        self.first = GVP(joined, nodes)
        self.second = GVP(nodes, nodes)
        self.third = GVP(nodes, nodes, activation=False)

    def forward(self, nodes: Features, edges: Features, neighbors: Neighbors) -> Features:
        """Messages to all residues."""
        return self._mean_of_third(self.second(self._first(nodes, edges, neighbors)), neighbors)

    def _first(self, nodes: Features, edges: Features, neighbors: Neighbors) -> Features:
        first = self.first
        num_vectors = [dims.vectors for dims in self.dims]
        num_scalars = [dims.scalars for dims in self.dims]
        hidden = _on_edges(
            first.hidden.weight.split_with_sizes(num_vectors, dim=1), nodes.vectors, edges.vectors, neighbors
        )
        *of_scalars, of_lengths = first.scalar.weight.split_with_sizes(
            [*num_scalars, hidden.shape[-1]], dim=1
        )
        scalars = _on_edges(of_scalars, nodes.scalars, edges.scalars, neighbors)
        return first.gated(scalars + linear(lengths(hidden), of_lengths, first.scalar.bias), hidden)

    def _mean_of_third(self, messages: Features, neighbors: Neighbors) -> Features:
        third, num_scalars = self.third, messages.scalars.shape[1]
        hidden = third.hidden(messages.vectors)
        length = lengths(hidden)
        # The gate is linear in s', which is linear in its inputs: one small map in place of two.
        gate = third.gate.weight @ third.scalar.weight
        gate_bias = third.gate.weight @ third.scalar.bias + third.gate.bias
        opening = linear(messages.scalars, gate[:, :num_scalars], gate_bias) + linear(
            length, gate[:, num_scalars:]
        )
        vectors = neighbors.mean(third.vector(hidden) * torch.sigmoid(opening).unsqueeze(-2))
        joined = torch.cat([neighbors.mean(messages.scalars), neighbors.mean(length)], dim=1)
        scalars = third.scalar(joined).masked_fill(neighbors.degree == 0, 0.0)
        return Features(scalars, vectors)


def _on_edges(
    weights: list[Tensor] | tuple[Tensor, ...], of_nodes: Tensor, of_edges: Tensor, neighbors: Neighbors
) -> Tensor:
    """W [source, edge, target] from its three column blocks: [E, ..., out]."""
    of_source, of_edge, of_target = weights
    sent = linear(of_nodes, of_source).index_select(0, neighbors.source)
    received = linear(of_nodes, of_target).index_select(0, neighbors.target)
    return sent + received + linear(of_edges, of_edge)


class GVPLayer(nn.Module):
    r"""Messages, then a perceptron at each residue; both are added and normalised.

    .. math::
        h_i &\leftarrow \mathrm{Norm}(h_i + \mathrm{Dropout}(m_i)) \\
        h_i &\leftarrow \mathrm{Norm}(h_i + \mathrm{Dropout}(g_5(g_4(h_i))))

    The perceptrons at residues pass through 4 s scalars and 2 v vectors.

    Source: Jing et al. 2021 (arXiv 2009.01411), section 3.
    """

    def __init__(self, nodes: Dims, edges: Dims, dropout: float) -> None:
        super().__init__()
        wide = Dims(4 * nodes.scalars, 2 * nodes.vectors)
        self.messages = GVPMessages(nodes, edges)
        self.feed_forward = nn.Sequential(GVP(nodes, wide), GVP(wide, nodes, activation=False))
        self.message_norm = FeatureNorm(nodes)
        self.feed_forward_norm = FeatureNorm(nodes)
        self.dropout = FeatureDropout(dropout)

    def forward(self, nodes: Features, edges: Features, neighbors: Neighbors) -> Features:
        """Update all residues."""
        nodes = self.message_norm(nodes + self.dropout(self.messages(nodes, edges, neighbors)))
        updated: Features = self.feed_forward_norm(nodes + self.dropout(self.feed_forward(nodes)))
        return updated
