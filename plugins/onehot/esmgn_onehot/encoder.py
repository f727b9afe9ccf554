"""One-hot residue types as a sequence encoder."""

from __future__ import annotations

from torch import nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.batch import Encoding, ProteinBatch, Readout
from esmgn_core.settings import ComponentSettings


class OneHot(nn.Module):
    """One-hot residue types: 20 amino acids and unknown. A masked residue is all zeros.

    With serial fusion and ``fuse.output = "structure"`` the model is the structure encoder alone, on
    the 21 features that the study uses without a language model.

    Shapes: residue [N, 21], protein [B, 21].
    """

    class Settings(ComponentSettings):
        readout: Readout = "mean"
        """Pooling of residues into a protein."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = NUM_RESIDUE_FEATURES

    def forward(self, batch: ProteinBatch) -> Encoding:
        """One-hot residue types, and their mean or sum over each protein."""
        return Encoding.from_residues(batch.residue_one_hot, batch, self.settings.readout)
