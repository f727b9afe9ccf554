"""Pairs of close residues: the search of the relational graph, without a dense result.

What it finds is exactly what the distance blocks of :mod:`esmgn_core.graph` hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from esmgn_core import graph
from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import COINCIDENT, distance_blocks, padded_rows

_LOW_HALF = 2**32 - 1
_NO_NEIGHBOR = 0x7F80_0000 << 32
"""Key by distance of an infinite distance."""
_ROUNDING = 1e-5
"""Bound on the error of |x|^2 - 2xy + |y|^2 in single precision, as a share of the largest |x|^2."""


class Pairs(NamedTuple):
    """Pairs of residues of one protein, sorted by centre, then neighbour.

    Attributes:
        center: int64 [P], row in the batch.
        neighbor: int64 [P], row in the batch; may be the centre itself.
        squared: float32 [P], squared CA-CA distance in square angstrom.
    """

    center: Tensor
    neighbor: Tensor
    squared: Tensor

    def where(self, mask: Tensor) -> Self:
        """The pairs of a bool [P] mask."""
        if bool(mask.all()):
            return self
        kept = _nonzero(mask)
        return type(self)(*(column.index_select(0, kept) for column in self))

    def capped(self, max_neighbors: int) -> Self:
        """The first ``max_neighbors`` + 1 pairs of each centre: the rule of :func:`within_radius`."""
        if int(self.center.bincount(minlength=1).max()) <= max_neighbors + 1:
            return self
        return self.where(self.rank() <= max_neighbors)

    def rank(self) -> Tensor:
        """int64 [P], how many pairs of the same centre stand before each pair."""
        index = torch.arange(len(self.center), device=self.center.device)
        counts = self.center.bincount()
        return index - (counts.cumsum(0) - counts).index_select(0, self.center)

    def edges(self, *, min_separation: int) -> Tensor:
        """Edges neighbour -> centre, int64 [2, E], without what ``DistanceBlock.edges`` leaves out."""
        apart = (self.center - self.neighbor).abs_() >= max(min_separation, 1)
        apart &= self.squared > COINCIDENT**2
        kept = _nonzero(apart)
        return torch.stack([self.neighbor.index_select(0, kept), self.center.index_select(0, kept)])


def close_pairs(batch: ProteinBatch, radius: float) -> Pairs:
    """All pairs strictly closer than ``radius`` angstrom, each residue with itself among them."""
    search = _candidates if batch.ptr.device.type == "cpu" else _from_blocks
    keys = torch.cat([batch.ptr.new_empty(0), *search(batch, radius)])
    center, neighbor = keys >> 32, keys & _LOW_HALF
    ca = batch.ca.float()
    squared = _squared(ca.index_select(0, center), ca.index_select(0, neighbor))
    return Pairs(center, neighbor, squared).where(squared < radius**2)


def _candidates(batch: ProteinBatch, radius: float) -> Iterator[Tensor]:
    """Keys of all pairs closer than ``radius``, and of some a little farther apart, ascending.

    One matrix product of inner dimension 5 gives |x|^2 - 2xy + |y|^2; the bound leaves room for its
    rounding, so that only a few pairs need be measured exactly.
    """
    if not batch.num_residues:
        return
    ca = batch.ca.double()
    ca = (ca - ca[batch.ptr[:-1].clamp(max=len(ca) - 1)][batch.protein_index]).float()
    norm = ca.square().sum(dim=1, keepdim=True)
    one = torch.ones_like(norm)
    left, right = torch.cat([-2 * ca, norm, one], dim=1), torch.cat([ca, one, norm], dim=1).T
    bound = radius**2 + _ROUNDING * float(norm.max())
    for first, end in itertools.pairwise(batch.ptr.tolist()):
        length = end - first
        size = max(1, graph.MAX_PAIRS_PER_BLOCK // max(length, 1))
        for center in range(first, end, size):
            with torch.autocast("cpu", enabled=False):
                rough = left[center : min(center + size, end)] @ right[:, first:end]
            # Not torch's nonzero and division: these run several times as long.
            flat = np.flatnonzero((rough < bound).numpy())
            line = flat // length
            yield torch.from_numpy(((line + center) << 32) + (flat - line * length + first))


def _from_blocks(batch: ProteinBatch, radius: float) -> list[Tensor]:
    """Keys as :func:`_candidates` gives them, in few large steps."""
    found = [block.keys(block.squared < radius**2) for block in distance_blocks(batch)]
    return [torch.cat([batch.ptr.new_empty(0), *found]).sort().values]


def nearest_pairs(batch: ProteinBatch, k: int, close: Pairs) -> Pairs:
    """Each residue with itself and its ``k`` nearest, in no order; of ties the lower position wins.

    Args:
        batch: N residues.
        k: number of neighbours; all residues of a protein that has fewer.
        close: all pairs below some radius, from :func:`close_pairs`. Where they hold k neighbours the
            search ends with them.
    """
    counts = close.center.bincount(minlength=batch.num_residues)
    enough = counts >= batch.lengths.clamp(max=k + 1)[batch.protein_index]
    width = int(counts.max()) if len(counts) else 0
    table = torch.full((len(counts), width), _NO_NEIGHBOR, device=counts.device)
    table[close.center, close.rank()] = _by_distance(close.squared, close.neighbor)
    done, rest = enough.nonzero(), (~enough).nonzero()
    found = [_nearest(done, table.index_select(0, done.flatten()), k)]
    if len(rest):
        found += _nearest_of_all(batch, rest, k)
    return Pairs(*(torch.cat(column) for column in zip(*found, strict=True)))


def _nearest_of_all(batch: ProteinBatch, centers: Tensor, k: int) -> Iterator[Pairs]:
    """The nearest residues of centres [n, 1], found by measuring all residues of their proteins."""
    rows, valid = padded_rows(batch, list(range(len(batch))))
    ca = batch.ca.float()
    points = ca[rows].masked_fill_(~valid.unsqueeze(-1), torch.inf)
    axes = [axis.contiguous() for axis in points.unbind(dim=-1)]
    position = torch.arange(rows.shape[1], device=ca.device)
    for part in torch.split(centers, max(1, graph.MAX_PAIRS_PER_BLOCK // rows.shape[1])):
        protein = batch.protein_index[part.flatten()]
        own = ca[part].unbind(dim=-1)
        x, y, z = (a.index_select(0, protein).sub_(c).square_() for a, c in zip(axes, own, strict=True))
        pairs = _nearest(part, _by_distance(x.add_(y).add_(z), position), k)
        yield pairs._replace(neighbor=pairs.neighbor + batch.ptr[batch.protein_index[pairs.center]])


def _squared(first: Tensor, second: Tensor) -> Tensor:
    """Squared distances of points [..., 3], summed as in :class:`DistanceBlock`."""
    x, y, z = (first - second).square_().unbind(dim=-1)
    return (x + y).add_(z)


def _by_distance(squared: Tensor, neighbor: Tensor) -> Tensor:
    """Keys that order neighbours by distance, then number."""
    # Non-negative floats order as their bit patterns do: with the number in the low bits every
    # key is distinct, so that the choice among equal distances never depends on the device.
    return squared.view(torch.int32).to(torch.int64).bitwise_left_shift_(32).bitwise_or_(neighbor)


def _nearest(centers: Tensor, table: Tensor, k: int) -> Pairs:
    """Pairs of centres [n, 1] with the k + 1 smallest of their keys by distance [n, w]."""
    if table.shape[1] > k + 1:
        if table.device.type == "cpu":
            table = torch.from_numpy(np.partition(table.numpy(), k, axis=1)[:, : k + 1])
        else:
            table = table.topk(k + 1, largest=False, sorted=False).values
    center, keys = centers.expand(-1, table.shape[1]).flatten(), table.flatten()
    pairs = Pairs(center, keys & _LOW_HALF, (keys >> 32).to(torch.int32).view(torch.float32))
    return pairs.where(pairs.squared.isfinite())


def _nonzero(mask: Tensor) -> Tensor:
    """Positions of True in a bool [P] mask; on a CPU, torch takes twice as long as NumPy."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().flatten()
