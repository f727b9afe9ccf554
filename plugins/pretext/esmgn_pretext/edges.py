"""Drawing and removal of edges, shared by the tasks on edges."""

from __future__ import annotations

import torch
from torch import Tensor

from esmgn_core.draws import Draws, uniform_index
from esmgn_core.graph import ResidueGraph
from esmgn_pretext.settings import CroppedTaskSettings


class EdgeTaskSettings(CroppedTaskSettings):
    """Settings of a task that predicts from edges it removes."""

    hide_pairs: bool = False
    """For each drawn edge, remove all edges between its two residues (both directions, all relations), and
    draw no self-loops. The original leaves the other edges in the graph."""

    def drawable(self, graph: ResidueGraph) -> Tensor:
        """Mask bool [E] of the edges that may be drawn."""
        source, target = graph.edge_index
        return source != target if self.hide_pairs else torch.ones_like(source, dtype=torch.bool)

    def without(self, graph: ResidueGraph, drawn: Tensor) -> ResidueGraph:
        """The graph without the edges of the rows ``drawn`` (int64, any shape, repeats allowed)."""
        gone = torch.zeros_like(graph.relation, dtype=torch.bool).index_fill(0, drawn.flatten(), value=True)
        if self.hide_pairs:
            pair = pair_keys(graph.edge_index)
            gone = torch.isin(pair, pair[gone])
        return graph.keep_edges(~gone)


def pair_keys(edge_index: Tensor) -> Tensor:
    """Key of the unordered pair of residues of each edge, int64 [E]: row numbers in two halves of 32 bits."""
    low, high = edge_index.amin(dim=0), edge_index.amax(dim=0)
    return (high << 32) | low


def share_of(sizes: Tensor, rate: float | Tensor) -> Tensor:
    """``rate * sizes``, rounded down, at least 1 for sizes above 0; int64 [B]."""
    return (rate * sizes).long().clamp(min=1).minimum(sizes)


def draw_from_each(draws: Draws, ptr: Tensor, counts: int | Tensor) -> Tensor:
    """Draw numbers of each range ``ptr[b]:ptr[b + 1]`` with replacement.

    Args:
        draws: source of random numbers.
        ptr: int64 [B + 1].
        counts: how many to draw from each range, int or int64 [B] on the CPU; 0 for an empty range.

    Returns:
        int64 [S] on the device of ``ptr``, packed in the order of the proteins.
    """
    first, size = ptr[:-1].cpu(), ptr.diff().cpu()
    counts = counts * (size > 0)
    return (first.repeat_interleave(counts) + uniform_index(draws, counts, size)).to(ptr.device)
