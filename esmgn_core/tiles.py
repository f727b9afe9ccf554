"""Search for close residues by tiles: runs of residues next to one another along the chain.

Tiles whose bounding boxes are too far apart are never looked into; the others are measured densely,
many pairs of tiles at a time, on the device of the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch

_TILE = 16
# What is measured at a time stays in the cache, and small enough for the allocator to hand the same
# memory out again.
_MAX_DISTANCES = {"cpu": 2**17}
_MAX_DISTANCES_ON_ACCELERATORS = 2**24
_MAX_BOXES = 2**20
ROUNDING = 1e-5
"""Bound on the error of |x|^2 - 2xy + |y|^2 in single precision, as a share of the largest |x|^2."""


class Hits(NamedTuple):
    """Pairs of residues of one protein, in no order.

    Attributes:
        center: int64 [P], row in the batch.
        neighbor: int64 [P], row in the batch; may be the centre itself.
        squared: float32 [P], squared CA-CA distance in square angstrom.
    """

    center: Tensor
    neighbor: Tensor
    squared: Tensor


_Axes = tuple[Tensor, ...]
_Bound = Tensor | float
_Products = tuple[Tensor, Tensor, _Bound]


class Tiles(NamedTuple):
    """Residues of B proteins in T tiles of 16, each tile within one protein.

    Attributes:
        rows: int64 [T, 16], rows in the batch; 0 in the empty places of a tile with fewer residues.
        low, high: float32 [T, 3], corners of the boxes, in angstrom.
        left, right: float [T, 16, 5] and [T, 5, 16], (-2x, |x|^2, 1) and (x, 1, |x|^2), the product of
            which is the squared distance; x is counted from the protein's first residue, |x|^2 is
            infinite in empty places.
        protein: int64 [T].
        ptr: int64 [B + 1]; protein ``b`` owns tiles ``ptr[b]:ptr[b + 1]``.
    """

    rows: Tensor
    low: Tensor
    high: Tensor
    left: Tensor
    right: Tensor
    protein: Tensor
    ptr: Tensor

    @classmethod
    def of(cls, batch: ProteinBatch, rows: Tensor | None = None) -> Self:
        """Tiles of all residues, or of some: int64 [n], ascending."""
        rows, empty, protein, ptr = _table(batch, rows)
        ca = batch.ca.float()
        place = ca.index_select(0, rows.flatten()).view(*rows.shape, 3)
        low = place.masked_fill(empty, torch.inf).amin(dim=1)
        high = place.masked_fill(empty, -torch.inf).amax(dim=1)
        origin = ca.index_select(0, batch.ptr[:-1].index_select(0, protein))
        # On GPUs products of float32 may be allowed to round to 10 bits, those of float64 never are.
        dtype = torch.float32 if ca.device.type == "cpu" else torch.float64
        place = (place - origin.unsqueeze(1)).masked_fill_(empty, 0.0).to(dtype)
        norm = place.square().sum(dim=-1, keepdim=True).masked_fill_(empty, torch.inf)
        one = torch.ones_like(norm)
        left = torch.cat([-2 * place, norm, one], dim=-1)
        right = torch.cat([place, one, norm], dim=-1).transpose(1, 2).contiguous()
        return cls(rows, low, high, left, right, protein, ptr)

    def slack(self) -> float:
        """Room for the rounding of the products, in square angstrom."""
        norm = self.left[..., 3]
        return ROUNDING * float(norm.masked_fill(norm.isinf(), 0.0).amax()) if norm.numel() else 0.0


def hits_of_tiles(batch: ProteinBatch, radius: float, num_nearest: int) -> Hits:
    """Pairs strictly closer than ``radius`` angstrom, and what else each residue's nearest are.

    Args:
        batch: N residues.
        radius: in angstrom.
        num_nearest: each residue is found with itself and this many nearest, ties and a few more; a
            protein that has fewer residues, whole.
    """
    ca, tiles = batch.ca.float(), Tiles.of(batch)
    hits = [Hits(batch.ptr.new_empty(0), batch.ptr.new_empty(0), ca.new_empty(0))]
    hits += pairs_within_radius(ca, tiles, radius)
    if num_nearest:
        num_found = torch.cat([center for center, _, _ in hits]).bincount(minlength=len(ca))
        enough = batch.lengths.clamp(max=num_nearest + 1).index_select(0, batch.protein_index)
        rows = (num_found < enough).nonzero().flatten()
        bound = _bound_of_nearest(batch, rows, num_nearest)
        for far in pairs_within_bounds(ca, Tiles.of(batch, rows), tiles, bound):
            new = (far.squared >= radius**2).nonzero().flatten()
            hits.append(Hits(*(column.index_select(0, new) for column in far)))
    return Hits(*(torch.cat(column) for column in zip(*hits, strict=True)))


def pairs_within_radius(ca: Tensor, tiles: Tiles, radius: float) -> Iterator[Hits]:
    """Pairs strictly closer than ``radius``, each seen from either side.

    Args:
        ca: float32 [N, 3], the CA atoms of the batch, in angstrom.
        tiles: all residues of the batch.
        radius: in angstrom.
    """
    each = torch.arange(len(tiles.rows), device=ca.device)
    yield from _hits(ca, tiles, tiles, each, each, radius**2)
    for center, neighbor in _tile_pairs(torch.stack([each + 1, tiles.ptr[tiles.protein + 1]])):
        near = _below(_box_distance(tiles, tiles, center, neighbor), radius**2)
        chosen = center.index_select(0, near), neighbor.index_select(0, near)
        for hits in _hits(ca, tiles, tiles, *chosen, radius**2):
            yield hits
            yield Hits(hits.neighbor, hits.center, hits.squared)


def pairs_within_bounds(ca: Tensor, centers: Tiles, tiles: Tiles, bound: Tensor) -> Iterator[Hits]:
    """Pairs whose squared distance is less than a bound of the centre's own.

    Args:
        ca: float32 [N, 3], the CA atoms of the batch, in angstrom.
        centers: residues to search around.
        tiles: all residues of the batch.
        bound: float32 [N], in square angstrom; counts at the centres.
    """
    farthest = bound.index_select(0, centers.rows.flatten()).view(-1, _TILE).amax(dim=1)
    owners = torch.stack([tiles.ptr[centers.protein], tiles.ptr[centers.protein + 1]])
    for center, neighbor in _tile_pairs(owners):
        near = _below(_box_distance(centers, tiles, center, neighbor), farthest.index_select(0, center))
        yield from _hits(ca, centers, tiles, center[near], neighbor[near], bound)


def _bound_of_nearest(batch: ProteinBatch, rows: Tensor, k: int) -> Tensor:
    """An exclusive bound on the squared distance of the ``k``-th nearest, float32 [N]; 0 off ``rows``.

    It is the k-th smallest distance among residues next to one another along the chain.
    """
    ca, protein = batch.ca.float(), batch.protein_index.index_select(0, rows)
    first, end = batch.ptr[protein], batch.ptr[protein + 1]
    start = torch.maximum(torch.minimum(rows - k, end - 2 * k - 1), first)
    window = start + torch.arange(2 * k + 1, device=rows.device).unsqueeze(1)
    place = ca.index_select(0, window.clamp(max=max(len(ca) - 1, 0)).flatten()).view(*window.shape, 3)
    squared = (place - ca.index_select(0, rows)).square_().sum(dim=-1)
    kth = squared.masked_fill_(window >= end, torch.inf).sort(dim=0).values[k]
    # Room for the order of the sum.
    return ca.new_zeros(len(ca)).index_copy_(0, rows, kth * (1 + 1e-5) + 1e-30)


def _table(batch: ProteinBatch, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``Tiles.rows``, bool [T, 16, 1] where they are empty, ``Tiles.protein`` and ``Tiles.ptr``."""
    protein, lengths = batch.protein_index, batch.lengths
    if rows is None:
        rows = torch.arange(batch.num_residues, device=protein.device)
    else:
        protein = protein.index_select(0, rows)
        lengths = protein.bincount(minlength=len(batch))
    num_tiles = (lengths + _TILE - 1) // _TILE
    ptr = torch.cat([num_tiles.new_zeros(1), num_tiles.cumsum(0)])
    # Empty places at the ends of the proteins before shift a residue.
    shift = ptr[:-1] * _TILE - (lengths.cumsum(0) - lengths)
    place = torch.arange(len(rows), device=rows.device) + shift.index_select(0, protein)
    table = rows.new_full((int(ptr[-1]) * _TILE,), -1).index_copy_(0, place, rows).view(-1, _TILE)
    empty = (table < 0).unsqueeze(-1)
    number = torch.arange(len(batch), device=rows.device).repeat_interleave(num_tiles)
    return table.clamp_(min=0), empty, number, ptr


