"""Search for close residues by all distances of a protein, on a CPU.

One small matrix product measures a block of distances roughly, the few that may be short are then
measured exactly. NumPy takes a half to a fifth of torch's time for such steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from esmgn_core.batch import ProteinBatch
from esmgn_core.tiles import ROUNDING

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LONG = 5000
"""Longer proteins take less time by tiles, most of which are never measured."""

# What is measured at a time stays in the cache.
_MAX_DISTANCES = 2**16


class Found(NamedTuple):
    """Pairs of residues of one protein.

    Attributes:
        center: int64 [P], row among the residues searched.
        neighbor: int64 [P], row; may be the centre itself.
        squared: float32 [P], squared CA-CA distance in square angstrom.
    """

    center: Ints
    neighbor: Ints
    squared: Floats

    def take(self, positions: Ints) -> Self:
        """The pairs at positions int64 [n]."""
        return type(self)(
            self.center.take(positions), self.neighbor.take(positions), self.squared.take(positions)
        )


def joined(first: Found, second: Found) -> Found:
    """The pairs of both."""
    return Found(
        np.concatenate([first.center, second.center]),
        np.concatenate([first.neighbor, second.neighbor]),
        np.concatenate([first.squared, second.squared]),
    )


class Places(NamedTuple):
    """CA atoms of N residues.

    Attributes:
        axes: three of float32 [N], in angstrom.
        left, right: float32 [N, 5] and [5, N], (-2x, |x|^2, 1) and (x, 1, |x|^2), the product of which
            is roughly the squared distance; x is counted from the protein's first residue.
        error: bound on the error of that product, in square angstrom.
    """

    axes: tuple[Floats, ...]
    left: Floats
    right: Floats
    error: np.float32

    @classmethod
    def of(cls, batch: ProteinBatch) -> Self:
        """Of all residues of a batch on a CPU."""
        axes, ptr = batch.ca.detach().float().numpy().T.copy(), batch.ptr.numpy()
        place = axes - axes.take(ptr[:-1].repeat(np.diff(ptr)), axis=1)
        one = np.ones_like(place[:1])
        norm = np.square(place).sum(axis=0, keepdims=True)
        left = np.concatenate([-2 * place, norm, one]).T.copy()
        error = np.float32(ROUNDING) * norm.max(initial=0)
        return cls(tuple(axes), left, np.concatenate([place, one, norm]), error)

    def part(self, first: int, end: int) -> Self:
        """Rows ``first:end``."""
        axes = tuple(axis[first:end] for axis in self.axes)
        return type(self)(axes, self.left[first:end], self.right[:, first:end], self.error)

    def measured(self, pairs: Iterator[tuple[Ints, Ints]]) -> Found:
        """Pairs with their exact distances."""
        empty = np.empty(0, np.int64)
        center, neighbor = map(np.concatenate, zip((empty, empty), *pairs, strict=True))
        squared = np.zeros(len(center), np.float32)
        for axis in self.axes:
            apart = axis.take(center)
            apart -= axis.take(neighbor)
            apart *= apart
            squared += apart
        return Found(center, neighbor, squared)


def search(
    places: Places, ptr: Ints, radius: float, num_nearest: int = 0, rows: Ints | None = None
) -> tuple[Found, Found]:
    """Pairs strictly closer than ``radius``, and the nearest of residues that have few of these.

    Args:
        places: N residues.
        ptr: int64 [B + 1], their rows, of B proteins.
        radius: in angstrom.
        num_nearest: k.
        rows: the centres of the pairs sought, int64 [n], ascending; all residues if ``None``.

    Returns:
        The pairs within the radius, sorted by centre, then neighbour; of residues with fewer than k
        besides themselves, pairs farther apart, in no order: what their k nearest lack, and a few more.
    """
    lengths = np.diff(ptr)
    rows = np.arange(len(places.left)) if rows is None else rows
    close = places.measured(_within(places, ptr, rows, radius))
    close = close.take(np.flatnonzero(close.squared < radius**2))
    enough = np.minimum(lengths, num_nearest + 1 if num_nearest else 0).repeat(lengths)
    few = rows[(np.bincount(close.center, minlength=len(enough)) < enough).take(rows)]
    far = places.measured(_nearest(places, ptr, few, num_nearest))
    return close, far.take(np.flatnonzero(far.squared >= radius**2))


def _within(places: Places, ptr: Ints, rows: Ints, radius: float) -> Iterator[tuple[Ints, Ints]]:
    """Some residues, ascending, with those closer than ``radius``, and a few others."""
    limit = np.float32(radius**2) + places.error
    for part, first, distance in _distances(places, ptr, rows):
        yield _pairs(part, first, distance < limit)


def _nearest(places: Places, ptr: Ints, rows: Ints, k: int) -> Iterator[tuple[Ints, Ints]]:
    """Some residues, ascending, with themselves, their ``k`` nearest and a few others."""
    for part, first, distance in _distances(places, ptr, rows):
        last = min(k, distance.shape[1] - 1)
        limit = np.partition(distance, last, axis=1)[:, last : last + 1] + 2 * places.error
        yield _pairs(part, first, distance <= limit)


def _distances(places: Places, ptr: Ints, rows: Ints) -> Iterator[tuple[Ints, int, Floats]]:
    """A few rows of one protein at a time, its first row, and roughly their distances from all of it."""
    of_each = itertools.pairwise(np.searchsorted(rows, ptr).tolist())
    for (first, end), (low, high) in zip(itertools.pairwise(ptr.tolist()), of_each, strict=True):
        right = places.right[:, first:end]
        step = max(1, _MAX_DISTANCES // max(1, end - first))
        for start in range(low, high, step):
            part = rows[start : min(start + step, high)]
            yield part, first, places.left.take(part, axis=0) @ right


def _pairs(rows: Ints, first: int, mask: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Rows of the pairs of a mask [n, L], between ``rows`` and the L rows from ``first`` on."""
    at = np.flatnonzero(mask)
    number = at // mask.shape[1]
    at -= number * mask.shape[1]
    at += first
    return rows.take(number), at
