"""Walks of two or three edges along a residue graph, numbered without being listed.

The original lists all of them (the line graph, and the line graph of the line graph) to draw a few
hundred; a real protein of 100 residues has some hundred thousand of three edges.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from esmgn_core.graph import ResidueGraph


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
        self._before = _fan(target, source)
        self._after = _fan(source, target) if num_edges == 3 else None
        count = self._before.size
        self._count = count if self._after is None else count * self._after.size
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
        rest = number - (self._end - self._count)[middle]
        if self._after is None:
            return torch.stack([self._before.pick(middle, rest), middle])
        size = self._after.size[middle]
        before, after = rest.div(size, rounding_mode="floor"), rest % size
        return torch.stack([self._before.pick(middle, before), middle, self._after.pick(middle, after)])


class _Fan(NamedTuple):
    """For each of E edges, the edges at one of its ends that do not turn back to its other end.

    They are a range of ``order`` with a gap: ``first``, ``gap`` and ``skip`` (its length) are positions
    there, ``size`` counts what is left.
    """

    order: Tensor
    first: Tensor
    gap: Tensor
    skip: Tensor
    size: Tensor

    def pick(self, edge: Tensor, number: Tensor) -> Tensor:
        """Row of the ``number``-th edge in the fan of ``edge``, both int64 [S]."""
        position = self.first[edge] + number
        return self.order[torch.where(position < self.gap[edge], position, position + self.skip[edge])]


def _fan(center: Tensor, other: Tensor) -> _Fan:
    """Fans of edges that join ``center`` and ``other`` (int64 [E]), at the end called ``other``.

    With the targets as centres, a fan holds what comes before the edge; with the sources, what
    comes after.
    """
    keys, order = ((center << 32) | other).sort()
    back = (other << 32) | center
    first, end = torch.searchsorted(keys, torch.stack([other << 32, (other + 1) << 32]))
    gap = torch.searchsorted(keys, back)
    skip = torch.searchsorted(keys, back, right=True) - gap
    return _Fan(order, first, gap, skip, end - first - skip)
