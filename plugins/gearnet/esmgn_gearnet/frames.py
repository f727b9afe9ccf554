"""Local frames of residues, and features of pairs of residues in these frames."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from esmgn_core.batch import ProteinBatch

NUM_FEATURES = 14
_SCALE_OF_SEPARATION = 6.0


def local_frames(batch: ProteinBatch, *, packed: bool = False) -> Tensor:
    r"""A right-handed frame at each residue, from three consecutive CA atoms.

    .. math::
        u_i = \frac{x_i - x_{i-1}}{\lVert x_i - x_{i-1} \rVert}, \quad
        b_i = \frac{u_i - u_{i+1}}{\lVert u_i - u_{i+1} \rVert}, \quad
        n_i = \frac{u_i \times u_{i+1}}{\lVert u_i \times u_{i+1} \rVert}, \quad
        F_i = [b_i, n_i, b_i \times n_i]

    Args:
        batch: N residues.
        packed: treat the whole batch as one chain, as the original does. The :math:`u` before its first and
            after its last residue is the unit vector along (1, 1, 1). If False, the residues at both ends
            of a chain have the frames of their neighbours. Chains of fewer than three residues have frames
            of zeros, because a frame needs three points.

    Returns:
        float32 [N, 3, 3], the three axes in rows.

    Source: Hermosilla et al. 2021 (arXiv 2007.06252), section 4.1, as the original code has it.
    """
    ca = batch.ca.float()
    if packed:
        fill = torch.full((1, 3), 3**-0.5, device=ca.device)
        step = torch.cat([fill, functional.normalize(ca.diff(dim=0), dim=1), fill])[: len(ca) + 1]
        return _axes(step[:-1], step[1:])
    step = functional.normalize(ca.diff(dim=0, prepend=ca[:1]), dim=1)
    following = torch.cat([step[1:], step[:1]])
    frames = _axes(step, following)
    row = torch.arange(len(ca), device=ca.device)
    first, end = _chain_bounds(batch)
    inner = torch.minimum(torch.maximum(row, first + 1), end - 2).clamp(min=0)
    return frames[inner].masked_fill((end - first < 3)[:, None, None], 0.0)


def _chain_bounds(batch: ProteinBatch) -> tuple[Tensor, Tensor]:
    """First row of each residue's chain, and the row after its last, int64 [N] each."""
    label = torch.stack([batch.protein_index, batch.chain_index], dim=1)
    length = torch.unique_consecutive(label, dim=0, return_counts=True)[1]
    end = length.cumsum(0)
    return (end - length).repeat_interleave(length), end.repeat_interleave(length)


def _axes(step: Tensor, following: Tensor) -> Tensor:
    bisector = functional.normalize(step - following, dim=1)
    normal = functional.normalize(torch.linalg.cross(step, following, dim=1), dim=1)
    return torch.stack([bisector, normal, torch.linalg.cross(bisector, normal, dim=1)], dim=1)


def pair_features(batch: ProteinBatch, frames: Tensor, edge_index: Tensor) -> Tensor:
    r"""Position and orientation of the target of each edge in the frame of its source.

    .. math::
        f = [t, r, \delta], \quad t = F_j (x_i - x_j), \quad r_k = F_{j,k} \cdot F_{i,k}, \quad
        \delta = |i - j| / 6

    for an edge j -> i. The features are [f, 1 - 2|f|].

    Args:
        batch: N residues.
        frames: float [N, 3, 3], axes in rows.
        edge_index: int64 [2, E].

    Returns:
        float32 [E, 14]; t in angstrom.
    """
    source, target = edge_index
    ca = batch.ca.float()
    offset = (frames[source] @ (ca[target] - ca[source]).unsqueeze(2)).squeeze(2)
    turn = (frames[source] * frames[target]).sum(dim=2)
    separation = (target - source).abs().unsqueeze(1) / _SCALE_OF_SEPARATION
    features = torch.cat([offset, turn, separation], dim=1)
    return torch.cat([features, 1 - 2 * features.abs()], dim=1)
