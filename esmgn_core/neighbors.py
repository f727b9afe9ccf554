"""Search for residues that are close in space: within a radius, or the k nearest.

The search runs on the CPU. A small matrix product estimates the squared distances of a block of residues.
Pairs that may be close enough are then measured exactly: the estimate never decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch

COINCIDENT = 1e-10
"""Residues closer than this, in angstrom, are at one point and share no edge."""

# Residues searched around at a time. Their pairs stay in the cache, and memory is bounded for long proteins.
_MAX_CENTERS = 1500
# Distances estimated at a time, which stay in the cache too.
_MAX_DISTANCES = 2**16
# In a longer protein most residues are far apart: estimate only the distances to those near the block.
_LONG = 1000
_MIN_CENTERS = 128
# Bound on the error of |x|^2 - 2xy + |y|^2 in single precision, as a share of the largest |x|^2.
_ROUNDING = 1e-5

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


class Neighbors(NamedTuple):
    """Edges between residues of one protein, sorted by target, then source.

    Row 0 is the neighbor (source), row 1 the residue searched around (target).

    Attributes:
        close: int64 [2, E], neighbors within the radius.
        nearest: int64 [2, K], nearest neighbors.
    """

    close: Tensor
    nearest: Tensor


def find_neighbors(
    batch: ProteinBatch,
    radius: float,
    *,
    num_nearest: int = 0,
    max_neighbors: int = 0,
    min_separation: int = 0,
    into: Tensor | None = None,
) -> Neighbors:
    """Find the neighbors of residues by the distance of CA atoms.

    Edges may cross chains. None joins a residue with itself, or two residues at one point (closer than
    1e-10 angstrom). A residue with a coordinate that is not finite has no edges.

    Args:
        batch: N residues.
        radius: exclusive upper bound on the distance of close neighbors, in angstrom.
        num_nearest: k. The nearest neighbors are the k + 1 residues at the least distance, the residue
            itself included, within the radius or not. Of equal distances the lower position is first.
        max_neighbors: m, a cap on the close neighbors; 0 for none. Only the first m + 1 residues within
            the radius count, in residue order and the residue itself included. This is the rule of the
            original's radius search, which favors the N-terminal end.
        min_separation: smallest ``|i - j|`` of an edge, counted in residues along the protein. Cap and k
            count nearer residues too.
        into: bool [N], the residues to search around; all if ``None``.

    Returns:
        Edges on the device of the batch. The search itself runs on the CPU.
    """
    points = _Points.of(batch)
    rows = np.flatnonzero(points.known if into is None else points.known & into.cpu().numpy())
    close, nearest = [np.empty((2, 0), np.int64)], [np.empty((2, 0), np.int64)]
    for start in range(0, len(rows), _MAX_CENTERS):
        centers = rows[start : start + _MAX_CENTERS]
        pairs = points.pairs(centers, np.full(len(centers), radius**2, np.float32))
        apart = pairs.apart(min_separation)
        if num_nearest:
            enough = pairs.degree >= points.length.take(centers).clip(max=num_nearest + 1)
            found = apart & pairs.nearest(num_nearest) & enough.take(pairs.position)
            rest = centers[~enough]
            farther = points.pairs(rest, points.limit_of_nearest(rest, num_nearest))
            nearest += [
                pairs.edges(found),
                farther.edges(farther.apart(min_separation) & farther.nearest(num_nearest)),
            ]
        if max_neighbors and pairs.degree.max() > max_neighbors + 1:
            apart &= _rank(pairs.degree) <= max_neighbors
        close.append(pairs.edges(apart))
    device = batch.ptr.device
    found_edges = np.concatenate(close, axis=1), _merged(np.concatenate(nearest, axis=1))
    return Neighbors(*(torch.from_numpy(edges).to(device) for edges in found_edges))


class _Pairs(NamedTuple):
    """Residues of one protein, two by two, sorted by center, then neighbor.

    Attributes:
        rows: int64 [n], the centers, ascending.
        degree: int64 [n], pairs of each center; one of them is the center with itself.
        position: int64 [P], the center's position in ``rows``.
        neighbor: int64 [P], row in the batch.
        squared: float32 [P], squared distance in square angstrom.
    """

    rows: _Ints
    degree: _Ints
    position: _Ints
    neighbor: _Ints
    squared: _Floats

    def apart(self, min_separation: int) -> _Bools:
        """Mask of the pairs that may share an edge."""
        separation = self.rows.take(self.position)
        separation -= self.neighbor
        np.abs(separation, out=separation)
        return (separation >= max(min_separation, 1)) & (self.squared > COINCIDENT**2)

    def nearest(self, k: int) -> _Bools:
        """Mask of each center's k + 1 pairs at the least distance; of equal ones, the first."""
        # Partitioning a table, one row for each center, takes a tenth of the time of sorting the pairs.
        table = np.full((len(self.rows), self.degree.max(initial=k + 1)), np.inf, np.float32)
        table[np.arange(table.shape[1]) < self.degree[:, None]] = self.squared
        bound = np.partition(table, k, axis=1)[:, k]
        mask = self.squared <= bound.take(self.position)
        if np.count_nonzero(mask) > self.degree.clip(max=k + 1).sum():
            # Some are tied at the bound. The sort is stable: the lower row stays first.
            order = np.flatnonzero(mask)
            order = order[np.lexsort((self.squared[order], self.position[order]))]
            rank = _rank(np.bincount(self.position[order], minlength=len(self.rows)))
            mask[order[rank > k]] = False
        return mask

    def edges(self, mask: _Bools) -> _Ints:
        """Edges int64 [2, E] of the pairs of a mask."""
        kept = np.flatnonzero(mask)
        return np.stack([self.neighbor.take(kept), self.rows.take(self.position.take(kept))])


