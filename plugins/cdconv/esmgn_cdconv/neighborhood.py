"""Edges between close points at one level of CDConv, and their geometry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from esmgn_cdconv.level import Level
from esmgn_core.neighbors import find_neighbors

NUM_GEOMETRY_FEATURES = 7

_SLOTS_PER_CHUNK = 32_768


@dataclass(frozen=True, slots=True, eq=False)
class Neighborhood:
    """Directed edges between close points, including one from each point to itself.

    Edges are sorted by sequence offset, because each offset has separate weights.

    Attributes:
        source: int64 [E].
        target: int64 [E].
        geometry: float32 [E, 7]: direction from target to source in the target's frame, scalar products of
            corresponding axes of both frames, and the distance in angstrom.
        smoothing: float32 [E, 1], near 1 except for pairs far apart in space and sequence.
        num_edges: number of edges of each sequence offset, in order.
        slots: the edges of each target, in chunks of c consecutive targets: int64 [c, D], where D is the
            largest number of edges of a target in the chunk. Empty slots are E.
    """

    source: Tensor
    target: Tensor
    geometry: Tensor
    smoothing: Tensor
    num_edges: list[int]
    slots: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, level: Level, *, radius: float, max_offset: int) -> Self:
        r"""Search for points of one protein closer than ``radius`` angstrom, on the CPU and without a cap.

        With distance d and offset :math:`\Delta` of residue numbers, source less target, clamped to
        -m ... m, m = ``max_offset``:

        .. math::
            \mathrm{smoothing} = \tfrac12 - \tfrac12 \tanh(16 \cdot d/r \cdot |\Delta|/m - 14)
        """
        points = level.points
        source, target = _edges(level, radius)
        offset = (points.residue_index[source] - points.residue_index[target]).clamp(-max_offset, max_offset)
        offset, order = offset.sort(stable=True)
        source, target = source[order], target[order]
        geometry = _geometry(level, source, target)
        share = geometry[:, -1:] / radius * offset.abs().unsqueeze(1) / max(max_offset, 1)
        return cls(
            source=source,
            target=target,
            geometry=geometry,
            smoothing=0.5 - 0.5 * torch.tanh(16 * share - 14),
            num_edges=(offset + max_offset).bincount(minlength=2 * max_offset + 1).tolist(),
            slots=_slots(target, points.num_residues),
        )


def _edges(level: Level, radius: float) -> Tensor:
    """Source and target of all edges, int64 [2, E]."""
    points = level.points
    loops = torch.arange(points.num_residues, device=points.ptr.device).expand(2, -1)
    return torch.cat([loops, find_neighbors(points, radius).close], dim=1)


def _geometry(level: Level, source: Tensor, target: Tensor) -> Tensor:
    ca, frames = level.points.ca.float(), level.frames
    vector = ca[source] - ca[target]
    distance = vector.norm(dim=1, keepdim=True)
    direction = vector / distance.clamp(min=1e-9)
    axes = frames[target]
    seen = (axes * direction.unsqueeze(1)).sum(dim=-1)
    return torch.cat([seen, (axes * frames[source]).sum(dim=-1), distance], dim=1)


def _slots(target: Tensor, num_points: int) -> list[Tensor]:
    """See ``Neighborhood.slots``. A chunk has at most 32,768 entries if it has more than one target."""
    num_edges = len(target)
    by_target = target.argsort(stable=True)
    degree = target.bincount(minlength=num_points)
    start = degree.cumsum(0) - degree
    target = target[by_target]
    position = torch.arange(num_edges, device=target.device) - start[target]
    degrees, starts = degree.tolist(), [*start.tolist(), num_edges]
    slots = []
    for first, end in _chunks(degrees):
        table = target.new_full((end - first, max(degrees[first:end])), num_edges)
        edges = slice(starts[first], starts[end])
        table[target[edges] - first, position[edges]] = by_target[edges]
        slots.append(table)
    return slots


def _chunks(degrees: list[int]) -> list[tuple[int, int]]:
    """First and end of runs of targets whose tables are within the limit; at least one target each."""
    chunks: list[tuple[int, int]] = []
    first = widest = 0
    for row, degree in enumerate(degrees):
        if row > first and max(widest, degree) * (row + 1 - first) > _SLOTS_PER_CHUNK:
            chunks.append((first, row))
            first, widest = row, 0
        widest = max(widest, degree)
    return [*chunks, (first, len(degrees))] if degrees else []
