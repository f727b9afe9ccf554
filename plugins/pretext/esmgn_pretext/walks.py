"""Sampling of walks of two or three edges along a residue graph, without listing them.

The original lists all walks (the line graph, and the line graph of the line graph) to draw a few hundred. A
real protein of 100 residues has some hundred thousand walks of three edges.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph
from esmgn_pretext.edges import draw_from_each


class Walks:
    """Numbering of all walks of ``num_edges`` consecutive edges that do not turn back.

    Two edges: k -> j -> i with k != i. Three edges: k -> t -> j -> i with k != j and t != i.
    Other residues may be equal. Parallel edges make different walks. Memory and time grow with the edges of
    the graph, not with the walks.

    A walk's number identifies its middle edge (the last of two) first, then the edges before and after it.
    Edges are sorted by both ends, so that those that turn back are consecutive, and the numbering skips
    them. Every number below the count is therefore a walk, and no draw is rejected.

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
        """First walk of each protein: those of protein ``b`` are ``ptr[b]`` to ``ptr[b + 1] - 1``.

        Args:
            ptr: int64 [B + 1], first residue of each protein.

        Returns:
            int64 [B + 1].
        """
        return torch.cat([self._end.new_zeros(1), self._end])[self._graph.edge_ptr(ptr)]

    def edges(self, number: Tensor) -> Tensor:
        """Edges of the walks ``number`` (int64 [S]) in walking order, int64 [num_edges, S]."""
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
    """E edges sorted by one of their ends (primary), then by the other (secondary).

    Attributes:
        keys: int64 [E], sorted; the primary end in the high 32 bits, the secondary end in the low ones.
        order: int64 [E], rows of the edges in that order.
        first: int64 [N + 1]; edges of residue ``i`` are at ``first[i]:first[i + 1]``.
    """

    keys: Tensor
    order: Tensor
    first: Tensor

    @classmethod
    def of(cls, primary: Tensor, secondary: Tensor) -> _Ends:
        """Sort edges with the ends ``primary`` and ``secondary``, int64 [E]."""
        # Stable: the order of parallel edges must not depend on the other proteins of the batch.
        keys, order = ((primary << 32) | secondary).sort(stable=True)
        num_residues = int(torch.maximum(primary, secondary).amax()) + 1 if len(primary) else 0
        degree = primary.bincount(minlength=num_residues)
        return cls(keys, order, torch.cat([degree.new_zeros(1), degree.cumsum(0)]))

    def degree(self) -> Tensor:
        """Edges of each residue, int64 [N]."""
        return self.first.diff()

    def num_between(self, primary: Tensor, secondary: Tensor) -> Tensor:
        """Number of edges with these ends, int64 [S]."""
        keys = (primary << 32) | secondary
        return torch.searchsorted(self.keys, keys, right=True) - torch.searchsorted(self.keys, keys)

    def pick(self, residue: Tensor, skipped: Tensor, num_skipped: Tensor, number: Tensor) -> Tensor:
        """Row of edge ``number`` of each residue, not counting edges to ``skipped``, int64 [S]."""
        position = self.first[residue] + number
        # Edges to the skipped residue are consecutive: later positions move past them.
        gap = torch.searchsorted(self.keys, (residue << 32) | skipped)
        return self.order[torch.where(position < gap, position, position + num_skipped)]


def draw_walks(
    draws: Draws,
    graph: ResidueGraph,
    drawable: Tensor,
    ptr: Tensor,
    num_edges: Literal[2, 3],
    num_samples: int,
) -> Tensor:
    """Draw ``num_samples`` walks of each protein with replacement; none if a protein has no walk.

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
