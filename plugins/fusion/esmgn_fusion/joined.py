"""Concatenation of two encodings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.readout import ProteinReadout

JointReadout = Literal["encoders", "sum", "mean", "attention"]
"""``encoders``: the concatenated proteins of both encoders; else a readout of the concatenated residues."""


class Joined(nn.Module):
    """Concatenates two encodings of one batch to [N, D1 + D2] and [B, D1 + D2], without rescaling."""

    def __init__(self, readout: JointReadout, width: int) -> None:
        super().__init__()
        self.readout = None if readout == "encoders" else ProteinReadout(readout, width)

    def forward(self, batch: ProteinBatch, sequence: Encoding, structure: Encoding) -> Encoding:
        """The concatenated encoding."""
        residue = torch.cat([sequence.residue, structure.residue], dim=1)
        if self.readout is None:
            return Encoding(residue, torch.cat([sequence.protein, structure.protein], dim=1))
        encoding: Encoding = self.readout(residue, batch)
        return encoding
