"""Points of a protein, with numbers and orientations, at the levels of CDConv."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from esmgn_core.batch import ProteinBatch

_MIN_BEND = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """The points of one level: residues, then averages of two residues, of four, and so on.

    Attributes:
        points: M points packed from B proteins; ``ca`` and ``residue_index`` are those of the points.
        frames: float32 [M, 3, 3], the axes of each point in rows; zero in proteins of fewer than three
            residues, which have no orientation.
    """

    points: ProteinBatch
    frames: Tensor

    @classmethod
    def of(cls, batch: ProteinBatch) -> Self:
        """The first level: the residues themselves."""
        return cls(batch, orientation_frames(batch))

    def pooled(self) -> tuple[Self, Pairs]:
        """The next level, and the pairs that became its points.

        Positions and axes are averaged, and axes are normalised. The number of a point is that of the first
        of its pair, halved and rounded down.
        """
        pairs = Pairs.of(self.points)
        place = pairs.mean(self.points.ca)
        first = self.points.select(pairs.is_first)
        points = first.replace(
            backbone=place.unsqueeze(1).expand(-1, 4, -1),
            residue_index=first.residue_index.div(2, rounding_mode="floor"),
        )
        return type(self)(points, normalize(pairs.mean(self.frames), dim=-1)), pairs


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of consecutive points of a protein. The last of an odd number is paired with itself.

    Attributes:
        is_first: bool [M].
        first: int64 [P].
        second: int64 [P].
    """

    is_first: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, points: ProteinBatch) -> Self:
        """The pairs of every protein, in order."""
        protein = points.protein_index
        row = torch.arange(points.num_residues, device=protein.device)
        is_first = (row - points.ptr[protein]) % 2 == 0
        first = row[is_first]
        return cls(is_first, first, torch.minimum(first + 1, points.ptr[protein[first] + 1] - 1))

    def mean(self, values: Tensor) -> Tensor:
        """[P, ...] from [M, ...]."""
        return (values.index_select(0, self.first) + values.index_select(0, self.second)) / 2


def orientation_frames(batch: ProteinBatch) -> Tensor:
    r"""Axes of each residue's orientation, from three consecutive CA atoms.

    .. math::
        u_i = \frac{x_{i+1} - x_i}{\lVert x_{i+1} - x_i \rVert}, \quad
        b_i = \frac{u_{i-1} - u_i}{\lVert u_{i-1} - u_i \rVert}, \quad
        n_i = \frac{u_{i-1} \times u_i}{\lVert u_{i-1} \times u_i \rVert}, \quad
        o_i = b_i \times n_i

    The first and last residue have the frames of their neighbours. All chains of a protein are treated as
    one sequence. The axes are zero if three atoms are in a line (within 0.06 degrees), because they would
    depend on rounding errors only, and in proteins of one or two residues.

    Returns:
        float32 [N, 3, 3], rows b, n, o.

    Source: Ingraham et al. 2019, section 2.1, as used by Fan et al. 2023 (ICLR), section 3.2.
    """
    protein, num_residues = batch.protein_index, batch.num_residues
    start, length = batch.ptr[protein], batch.lengths[protein]
    row = torch.arange(num_residues, device=protein.device)
    inner = torch.minimum((row - start).clamp(min=1), length - 2)
    center = torch.where(length >= 3, start + inner, row)
    ca = batch.ca.float()
    here, before = ca[center], ca[(center - 1).clamp(min=0)]
    after = ca[(center + 1).clamp(max=num_residues - 1)]
    incoming, outgoing = normalize(here - before, dim=-1), normalize(after - here, dim=-1)
    across = torch.linalg.cross(incoming, outgoing)
    bent = (length >= 3) & (across.square().sum(dim=-1) > _MIN_BEND**2)
    b, n = normalize(incoming - outgoing, dim=-1), normalize(across, dim=-1)
    axes = torch.stack([b, n, torch.linalg.cross(b, n)], dim=1)
    return axes.masked_fill(~bent[:, None, None], 0.0)