class _Points(NamedTuple):
    """CA atoms of N residues.

    Attributes:
        axes: float32 [3, N], coordinates in angstrom; NaN where one of the three is not finite. No
            comparison with NaN is true, so these residues are not found.
        known: bool [N], the residues with finite coordinates.
        left, right: float32 [N, 5] and [5, N], (-2x, |x|^2, 1) and (x, 1, |x|^2). Their product estimates
            squared distances; x is relative to the protein's first residue, for the precision.
        error: bound on the error of that estimate, in square angstrom.
        ptr: int64 [B + 1], first row of each protein, and N.
        length: int64 [N], residues of each residue's protein.
    """

    axes: _Floats
    known: _Bools
    left: _Floats
    right: _Floats
    error: np.float32
    ptr: _Ints
    length: _Ints

    @classmethod
    def of(cls, batch: ProteinBatch) -> Self:
        """All residues of a batch."""
        axes, ptr = batch.ca.detach().float().cpu().numpy().T.copy(), batch.ptr.cpu().numpy()
        lengths = np.diff(ptr)
        known = np.isfinite(axes).all(axis=0)
        axes[:, ~known] = np.nan
        # A first residue without coordinates must not take those of the others away.
        place = axes - np.nan_to_num(axes.take(ptr[:-1].repeat(lengths), axis=1))
        one = np.ones_like(place[:1])
        norm = np.square(place).sum(axis=0, keepdims=True)
        left = np.concatenate([-2 * place, norm, one]).T.copy()
        right = np.concatenate([place, one, norm])
        error = np.float32(_ROUNDING) * norm.max(initial=0, where=known)
        return cls(axes, known, left, right, error, ptr, lengths.repeat(lengths))

    def pairs(self, rows: _Ints, limit: _Floats) -> _Pairs:
        """Pairs of some residues with those closer to them than their limit.

        Args:
            rows: int64 [n], ascending.
            limit: float32 [n], exclusive upper bound on the squared distance, in square angstrom.
        """
        loose, number = (limit + self.error)[:, None], np.arange(len(self.left))
        parts = [(number[:0], number[:0])]
        for low, high, near in self._blocks(rows, limit):
            candidates = number[near]
            estimate = self.left.take(rows[low:high], axis=0) @ self.right[:, near]
            found = np.flatnonzero(estimate < loose[low:high])
            position = found // len(candidates)
            found -= position * len(candidates)
            position += low
            parts.append((position, candidates.take(found)))
        position, neighbor = map(np.concatenate, zip(*parts, strict=True))
        squared = self._squared(rows.take(position), neighbor)
        kept = np.flatnonzero(squared < limit.take(position))
        position = position.take(kept)
        degree = np.bincount(position, minlength=len(rows))
        return _Pairs(rows, degree, position, neighbor.take(kept), squared.take(kept))

    def limit_of_nearest(self, rows: _Ints, k: int) -> _Floats:
        """A limit for :meth:`pairs` that no residue's k + 1 nearest reach, float32 [n].

        It is just above the (k + 1)-th least distance among 2k + 1 residues next to it along the protein,
        and infinite if fewer than k + 1 of these have coordinates.
        """
        protein = np.searchsorted(self.ptr, rows, side="right") - 1
        first, end = self.ptr.take(protein), self.ptr.take(protein + 1)
        start = np.maximum(np.minimum(rows - k, end - 2 * k - 1), first)
        window, end = start[:, None] + np.arange(2 * k + 1), end[:, None]
        squared = self._squared(rows[:, None], np.minimum(window, end - 1))
        squared[(window >= end) | np.isnan(squared)] = np.inf
        limit: _Floats = np.nextafter(np.partition(squared, k, axis=1)[:, k], np.float32(np.inf))
        return limit

    def _squared(self, first: _Ints, second: _Ints) -> _Floats:
        """Squared distances; both directions of a pair have the same."""
        x, y, z = (np.square(axis.take(first) - axis.take(second)) for axis in self.axes)
        squared: _Floats = x + y + z
        return squared

    def _blocks(self, rows: _Ints, limit: _Floats) -> Iterator[tuple[int, int, slice | _Ints]]:
        """Runs ``low:high`` of ``rows`` in one protein, with the residues that may be close to them."""
        bounds = np.searchsorted(rows, self.ptr).tolist()
        for protein, (begin, stop) in enumerate(itertools.pairwise(bounds)):
            first, end = self.ptr[protein : protein + 2].tolist()
            step = max(_MIN_CENTERS, _MAX_DISTANCES // max(end - first, 1))
            for low in range(begin, stop, step):
                high, near = min(low + step, stop), slice(first, end)
                if end - first > _LONG:
                    radius = float(limit[low:high].max()) ** 0.5
                    yield low, high, self._near_box(rows[low:high], near, radius)
                else:
                    yield low, high, near

    def _near_box(self, rows: _Ints, residues: slice, radius: float) -> _Ints:
        """Those of some residues within a radius of the bounding box of ``rows``."""
        box, axes = self.axes.take(rows, axis=1), self.axes[:, residues]
        gap = np.maximum(box.min(axis=1, keepdims=True) - axes, axes - box.max(axis=1, keepdims=True))
        # Room for the rounding of the radius.
        inside: _Ints = np.flatnonzero((gap < 1.001 * radius).all(axis=0))
        inside += residues.start
        return inside


def _merged(edges: _Ints) -> _Ints:
    """Edges sorted by target, then source, from runs of sorted ones, which the stable sort merges."""
    key = np.sort(edges[1] << 32 | edges[0], kind="stable")
    return np.stack([key & (2**32 - 1), key >> 32])


def _rank(sizes: _Ints) -> _Ints:
    """Position of each item within its group, for groups of these sizes one after another."""
    return np.arange(sizes.sum()) - (sizes.cumsum() - sizes).repeat(sizes)
