"""The relational graph on a CPU: the edges of a few proteins at a time, as sorted integers."""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.dense import Found, Ints, Places, joined, search
from esmgn_core.graph import ResidueGraph
from esmgn_core.pairs import COINCIDENT

# Residues drawn at a time: what is at work on their edges stays in the cache.
_PART = 1500
_FLOAT_BITS = 31


class _Settings(Protocol):
    @property
    def max_offset(self) -> int: ...
    @property
    def radius(self) -> float: ...
    @property
    def num_neighbors(self) -> int: ...
    @property
    def min_separation(self) -> int: ...
    @property
    def max_radius_neighbors(self) -> int: ...


def drawn_on_cpu(batch: ProteinBatch, settings: _Settings, into: Tensor | None = None) -> ResidueGraph:
    """The edges of :class:`esmgn_gearnet.graph.RelationalGraph`.

    An edge is an integer of three fields, target, relation and source, the order of a graph's edges.

    Args:
        batch: N residues, on a CPU.
        settings: those of the graph.
        into: the residues that edges are to end at, bool [N]; all if ``None``.
    """
    places, ptr, run = Places.of(batch), batch.ptr.numpy(), _runs(batch)
    num_relations = 2 * settings.max_offset + 3
    row_bits = len(run).bit_length()
    target_at = row_bits + num_relations.bit_length()
    cuts = np.unique(np.searchsorted(ptr, [*range(0, len(run), _PART), len(run)]))
    edges = [np.empty(0, np.int64)]
    for first, end in itertools.pairwise(cuts.tolist()):
        low, high = int(ptr[first]), int(ptr[end])
        rows = None if into is None else np.flatnonzero(into[low:high].numpy())
        near = search(
            places.part(low, high), ptr[first : end + 1] - low, settings.radius, settings.num_neighbors, rows
        )
        parts = [
            *_sequential(run[low:high], settings.max_offset, target_at, rows),
            _within_radius(near[0], settings, target_at),
            _nearest(*near, high - low, settings, target_at),
        ]
        for number, part in enumerate(parts):
            part += (low << target_at) + (number << row_bits) + low
        edges.append(np.concatenate(parts))
        edges[-1].sort()
    return _graph(edges, num_relations, row_bits, target_at)


def _runs(batch: ProteinBatch) -> Ints:
    """int64 [N], equal for residues of one chain."""
    chain, ptr = batch.chain_index.numpy(), batch.ptr.numpy()
    new = np.zeros(len(chain), np.int64)
    new[1:] = chain[1:] != chain[:-1]
    new[ptr[ptr < len(chain)]] = 1
    return new.cumsum()


def _sequential(run: Ints, max_offset: int, target_at: int, rows: Ints | None) -> list[Ints]:
    """Edges source -> source + offset within one chain, for each offset from -m to m, into ``rows``."""
    row = np.arange(len(run))
    edges = [_packed(row, row, target_at)]
    for offset in range(1, max_offset + 1):
        first = np.flatnonzero(run[:-offset] == run[offset:])
        second = first + offset
        edges = [_packed(first, second, target_at), *edges, _packed(second, first, target_at)]
    if rows is None:
        return edges
    wanted = np.zeros(len(run), np.bool_)
    wanted[rows] = True
    return [part[wanted.take(part >> target_at)] for part in edges]


def _within_radius(close: Found, settings: _Settings, target_at: int) -> Ints:
    kept = _far_in_sequence(close.center, close.neighbor, settings)
    kept &= close.squared > COINCIDENT**2
    if settings.max_radius_neighbors:
        count = np.bincount(close.center)
        rank = np.arange(len(close.center)) - (count.cumsum() - count).repeat(count)
        kept &= rank <= settings.max_radius_neighbors
    return _packed(close.center, close.neighbor, target_at).take(np.flatnonzero(kept))


def _nearest(close: Found, far: Found, num_residues: int, settings: _Settings, target_at: int) -> Ints:
    pairs = joined(close, far) if len(far.center) else close
    row_bits = num_residues.bit_length()
    center_at = row_bits + _FLOAT_BITS
    # Non-negative floats order as their bits do: one integer says centre, distance and neighbour.
    key = pairs.squared.view(np.int32).astype(np.int64)
    key <<= row_bits
    key |= _packed(pairs.center, pairs.neighbor, center_at)
    key.sort()
    count = np.bincount(pairs.center, minlength=num_residues)
    rank = np.arange(settings.num_neighbors + 1)
    place = ((count.cumsum() - count)[:, None] + rank).ravel()
    center = np.arange(num_residues).repeat(len(rank))
    if count.min() < len(rank):
        there = np.flatnonzero(rank < count[:, None])
        place, center = place.take(there), center.take(there)
    key = key.take(place)
    neighbor = key & ((1 << row_bits) - 1)
    kept = _far_in_sequence(center, neighbor, settings)
    key &= (1 << center_at) - 1
    kept &= key >= int(np.float32(COINCIDENT**2).view(np.int32)) + 1 << row_bits
    return _packed(center, neighbor, target_at).take(np.flatnonzero(kept))


def _far_in_sequence(center: Ints, neighbor: Ints, settings: _Settings) -> npt.NDArray[np.bool_]:
    apart = center - neighbor
    np.abs(apart, out=apart)
    return apart >= max(settings.min_separation, 1)


def _packed(target: Ints, source: Ints, target_at: int) -> Ints:
    packed = target << target_at
    packed |= source
    return packed


def _graph(parts: list[Ints], num_relations: int, row_bits: int, target_at: int) -> ResidueGraph:
    num_edges = sum(map(len, parts))
    edges, relation = np.empty((2, num_edges), np.int64), np.empty(num_edges, np.int64)
    end = 0
    for part in parts:
        start, end = end, end + len(part)
        np.bitwise_and(part, (1 << row_bits) - 1, out=edges[0, start:end])
        np.right_shift(part, target_at, out=edges[1, start:end])
        part >>= row_bits
        np.bitwise_and(part, (1 << target_at - row_bits) - 1, out=relation[start:end])
    return ResidueGraph(torch.from_numpy(edges), torch.from_numpy(relation), num_relations)
