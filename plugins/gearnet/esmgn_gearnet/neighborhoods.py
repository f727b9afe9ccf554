"""Sums over the neighbours of each node and relation, multiplied by relation weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from esmgn_core.graph import ResidueGraph

# On the CPU the sums of a block stay in the cache. Small blocks let the allocator reuse the same memory.
_BLOCK_BYTES = {"cpu": 16 * 2**20}
_BLOCK_BYTES_ON_ACCELERATORS = 512 * 2**20


class Block(NamedTuple):
    """Consecutive nodes of a :class:`Grouping`, with their edges.

    Attributes:
        rows: the n nodes.
        edges: their E_b edges, in order of node, then relation.
        others: int64 [E_b], the other ends of these edges.
        offsets: int64 [n * R + 1], where each group starts in ``others``.
    """

    rows: slice
    edges: slice
    others: Tensor
    offsets: Tensor

    def sum(self, features: Tensor) -> Tensor:
        """Sums of neighbours' features for each node and relation, [n, R * d] from [N, d]."""
        return self._sum(features, self.others)

    def sum_edges(self, features: Tensor) -> Tensor:
        """Sums of edge features for each node and relation, [n, R * d] from [E, d]."""
        number = torch.arange(self.edges.stop - self.edges.start, device=features.device)
        return self._sum(features[self.edges], number)

    def _sum(self, features: Tensor, index: Tensor) -> Tensor:
        # Of detached features, embedding_bag does not compute the tables for its own backward pass.
        summed = functional.embedding_bag(
            index, features.detach(), self.offsets, mode="sum", include_last_offset=True
        )
        return summed.view(self.rows.stop - self.rows.start, -1)


