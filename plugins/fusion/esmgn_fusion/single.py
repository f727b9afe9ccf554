"""A single encoder in the place of two: the baselines of a fusion."""

from __future__ import annotations

from typing import Literal

from torch import nn

from esmgn_core.alphabet import NUM_RESIDUE_FEATURES
from esmgn_core.batch import Encoding, ProteinBatch
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import SequenceEncoder, StructureEncoder
from esmgn_core.readout import ProteinReadout
from esmgn_core.settings import ComponentSettings

SingleReadout = Literal["encoder", "sum", "mean", "attention"]
"""``encoder``: the protein representation of the encoder; else a readout of its residues."""


class SingleEncoder(nn.Module):
    """Base of fusers that return the output of one encoder.

    Args:
        settings: how proteins are represented.
        width: width of the encoder.
    """

    class Settings(ComponentSettings):
        readout: SingleReadout = "encoder"
        """Representation of a protein: ``encoder`` is that of the encoder, the others pool its residues."""

    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.output_dim = width
        self.readout = None if settings.readout == "encoder" else ProteinReadout(settings.readout, width)

    @classmethod
    def structure_input_dim(cls, sequence_dim: int) -> int:  # noqa: ARG003 - the contract's argument
        """A structure encoder reads one-hot residue types."""
        return NUM_RESIDUE_FEATURES

    def pooled(self, encoding: Encoding, batch: ProteinBatch) -> Encoding:
        """The encoding with the protein representation of the setting ``readout``."""
        if self.readout is None:
            return encoding
        result: Encoding = self.readout(encoding.residue, batch)
        return result


class SequenceFuser(SingleEncoder):
    """The sequence encoder alone, such as the row ESM-2 of arXiv 2303.06275, table 1."""

    def __init__(
        self,
        settings: SingleEncoder.Settings,
        *,
        sequence_dim: int,
        structure_dim: int,  # noqa: ARG002 - the contract's argument, 0 here
    ) -> None:
        super().__init__(settings, sequence_dim)

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,  # noqa: ARG002 - the contract's argument
        sequence: SequenceEncoder,
        structure: StructureEncoder,  # noqa: ARG002 - the contract's argument
    ) -> Encoding:
        """The encoding of the sequence encoder, [N, output_dim] and [B, output_dim]."""
        return self.pooled(sequence(batch), batch)


class StructureFuser(SingleEncoder):
    """The structure encoder alone, on one-hot residue types, such as the row GearNet of table 1."""

    def __init__(
        self,
        settings: SingleEncoder.Settings,
        *,
        sequence_dim: int,  # noqa: ARG002 - the contract's argument, 0 here
        structure_dim: int,
    ) -> None:
        super().__init__(settings, structure_dim)

    def forward(
        self,
        batch: ProteinBatch,
        graph: ResidueGraph,
        sequence: SequenceEncoder,  # noqa: ARG002 - the contract's argument
        structure: StructureEncoder,
    ) -> Encoding:
        """The encoding of the structure encoder, [N, output_dim] and [B, output_dim]."""
        return self.pooled(structure(batch, graph, batch.residue_one_hot), batch)
