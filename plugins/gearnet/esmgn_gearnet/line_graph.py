"""The line graph: pairs of consecutive edges of a residue graph, and their angles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from esmgn_core.graph import ResidueGraph

_MAX_LINE_EDGES_PER_BLOCK = 1_000_000


@torch.no_grad()
def line_graph(graph: ResidueGraph, ca: Tensor, num_bins: int) -> ResidueGraph:
    r"""Build the line graph: an edge from each edge k -> j to each j -> i, whose relation is the angle.

    .. math::
        \mathrm{bin} = \min\Bigl(\Bigl\lfloor \frac{n\,\theta}{\pi} \Bigr\rfloor, n - 1\Bigr), \qquad
        \theta = \mathrm{atan2}(\lVert u \times v \rVert, u \cdot v), \quad
        u = x_i - x_j,\ v = x_k - x_j

    All pairs are included. An edge and its reverse have angle 0, and so has every pair with a self-loop.

    Args:
        graph: E sorted edges.
        ca: float [N, 3], CA coordinates in angstrom.
        num_bins: number n of equal bins of the angle.

    Returns:
        A graph whose nodes are the E edges, by their position in ``graph``, with ``num_bins`` relations.

    Source: Zhang et al. 2023 (arXiv 2203.06125), section 3.3.
    """
    source, target = graph.edge_index
    # Edges are sorted by target: those into a residue are consecutive.
    first_in = torch.searchsorted(target.contiguous(), torch.arange(len(ca) + 1, device=target.device))
    num_before = first_in.diff()[source]
    vector = ca.float()[source] - ca.float()[target]
    blocks = []
    for first, last in _blocks(num_before):
        count = num_before[first:last]
        after = torch.arange(first, last, device=target.device).repeat_interleave(count)
        start = first_in[source[first:last]] - (count.cumsum(0) - count)
        before = torch.arange(len(after), device=target.device) + start.repeat_interleave(count)
        relation = angle_bin(-vector[after], vector[before], num_bins)
        blocks.append(ResidueGraph.from_edges(torch.stack([before, after]), relation, num_bins))
    empty = target.new_empty(2, 0)
    return ResidueGraph(
        torch.cat([empty, *(block.edge_index for block in blocks)], dim=1),
        torch.cat([empty[0], *(block.relation for block in blocks)]),
        num_bins,
    )


def angle_bin(first: Tensor, second: Tensor, num_bins: int) -> Tensor:
    """Bin int64 [L] of the angle between vectors [L, 3]; 0 if one of them is zero."""
    # atan2 is accurate near 0 and pi, where the derivative of acos diverges.
    cross = torch.linalg.cross(first, second, dim=-1).norm(dim=-1)
    angle = torch.atan2(cross, (first * second).sum(dim=-1))
    return (angle * (num_bins / math.pi)).long().clamp_(max=num_bins - 1)


def _blocks(num_before: Tensor) -> Iterator[tuple[int, int]]:
    """Ranges of edges with a bounded number of preceding edges in all, at least one edge each."""
    total = num_before.cumsum(0)
    num_blocks = int(total[-1]) // _MAX_LINE_EDGES_PER_BLOCK if len(total) else 0
    bounds = torch.arange(1, num_blocks + 1, device=total.device) * _MAX_LINE_EDGES_PER_BLOCK
    ends = sorted({0, *torch.searchsorted(total, bounds).tolist(), len(total)})
    yield from itertools.pairwise(ends)
