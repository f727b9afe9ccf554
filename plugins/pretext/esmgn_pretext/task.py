"""Base classes of the tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from esmgn_pretext.settings import CroppedTaskSettings


class CroppedTask(nn.Module):
    """A task that crops every protein before it draws edges.

    Attributes:
        max_residues: residues of a protein that the encoder sees at most; ``None`` for whole proteins.
    """

    settings: CroppedTaskSettings

    def __init__(self, settings: CroppedTaskSettings) -> None:
        super().__init__()
        self.settings = settings
        self.max_residues = settings.crop_length or None

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """Which proteins of these lengths, int64 [B], the encoder reads whole and as they are, bool [B]."""
        if self.max_residues is None:
            return torch.ones_like(lengths, dtype=torch.bool)
        return lengths <= self.max_residues


class MaskedTask(CroppedTask):
    """A task that masks residues of every protein."""

    predicts_residues = True

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """No protein's sequence is left as it is, bool [B]."""
        return torch.zeros_like(lengths, dtype=torch.bool)
