"""Two encodings side by side."""

from __future__ import annotations

import torch

from esmgn_core.batch import Encoding


def joined(sequence: Encoding, structure: Encoding) -> Encoding:
    """[N, D1 + D2] and [B, D1 + D2] from two encodings of one batch, neither rescaled."""
    return Encoding(
        torch.cat([sequence.residue, structure.residue], dim=1),
        torch.cat([sequence.protein, structure.protein], dim=1),
    )
