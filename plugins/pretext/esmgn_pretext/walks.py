"""Walks of two or three edges along a residue graph, numbered without being listed.

The original lists all of them (the line graph, and the line graph of the line graph) to draw a few
hundred; a real protein of 100 residues has some hundred thousand of three edges.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph
from esmgn_pretext.edges import draw_from_each


class Walks:
    """All walks of ``num_edges`` consecutive edges whose first and third residue of three differ.

    Two edges: k -> j -> i with k != i. Three: k -> t -> j -> i with k != j and t != i. Other residues
    may be the same; parallel edges make different walks. Memory and time grow with the edges of the
    graph, not with the walks.

    A walk is numbered by its middle (of two: last) edge first. At either end of an edge the edges that
    would turn back stand together once they are sorted, so that a number skips them: every number
    below the count is a walk, and nothing is drawn in vain.

    Args:
        graph: E edges.
        num_edges: 2 or 3.
    """

    def __init__(self, graph: ResidueGraph, num_edges: Literal[2, 3]) -> None:
        source, target = graph.edge_index
        self._graph = graph
        self._into = _Ends.of(target, source)
        self._out = _Ends.of(source, target) if num_edges == 3 else None
        self._num_back = self._into.num_between(source, target)
        self._count = self._into.degree()[source] - self._num_back
        if self._out:
            self._num_after = self._out.degree()[target] - self._num_back
            self._count = self._count * self._num_after
        self._end = self._count.cumsum(0)

    def ptr(self, ptr: Tensor) -> Tensor:
        """int64 [B + 1]: the walks of protein ``b`` have the numbers ``ptr[b]`` to ``ptr[b + 1] - 1``.

        Args:
            ptr: int64 [B + 1], residues of the proteins.
        """
        return torch.cat([self._end.new_zeros(1), self._end])[self._graph.edge_ptr(ptr)]

    def edges(self, number: Tensor) -> Tensor:
        """Rows of the edges of the walks ``number`` (int64 [S]) in walking order, int64 [num_edges, S]."""
        middle = torch.searchsorted(self._end, number, right=True)
        before = number - (self._end - self._count)[middle]
        source, target = self._graph.edge_index[:, middle]
        num_back = self._num_back[middle]
        if self._out is None:
            return torch.stack([self._into.pick(source, target, num_back, before), middle])
        num_after = self._num_after[middle]
        before, after = before.div(num_after, rounding_mode="floor"), before % num_after
        first = self._into.pick(source, target, num_back, before)
        return torch.stack([first, middle, self._out.pick(target, source, num_back, after)])


class _Ends(NamedTuple):
    """E edges by one of their ends, then by the other.

    Attributes:
        keys: int64 [E], sorted, the one end in the high half and the other in the low.
        order: int64 [E], rows of the edges in that order.
        first: int64 [N + 1]; edges of residue ``i`` stand at ``first[i]:first[i + 1]``.
    """

    keys: Tensor
    order: Tensor
    first: Tensor

    @classmethod
    def of(cls, one: Tensor, other: Tensor) -> _Ends:
        """Edges by their ends ``one``, then ``other``, int64 [E]."""
        # Stable: which of two parallel edges comes first must not depend on what else is in the batch.
        keys, order = ((one << 32) | other).sort(stable=True)
        num_residues = int(torch.maximum(one, other).amax()) + 1 if len(one) else 0
        degree = one.bincount(minlength=num_residues)
        return cls(keys, order, torch.cat([degree.new_zeros(1), degree.cumsum(0)]))

    def degree(self) -> Tensor:
        """Edges of each residue, int64 [N]."""
        return self.first.diff()

    def num_between(self, one: Tensor, other: Tensor) -> Tensor:
        """How many edges have these ends, int64 [S]."""
        keys = (one << 32) | other
        return torch.searchsorted(self.keys, keys, right=True) - torch.searchsorted(self.keys, keys)

    def pick(self, one: Tensor, left_out: Tensor, num_left_out: Tensor, number: Tensor) -> Tensor:
        """Row of edge ``number`` of each residue ``one``, not counting edges to ``left_out``, int64 [S]."""
        position = self.first[one] + number
        gap = torch.searchsorted(self.keys, (one << 32) | left_out)
        return self.order[torch.where(position < gap, position, position + num_left_out)]


def draw_walks(
    draws: Draws,
    graph: ResidueGraph,
    drawable: Tensor,
    ptr: Tensor,
    num_edges: Literal[2, 3],
    num_samples: int,
) -> Tensor:
    """``num_samples`` walks of each protein, drawn with replacement; none where a protein has none.

    Args:
        draws: source of random numbers.
        graph: E edges.
        drawable: bool [E], the edges that walks may take.
        ptr: int64 [B + 1], first residue of each protein.
        num_edges: edges in a walk.
        num_samples: walks of each protein.

    Returns:
        int64 [num_edges, S], rows of ``graph``.
    """
    walks = Walks(graph.keep_edges(drawable), num_edges)
    number = draw_from_each(draws, walks.ptr(ptr), num_samples)
    return drawable.nonzero().squeeze(1)[walks.edges(number)]
