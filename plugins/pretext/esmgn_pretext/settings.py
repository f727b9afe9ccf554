"""Settings that pretext tasks share."""

from __future__ import annotations

from pydantic import Field

from esmgn_core.batch import ProteinBatch
from esmgn_core.crop import random_crop
from esmgn_core.draws import Draws
from esmgn_core.graph import ResidueGraph
from esmgn_core.protocols import GraphBuilder
from esmgn_core.settings import ComponentSettings
from esmgn_pretext.confidence import Confidence


class CroppedTaskSettings(ComponentSettings):
    """Settings of a task that crops every protein before it draws edges."""

    crop_length: int = Field(100, ge=0)
    """Each step sees a random window of this many residues of each protein; 0 for whole proteins."""
    head_layers: int = Field(2, ge=1)
    """Linear layers of the prediction head; hidden layers are as wide as the encoder's output."""
    reference: bool = False
    """Do what the original code did where it differs: the last window of a protein is never drawn, unknown
    residues are glycine as a target, and residues masked as glycine have a one-hot of zeros."""
    plddt: Confidence = Confidence()
    """What to do about residues of predicted structures that the predictor was unsure of."""

    def residue_graph(self, batch: ProteinBatch, build_graph: GraphBuilder) -> ResidueGraph:
        """The residue graph, without the edges of uncertain residues where they are to be dropped."""
        return self.plddt.certain_edges(batch, build_graph(batch))

    def crop(self, batch: ProteinBatch, draws: Draws) -> ProteinBatch:
        """The batch cut to random windows. The original never drew the last possible window."""
        if not self.crop_length:
            return batch
        return random_crop(batch, self.crop_length, draws, skip_last_start=self.reference)
