"""Serial fusion: the structure encoder reads the sequence encoder's output."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator
from torch import nn

from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import SequenceEncoder, StructureEncoder
from esmgn_core.settings import ComponentSettings
from esmgn_fusion.joined import Joined, JointReadout


class SerialFuser(nn.Module):
    """Sequence encoder -> structure encoder, with concatenated output.

    With the sequence encoding s and the structure encoding g, residue i is [s_i, g_i] and the protein is
    [s, g]. The sequence encoder pools by mean and GearNet by sum; neither is rescaled.

    Source: arXiv 2303.06275, section 3.3. The published code and weights concatenate, while the paper's
    figure shows the output of the structure encoder alone.
    """

    class Settings(ComponentSettings):
        output: Literal["both", "structure"] = "both"
        """``both`` (the published weights need it), or ``structure`` (as in the paper's figure)."""
        readout: JointReadout = "encoders"
        """Representation of a protein: ``encoders`` concatenates the proteins of both encoders; the others
        pool the concatenated residues."""

        @model_validator(mode="after")
        def _readout_of_what(self) -> Self:
            if self.output == "structure" and self.readout != "encoders":
                raise ValueError(
                    "readout must be encoders if output is structure; set struct.readout instead"
                )
            return self

    def __init__(self, settings: Settings, *, sequence_dim: int, structure_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = structure_dim + (sequence_dim if settings.output == "both" else 0)
        self.joined = Joined(settings.readout, self.output_dim)

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:
        """The structure encoder reads sequence representations."""
        return sequence_dim

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: SequenceEncoder,
        structure: StructureEncoder,
    ) -> Encoding:
        """The joint encoding, [N, output_dim] and [B, output_dim]."""
        first = sequence(batch)
        second = structure(batch, graph, first.residue)
        if self.settings.output == "structure":
            return second
        encoding: Encoding = self.joined(batch, first, second)
        return encoding
