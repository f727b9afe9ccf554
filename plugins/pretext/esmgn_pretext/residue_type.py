"""Residue type prediction: the types of masked residues, from sequence context and structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from esmgn_core.alphabet import AMINO_ACIDS, MASKED, UNKNOWN
from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.confidence import left_out, means
from esmgn_pretext.edges import draw_from_each, share_of
from esmgn_pretext.heads import MLP
from esmgn_pretext.settings import CroppedTaskSettings
from esmgn_pretext.task import MaskedTask


class ResidueType(MaskedTask):
    """Cross-entropy of the types of masked residues.

    In every protein max(1, floor(mask_rate * n)) residues are drawn with replacement and masked. Edges and
    coordinates stay. A residue drawn twice counts twice in the loss, so a rate of 15 % masks about 13.9 % of
    the residues. Unknown residues are masked but not predicted.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2203.06125), section 4.2.
    """

    reads_graph = False

    class Settings(CroppedTaskSettings):
        mask_rate: float = Field(0.15, gt=0, le=1)
        """Share of residues drawn in each protein."""

    settings: Settings

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__(settings)
        self.head = MLP(encoder_dim, encoder_dim, len(AMINO_ACIDS), settings.head_layers)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view with masked residues; targets ``residue`` int64 [M] and ``residue_type`` int64 [M]."""
        batch = self.settings.crop(batch, draws)
        counts = share_of(batch.lengths.cpu(), self.settings.mask_rate)
        residue = draw_from_each(draws, batch.ptr, counts)
        return (self.masked_view(batch, build_graph, residue),)

    def masked_view(self, batch: ProteinBatch, build_graph: GraphBuilder, residue: Tensor) -> View:
        """The view in which the residues ``residue`` (int64 [M], rows of the batch) are masked."""
        masked = batch.replace(residue_type=batch.residue_type.index_fill(0, residue, MASKED))
        targets = {
            "residue": residue,
            "residue_type": batch.residue_type[residue],
            **self.settings.plddt.targets(batch, residue),
        }
        return View(masked, self.settings.residue_graph(masked, build_graph), targets)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Mean cross-entropy over the drawn residues, and the accuracy."""
        (view,), (encoding,) = views, encodings
        target = view.targets["residue_type"]
        if self.settings.reference:
            target = target.masked_fill(target == UNKNOWN, AMINO_ACIDS.index("G"))
        counted = target < UNKNOWN
        if "weight" in view.targets:
            counted = counted * view.targets["weight"]
        scores = self.residue_type_logits(encoding.residue.index_select(0, view.targets["residue"]))
        loss = functional.cross_entropy(scores, target, ignore_index=UNKNOWN, reduction="none")
        output = means(loss, {"accuracy": (scores.argmax(dim=1) == target).float()}, counted)
        return replace(output, num_left_out=left_out(view.batch, view.targets["residue"], counted))

    def residue_type_logits(self, residue: Tensor) -> Tensor:
        """Logits float32 [M, 20] over the amino acids from residue representations [M, encoder_dim]."""
        logits: Tensor = self.head(residue)
        return logits.float()
