"""Base classes of tasks that crop or mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from esmgn_pretext.settings import CroppedTaskSettings


class CroppedTask(nn.Module):
    """A task that crops every protein before edges are built.

    Attributes:
        max_residues: largest number of residues of a protein that the encoder sees; ``None`` for no limit.
    """

    settings: CroppedTaskSettings

    def __init__(self, settings: CroppedTaskSettings) -> None:
        super().__init__()
        self.settings = settings
        self.max_residues = settings.crop_length or None

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """Mask of the lengths, int64 [B], whose proteins the encoder reads whole and unmasked, bool [B]."""
        if self.max_residues is None:
            return torch.ones_like(lengths, dtype=torch.bool)
        return lengths <= self.max_residues


class MaskedTask(CroppedTask):
    """A task that masks residues of every protein."""

    predicts_residues = True

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """All False, bool [B]: every sequence is masked."""
        return torch.zeros_like(lengths, dtype=torch.bool)
