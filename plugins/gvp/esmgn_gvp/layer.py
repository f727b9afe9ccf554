"""Message passing with geometric vector perceptrons."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from esmgn_core.graph import ResidueGraph
from esmgn_gvp.features import Dims, FeatureDropout, FeatureNorm, Features, lengths
from esmgn_gvp.perceptron import GVP

_EDGES_PER_BLOCK = 8192


class Neighbors(NamedTuple):
    """Edges of a graph, shared by all layers.

    Attributes:
        source: int64 [E].
        target: int64 [E], ascending.
        degree: int64 [N, 1], incoming edges of each residue.
        blocks: consecutive residues and their incoming edges. With one block, messages are kept for the
            backward pass; with several, they are recomputed block by block.
    """

    source: Tensor
    target: Tensor
    degree: Tensor
    blocks: tuple[tuple[slice, slice], ...]

    @classmethod
    def of(cls, graph: ResidueGraph, num_residues: int, max_edges_kept: int) -> Self:
        """All edges of a graph, of any relation."""
        source, target = graph.edge_index
        degree = target.bincount(minlength=num_residues)
        whole = [(slice(0, num_residues), slice(0, len(source)))]
        blocks = whole if len(source) <= max_edges_kept else _blocks(degree.cumsum(0))
        return cls(source, target, degree.unsqueeze(1), tuple(blocks))

    def part(self, rows: slice, edges: slice) -> Incoming:
        """The incoming edges of one block."""
        return Incoming(
            self.source[edges], self.target[edges], self.target[edges] - rows.start, self.degree[rows]
        )


class Incoming(NamedTuple):
    """The incoming edges of n consecutive residues.

    Attributes:
        source: int64 [E_b].
        target: int64 [E_b].
        position: int64 [E_b], the target's position among the n residues.
        degree: int64 [n, 1].
    """

    source: Tensor
    target: Tensor
    position: Tensor
    degree: Tensor

    def gather(self, of_source: Tensor, of_target: Tensor) -> Tensor:
        """Sum of both ends' values, [E_b, ...] from [N, ...] and [N, ...]."""
        return of_source.index_select(0, self.source) + of_target.index_select(0, self.target)

    def mean(self, messages: Tensor) -> Tensor:
        """Mean over incoming edges, float32 [n, ...], of [E_b, ...]; zero without edges."""
        flat = messages.float().flatten(1)
        summed = flat.new_zeros(len(self.degree), flat.shape[1]).index_add(0, self.position, flat)
        return (summed / self.degree.clamp(min=1)).view(-1, *messages.shape[1:])


def _blocks(last_edge: Tensor) -> Iterator[tuple[slice, slice]]:
    """Runs of residues with about 8,192 incoming edges in all, and these edges; at least one residue."""
    total = last_edge.tolist()
    cuts = torch.searchsorted(
        last_edge, torch.arange(0, total[-1], _EDGES_PER_BLOCK, device=last_edge.device)
    )
    ends = sorted({0, *cuts.tolist(), len(total)})
    for first, end in itertools.pairwise(ends):
        yield slice(first, end), slice(total[first - 1] if first else 0, total[end - 1])


class GVPMessages(nn.Module):
    r"""The mean message to each residue, from three perceptrons on both ends and the edge.

    .. math::
        m_i = \frac{1}{|\mathcal{N}(i)|} \sum_{j \in \mathcal{N}(i)}
              g_3(g_2(g_1([h_j \,\Vert\, e_{ji} \,\Vert\, h_i])))

    Only the nonlinear part is computed for every edge. The linear maps of g_1 are applied to residues and
    gathered along the edges. The scalar map of g_3 has no activation and is applied to the mean input.

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
        scalar_maps, vector_maps = self._maps_of_first()
        of_nodes = (
            linear(nodes.vectors, vector_maps[0]),
            linear(nodes.vectors, vector_maps[2]),
            linear(nodes.scalars, scalar_maps[0]),
            linear(nodes.scalars, scalar_maps[2]),
        )
        if len(neighbors.blocks) == 1:
            return self._messages(of_nodes, edges, neighbors.part(*neighbors.blocks[0]))
        parts = []
        for rows, columns in neighbors.blocks:
            incoming = neighbors.part(rows, columns)
            edges_of_block = Features(edges.scalars[columns], edges.vectors[columns])
            parts.append(checkpoint(self._messages, of_nodes, edges_of_block, incoming, use_reentrant=False))
        return Features(
            torch.cat([part.scalars for part in parts]), torch.cat([part.vectors for part in parts])
        )

    def _maps_of_first(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Weights of g_1 for source, edge and target: those of scalars and lengths, those of vectors."""
        num_vectors = [dims.vectors for dims in self.dims]
        num_scalars = [dims.scalars for dims in self.dims]
        num_hidden = self.first.hidden.weight.shape[0]
        scalars = self.first.scalar.weight.split_with_sizes([*num_scalars, num_hidden], dim=1)
        return scalars, self.first.hidden.weight.split_with_sizes(num_vectors, dim=1)

    def _messages(self, of_nodes: tuple[Tensor, ...], edges: Features, incoming: Incoming) -> Features:
        return self._mean_of_third(self.second(self._first(of_nodes, edges, incoming)), incoming)

    def _first(self, of_nodes: tuple[Tensor, ...], edges: Features, incoming: Incoming) -> Features:
        (_, of_edge, _, of_lengths), (_, hidden_of_edge, _) = self._maps_of_first()
        sent_vectors, received_vectors, sent_scalars, received_scalars = of_nodes
        hidden = incoming.gather(sent_vectors, received_vectors) + linear(edges.vectors, hidden_of_edge)
        scalars = incoming.gather(sent_scalars, received_scalars) + linear(edges.scalars, of_edge)
        scalars = scalars + linear(lengths(hidden), of_lengths, self.first.scalar.bias)
        return self.first.gated(scalars, hidden)

    def _mean_of_third(self, messages: Features, incoming: Incoming) -> Features:
        third, num_scalars = self.third, messages.scalars.shape[1]
        hidden = third.hidden(messages.vectors)
        length = lengths(hidden)
        # The gate is linear in s', which is linear in its inputs: one small map in place of two.
        gate = third.gate.weight @ third.scalar.weight
        gate_bias = third.gate.weight @ third.scalar.bias + third.gate.bias
        opening = linear(messages.scalars, gate[:, :num_scalars], gate_bias) + linear(
            length, gate[:, num_scalars:]
        )
        vectors = incoming.mean(third.vector(hidden) * torch.sigmoid(opening).unsqueeze(-2))
        joined = torch.cat([incoming.mean(messages.scalars), incoming.mean(length)], dim=1)
        scalars = third.scalar(joined).masked_fill(incoming.degree == 0, 0.0)
        return Features(scalars, vectors)


class GVPLayer(nn.Module):
    r"""Messages, then a feed-forward network; both are added to the residues and normalised.

    .. math::
        h_i &\leftarrow \mathrm{Norm}(h_i + \mathrm{Dropout}(m_i)) \\
        h_i &\leftarrow \mathrm{Norm}(h_i + \mathrm{Dropout}(g_5(g_4(h_i))))

    The feed-forward network has 4 s hidden scalars and 2 v hidden vectors.

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