class Grouping:
    """The edges of a graph grouped by target and relation.

    Args:
        graph: sorted edges. Groups are the sources of each target and relation.
        num_nodes: N, the number of targets.
    """

    def __init__(self, graph: ResidueGraph, num_nodes: int) -> None:
        self.num_nodes, self.num_relations = num_nodes, graph.num_relations
        self._others, node = graph.edge_index
        groups = node * self.num_relations + graph.relation
        counts = groups.bincount(minlength=num_nodes * self.num_relations)
        self._offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        self._blocks: dict[int, list[Block]] = {}

    def blocks(self, features: Tensor) -> list[Block]:
        """Split all nodes into blocks, so that the sums of ``features`` [N, d] have a bounded size."""
        row_bytes = self.num_relations * features.shape[1] * features.element_size()
        limit = _BLOCK_BYTES.get(features.device.type, _BLOCK_BYTES_ON_ACCELERATORS)
        size = max(1, limit // max(row_bytes, 1))
        if size not in self._blocks:
            self._blocks[size] = list(self._split(size))
        return self._blocks[size]

    def _split(self, size: int) -> Iterator[Block]:
        ends = [*range(0, self.num_nodes, size), self.num_nodes]
        edge_ends = self._offsets[:: size * self.num_relations].tolist()
        edge_ends = [*edge_ends[: len(ends) - 1], len(self._others)]
        for number, (first, last) in enumerate(itertools.pairwise(ends)):
            edges = slice(*edge_ends[number : number + 2])
            offsets = self._offsets[first * self.num_relations : last * self.num_relations + 1]
            yield Block(slice(first, last), edges, self._others[edges], offsets - edges.start)


class Neighborhoods:
    """The edges of a graph, grouped once for all layers.

    Args:
        graph: sorted edges.
        num_nodes: N.

    Attributes:
        incoming: the edges by target, for the forward pass.
        outgoing: the edges by source, for the backward pass.
        identity: number of the relation that consists of exactly one self-loop of every node; ``None``
            without such a relation.
    """

    def __init__(self, graph: ResidueGraph, num_nodes: int) -> None:
        self._edge_index, self._relation = graph.edge_index, graph.relation
        self._num_nodes, self._num_relations = num_nodes, graph.num_relations
        self.incoming = Grouping(graph, num_nodes)
        self._outgoing: Grouping | None = None
        self.identity = self._find_identity()

    @property
    def outgoing(self) -> Grouping:
        """The edges by source, for the backward pass."""
        if self._outgoing is None:
            turned = ResidueGraph.from_edges(self._edge_index.flip(0), self._relation, self._num_relations)
            self._outgoing = Grouping(turned, self._num_nodes)
        return self._outgoing

    def _find_identity(self) -> int | None:
        source, target = self._edge_index
        loops = self._relation[source == target]
        every = self._relation.bincount(minlength=self._num_relations)
        only_loops = loops.bincount(minlength=self._num_relations) == every
        # N loops on N distinct nodes: as many distinct pairs of node and relation.
        nodes = torch.zeros(self._num_relations, self._num_nodes, dtype=torch.bool, device=source.device)
        nodes[loops, source[source == target]] = True
        found = only_loops & (every == self._num_nodes) & nodes.all(dim=1)
        numbers = found.nonzero().flatten().tolist()
        return numbers[0] if numbers and self._num_nodes else None


def relational_sum(
    neighborhoods: Neighborhoods,
    features: Tensor,
    self_weight: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    kept: Tensor | None = None,
) -> Tensor:
    r"""Weighted sums over a node and its neighbours.

    .. math:: y_i = b + W_\mathrm{self} x_i + \sum_r W_r \sum_{j \in \mathcal{N}_r(i)} x_j

    Forward and backward pass compute the sums block by block, with one matrix product per block, to save
    memory. The backward pass keeps ``features`` only: with :math:`s_{jr}` the sum of the gradients at the
    targets of ``j``,

    .. math::
        \partial x_j = \sum_r W_r^\top s_{jr}, \qquad \partial W_r = \sum_j s_{jr} x_j^\top .

    If a relation consists of the self-loops of all nodes, its weight and W_self multiply the same x and are
    added first.

    Args:
        neighborhoods: a graph with N nodes and R relations.
        features: float [N, d].
        self_weight: float [k, d], W_self; ``None`` for none.
        weight: float [k, R * d], W_r in columns ``r * d`` to ``(r + 1) * d``.
        bias: float [k].
        kept: a copy of ``features`` that stays in memory, to keep for the backward pass instead.

    Returns:
        float [N, k].
    """
    features, weight, bias = autocast(features, weight, bias)
    kept = kept if kept is not None and kept.dtype == features.dtype else features
    if self_weight is not None:
        (self_weight,) = autocast(self_weight)
    summed: Tensor = _RelationalSum.apply(  # type: ignore[no-untyped-call]  # the library does not annotate it
        neighborhoods, features, self_weight, weight, bias, kept.detach()
    )
    return summed


class _RelationalSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        neighborhoods: Neighborhoods,
        features: Tensor,
        self_weight: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        kept: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(kept, self_weight, weight)
        ctx.neighborhoods = neighborhoods
        merged = _merged(neighborhoods, self_weight, weight)
        output = features.new_empty(features.shape[0], weight.shape[0])
        for block in neighborhoods.incoming.blocks(features):
            rows = output[block.rows]
            torch.addmm(bias, block.sum(features), merged.T, out=rows)
            if self_weight is not None and neighborhoods.identity is None:
                rows.addmm_(features[block.rows], self_weight.T)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, self_weight, weight = ctx.saved_tensors
        identity = ctx.neighborhoods.identity
        _, features_wanted, self_wanted, weight_wanted, bias_wanted, _ = ctx.needs_input_grad
        features = features.contiguous()
        gradient = gradient.contiguous()
        by_relation = _by_relation(_merged(ctx.neighborhoods, self_weight, weight), features.shape[1])
        for_features = torch.empty_like(features) if features_wanted else None
        # Sums over many nodes lose small terms in half precision: accumulate in single precision.
        precise = torch.promote_types(weight.dtype, torch.float32)
        for_weight = weight.new_zeros(by_relation.shape, dtype=precise)
        for_self = None
        if self_weight is not None and identity is None:
            for_self = self_weight.new_zeros(self_weight.shape, dtype=precise)
        for block in ctx.neighborhoods.outgoing.blocks(gradient):
            summed, own = block.sum(gradient), gradient[block.rows]
            if for_features is not None:
                rows = for_features[block.rows]
                torch.mm(summed, by_relation, out=rows)
                if for_self is not None:
                    rows.addmm_(own, self_weight)
            if self_wanted or weight_wanted:
                add_product(for_weight, summed.T, features[block.rows])
                if for_self is not None:
                    add_product(for_self, own.T, features[block.rows])
        by_number = for_weight.view(-1, weight.shape[0], features.shape[1])
        if self_wanted and for_self is None:
            for_self = by_number[identity]
        for_weight = by_number.transpose(0, 1).flatten(1)
        return (
            None,
            for_features,
            for_self.to(weight.dtype) if for_self is not None and self_wanted else None,
            for_weight.to(weight.dtype) if weight_wanted else None,
            gradient.sum(dim=0) if bias_wanted else None,
            None,
        )


def _merged(neighborhoods: Neighborhoods, self_weight: Tensor | None, weight: Tensor) -> Tensor:
    if neighborhoods.identity is None or self_weight is None:
        return weight
    first = neighborhoods.identity * self_weight.shape[1]
    merged = weight.clone()
    merged[:, first : first + self_weight.shape[1]] += self_weight
    return merged


def _by_relation(weight: Tensor, input_dim: int) -> Tensor:
    """Stack the W_r, [R * k, d], from side by side, [k, R * d]."""
    return weight.view(weight.shape[0], -1, input_dim).transpose(0, 1).flatten(0, 1)


def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast tensors to the data type of autocast if it is enabled."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add ``left @ right`` to ``total``, which may have a wider data type."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
