"""Pool the residues of a protein: sum, mean, or learned attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch

Readout = Literal["sum", "mean", "attention"]
"""How residues are pooled into a protein; ``attention`` has a learned weight."""


class ProteinReadout(nn.Module):
    r"""Pools residue representations into protein representations.

    ``sum``, ``mean``, or ``attention``, a mean with learned weights:

    .. math::
        g = \sum_i \alpha_i x_i, \qquad \alpha = \mathrm{softmax}_i(w^\top x_i)

    over the residues of a protein. Only ``attention`` has a parameter, ``score.weight``. The result for a
    protein without residues is zero.

    Shapes: residue float [N, D] -> protein float [B, D].

    Source: Li et al. 2016 (arXiv 1511.05493), equation 7, with a linear score.
    """

    def __init__(self, readout: Readout, width: int) -> None:
        super().__init__()
        self.readout = readout
        if readout == "attention":
            # No bias: softmax would cancel it.
            self.score = nn.Linear(width, 1, bias=False)

    def forward(self, residue: Tensor, batch: ProteinBatch) -> Encoding:
        """The encoding with the residues [N, D] and the pooled proteins [B, D]."""
        if self.readout != "attention":
            return Encoding.from_residues(residue, batch, self.readout)
        share = self._shares(self.score(residue).squeeze(1).float(), batch)
        weighted = Encoding.from_residues(residue * share.unsqueeze(1).to(residue.dtype), batch, "sum")
        return Encoding(residue, weighted.protein)

    @staticmethod
    def _shares(score: Tensor, batch: ProteinBatch) -> Tensor:
        """Softmax of the scores [N] within each protein."""
        # Subtracting the largest score of each protein keeps the exponentials finite.
        owner = batch.protein_index
        lowest = score.new_full((len(batch),), -torch.inf)
        highest = lowest.scatter_reduce(0, owner, score.detach(), "amax")
        raised = (score - highest[owner]).exp()
        return raised / raised.new_zeros(len(batch)).index_add(0, owner, raised)[owner]
