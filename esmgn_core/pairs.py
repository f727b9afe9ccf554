"""Pairs of close residues: the search that graph builders share."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from esmgn_core import dense
from esmgn_core.batch import ProteinBatch
from esmgn_core.graph import sorted_keys
from esmgn_core.tiles import Hits, hits_of_tiles

COINCIDENT = 1e-10
"""Residues closer than this, in angstrom, are at one point and share no edge."""

_FLOAT_BITS = 31
_KEY_BITS = 63


class Pairs(NamedTuple):
    """Pairs of residues of one protein, sorted by centre, then distance, then neighbour.

    Attributes:
        center: int64 [P], row in the batch.
        neighbor: int64 [P], row in the batch; may be the centre itself.
        squared: float32 [P], squared CA-CA distance in square angstrom.
    """

    center: Tensor
    neighbor: Tensor
    squared: Tensor

    @classmethod
    def sorted(cls, batch: ProteinBatch, hits: Hits) -> Self:
        """Pairs in any order, sorted."""
        low = batch.num_residues.bit_length()
        high = low + _FLOAT_BITS
        if low + high > _KEY_BITS:
            return cls._sorted_in_two_steps(hits)
        # Non-negative floats order as their bits do: one key says all.
        key = hits.squared.view(torch.int32).to(torch.int64).bitwise_left_shift_(low)
        key |= hits.neighbor
        key |= hits.center << high
        key = sorted_keys(key)
        bits = (key >> low).bitwise_and_((1 << _FLOAT_BITS) - 1).to(torch.int32)
        return cls(key >> high, key & ((1 << low) - 1), bits.view(torch.float32))

    @classmethod
    def _sorted_in_two_steps(cls, hits: Hits) -> Self:
        order = (hits.squared.view(torch.int32).to(torch.int64) << 32 | hits.neighbor).argsort()
        order = order[hits.center[order].argsort(stable=True)]
        return cls(*(column[order] for column in hits))

    def take(self, positions: Tensor) -> Self:
        """The pairs at positions int64 [n]."""
        return type(self)(*(column.index_select(0, positions) for column in self))

    def rank(self) -> Tensor:
        """int64 [P], how many pairs of the same centre stand before each pair."""
        index = torch.arange(len(self.center), device=self.center.device)
        counts = self.center.bincount()
        return index - (counts.cumsum(0) - counts).index_select(0, self.center)

    def within(self, radius: float, *, max_neighbors: int | None = None) -> Tensor:
        """Pairs strictly closer than ``radius`` angstrom, bool [P].

        With ``max_neighbors = m`` only the first m + 1 of a centre in residue order count, the centre
        itself among them where it comes early enough: the rule of the original's radius search, which
        favours the N-terminal end.
        """
        hit = self.squared < radius**2
        if max_neighbors is None or not len(hit):
            return hit
        many = self.center[hit].bincount(minlength=int(self.center[-1]) + 1) > max_neighbors + 1
        if not many.any():
            return hit
        crowded = nonzero(hit & many[self.center])
        crowded = crowded[((self.center[crowded] << 32) | self.neighbor[crowded]).argsort()]
        late = crowded[self.take(crowded).rank() > max_neighbors]
        return hit.index_fill(0, late, value=False)

    def apart(self, min_separation: int = 0) -> Tensor:
        """Pairs that may share an edge, bool [P].

        These are not: pairs fewer than ``min_separation`` positions apart in the protein, a residue
        with itself, and residues at one point.
        """
        apart = (self.center - self.neighbor).abs_() >= max(min_separation, 1)
        return apart.logical_and_(self.squared > COINCIDENT**2)

    def edges(self, mask: Tensor) -> Tensor:
        """Edges neighbour -> centre of a bool [P] mask, int64 [2, E]."""
        kept = nonzero(mask)
        return torch.stack([self.neighbor.index_select(0, kept), self.center.index_select(0, kept)])


def close_pairs(batch: ProteinBatch, radius: float, *, num_nearest: int = 0) -> Pairs:
    """All pairs strictly closer than ``radius`` angstrom, each residue with itself among them.

    Args:
        batch: N residues.
        radius: in angstrom.
        num_nearest: k. A residue's pairs begin with itself and its k nearest, of ties the one of lower
            position first, even if they are farther away than ``radius``; a few more may follow. A
            protein that has fewer residues is found whole.
    """
    if not is_dense(batch):
        return Pairs.sorted(batch, hits_of_tiles(batch, radius, num_nearest))
    found = dense.search(dense.Places.of(batch), batch.ptr.numpy(), radius, num_nearest)
    return Pairs.sorted(batch, Hits(*map(torch.from_numpy, dense.joined(*found))))


def is_dense(batch: ProteinBatch) -> bool:
    """Whether all distances are measured, which takes the least time on a CPU."""
    return batch.ptr.device.type == "cpu" and max(batch.lengths.tolist(), default=0) <= dense.LONG


def nonzero(mask: Tensor) -> Tensor:
    """Positions of True in a bool [P] mask; on a CPU, torch takes twice as long as NumPy."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().flatten()
