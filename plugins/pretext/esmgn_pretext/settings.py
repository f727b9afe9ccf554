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
    """Settings of a task that crops every protein before edges are built."""

    crop_length: int = Field(100, ge=0)
    """Length of the random window of each protein that a step uses; 0 for whole proteins."""
    head_layers: int = Field(2, ge=1)
    """Linear layers of the prediction head; hidden layers are as wide as the encoder's output."""
    reference: bool = False
    """Reproduce the original code where it differs: it never draws the last window of a protein, predicts
    unknown residues as glycine, and encodes residues masked as glycine by a one-hot of zeros."""
    plddt: Confidence = Confidence()
    """Handling of residues of low confidence in predicted structures."""

    def residue_graph(self, batch: ProteinBatch, build_graph: GraphBuilder) -> ResidueGraph:
        """The residue graph, without edges of uncertain residues if ``plddt.drop_edges`` is set."""
        return self.plddt.certain_edges(batch, build_graph(batch))

    def crop(self, batch: ProteinBatch, draws: Draws) -> ProteinBatch:
        """The batch cut to a random window of each protein."""
        if not self.crop_length:
            return batch
        return random_crop(batch, self.crop_length, draws, skip_last_start=self.reference)