def _tile_pairs(ranges: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Tile t with each of the tiles ``ranges[0, t]:ranges[1, t]``, int64 [P] and [P]."""
    count = ranges[1] - ranges[0]
    total = count.cumsum(0)
    limits = torch.arange(1, 1 + int(total[-1:].sum()) // _MAX_BOXES, device=total.device) * _MAX_BOXES
    cuts = sorted({0, *torch.searchsorted(total, limits).tolist(), len(total)})
    for low, high in itertools.pairwise(cuts):
        part = count[low:high]
        local = torch.arange(high - low, device=total.device).repeat_interleave(part)
        shift = ranges[0, low:high] - (part.cumsum(0) - part)
        yield local + low, torch.arange(len(local), device=total.device) + shift.index_select(0, local)


def _box_distance(centers: Tiles, neighbors: Tiles, center: Tensor, neighbor: Tensor) -> Tensor:
    """Squared distances of boxes, float32 [P].

    Rounding is monotonic: no two residues are measured closer than their boxes are.
    """
    before = neighbors.low.index_select(0, neighbor) - centers.high.index_select(0, center)
    after = centers.low.index_select(0, center) - neighbors.high.index_select(0, neighbor)
    x, y, z = torch.maximum(before, after).clamp_(min=0).square_().unbind(dim=1)
    return (x + y).add_(z)


def _hits(
    ca: Tensor, centers: Tiles, neighbors: Tiles, center: Tensor, neighbor: Tensor, bound: _Bound
) -> Iterator[Hits]:
    """Pairs of residues of some pairs of tiles, below one bound or one of each centre, [N].

    The products of ``left`` and ``right`` find them and a few more, which are then measured.
    """
    device = ca.device.type
    size = max(1, _MAX_DISTANCES.get(device, _MAX_DISTANCES_ON_ACCELERATORS) // _TILE**2)
    axes, loose = tuple(axis.contiguous() for axis in ca.unbind(dim=1)), bound + neighbors.slack()
    for i, j in zip(torch.split(center, size), torch.split(neighbor, size), strict=True):
        own, others = centers.rows.index_select(0, i), neighbors.rows.index_select(0, j)
        left, right = centers.left.index_select(0, i), neighbors.right.index_select(0, j)
        limit = loose[own].unsqueeze(2) if isinstance(loose, Tensor) else loose
        yield _search(axes, own, others, (left, right, limit), bound)


def _search(axes: _Axes, own: Tensor, others: Tensor, products: _Products, bound: _Bound) -> Hits:
    found = _found(products)
    row, other = own.view(-1)[found >> 4], others.view(-1)[((found >> 4) & -_TILE) | (found & (_TILE - 1))]
    x, y, z = ((axis[row] - axis[other]).square_() for axis in axes)
    squared = x.add_(y).add_(z)
    kept = _below(squared, bound[row] if isinstance(bound, Tensor) else bound)
    return Hits(row[kept], other[kept], squared[kept])


def _found(products: _Products) -> Tensor:
    """Positions of the pairs of residues whose product is below the limit."""
    left, right, limit = products
    with torch.autocast(left.device.type, enabled=False):
        return _below(left @ right, limit)


def _below(values: Tensor, bound: _Bound) -> Tensor:
    """Flat positions of the values below a bound, ascending."""
    return (values < bound).flatten().nonzero().flatten()
