"""Parallel fusion: both encoders read the protein independently."""

from __future__ import annotations

from torch import nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import SequenceEncoder, StructureEncoder
from esmgn_core.settings import ComponentSettings
from esmgn_fusion.joined import Joined, JointReadout


class ParallelFuser(nn.Module):
    """Concatenated output of a sequence encoder and a structure encoder on one-hot residue types.

    Source: arXiv 2303.06275, section 3.3.
    """

    class Settings(ComponentSettings):
        readout: JointReadout = "encoders"
        """Representation of a protein: ``encoders`` concatenates the proteins of both encoders; the others
        pool the concatenated residues."""

    def __init__(self, settings: Settings, *, sequence_dim: int, structure_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = sequence_dim + structure_dim
        self.joined = Joined(settings.readout, self.output_dim)

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:  # noqa: ARG003 - the contract's argument
        """The structure encoder reads one-hot residue types."""
        return NUM_RESIDUE_FEATURES

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: SequenceEncoder,
        structure: StructureEncoder,
    ) -> Encoding:
        """The joint encoding, [N, output_dim] and [B, output_dim]."""
        second = structure(batch, graph, batch.residue_one_hot)
        encoding: Encoding = self.joined(batch, sequence(batch), second)
        return encoding
