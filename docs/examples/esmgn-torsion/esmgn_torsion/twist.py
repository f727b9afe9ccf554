"""Rotations of backbone torsions."""

import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch


def twisted(batch: ProteinBatch, angles: Tensor) -> Tensor:
    """Backbones float32 [N, 4, 3] after turning phi and psi by ``angles`` float [N, 2], in radians.

    A turn of phi moves the atoms behind CA, a turn of psi those behind C, and all later residues of the
    chain. The turns are composed along each chain by a scan.
    """
    nitrogen, alpha, carbon = (batch.backbone[:, atom].double() for atom in range(3))
    turns = torch.stack([turn(nitrogen, alpha, angles[:, 0]), turn(alpha, carbon, angles[:, 1])], dim=1)
    ptr = batch.sequence_ptr()
    start = ptr[:-1].repeat_interleave(ptr.diff(), output_size=batch.num_residues)
    place = torch.arange(batch.num_residues, device=ptr.device) - start
    place = torch.stack([2 * place, 2 * place + 1], dim=1).flatten()
    total, step = turns.flatten(0, 1), 1
    while step <= int(place.max()):
        earlier = total.roll(step, 0)
        total = torch.where((place >= step)[:, None, None], earlier @ total, total)
        step *= 2
    after = total.view(-1, 2, 4, 4)
    before = after[:, 1].roll(1, 0)
    before[ptr[:-1]] = torch.eye(4, dtype=total.dtype, device=total.device)
    # N and CA move with the residue before, C with phi too, O with psi as well.
    moves = torch.stack([before, before, after[:, 0], after[:, 1]], dim=1)
    atoms = torch.cat([batch.backbone.double(), torch.ones_like(batch.backbone[..., :1])], dim=-1)
    return (moves @ atoms.unsqueeze(-1)).squeeze(-1)[..., :3].to(batch.backbone.dtype)


def turn(start: Tensor, end: Tensor, angle: Tensor) -> Tensor:
    """Rotations by ``angle`` [N] about the lines from ``start`` to ``end`` [N, 3], as matrices [N, 4, 4]."""
    axis = torch.nn.functional.normalize((end - start).nan_to_num(), dim=1)
    zero = torch.zeros_like(axis[:, 0])
    x, y, z = axis.unbind(1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    rotation = torch.linalg.matrix_exp(cross * angle.double()[:, None, None])
    matrix = torch.eye(4, dtype=axis.dtype, device=axis.device).repeat(len(axis), 1, 1)
    matrix[:, :3, :3] = rotation
    end = end.nan_to_num()
    matrix[:, :3, 3] = end - (rotation @ end.unsqueeze(-1)).squeeze(-1)
    return matrix
