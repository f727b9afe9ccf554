"""Crop proteins to windows of consecutive residues."""

from __future__ import annotations

import torch
from torch import Tensor

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import Draws, uniform_index


def random_windows(
    lengths: Tensor, max_length: int, draws: Draws, *, skip_last_start: bool = False
) -> Tensor:
    """Draw the first residue of a random window in each protein.

    Args:
        lengths: int64 [B], residues of each protein.
        max_length: residues in a window. A shorter protein is a window itself.
        draws: source of random numbers. Every protein takes one, cropped or not.
        skip_last_start: never draw the last start, like the original code. The last residue of a cropped
            protein is then never used.

    Returns:
        int64 [B], on the device of ``lengths``.
    """
    starts = (lengths - max_length + (0 if skip_last_start else 1)).clamp(min=1)
    return uniform_index(draws, torch.ones_like(lengths), starts).to(lengths.device)


def window_mask(batch: ProteinBatch, starts: Tensor, max_length: int) -> Tensor:
    """Mask bool [N], True for the residues ``starts[b] <= i < starts[b] + max_length`` of protein b."""
    protein = batch.protein_index
    position = torch.arange(batch.num_residues, device=protein.device) - batch.ptr[protein]
    offset = position - starts[protein]
    return (offset >= 0) & (offset < max_length)


def random_crop(
    batch: ProteinBatch, max_length: int, draws: Draws, *, skip_last_start: bool = False
) -> ProteinBatch:
    """Crop every protein to a random window of at most ``max_length`` residues."""
    starts = random_windows(batch.lengths, max_length, draws, skip_last_start=skip_last_start)
    if bool((batch.lengths <= max_length).all()):
        return batch
    return batch.select(window_mask(batch, starts, max_length))
