"""SiamDiff: predict the noise of each of two views from the encoding of the other."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from esmgn_core.batch import BACKBONE_ATOMS, Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.denoiser import DenoisingTask
from esmgn_pretext.diffusion import DiffusionSettings, Noise, noised_views, normal


class SiamDiff(DenoisingTask):
    """Denoising of sequence and structure, each view from the representations of the other.

    The second view is the protein with Gaussian jitter on every atom. Both views have the same noise level
    and masked residues, but different noise on the coordinates. Edges are built before that noise is added.
    Both views have the same sequence, so the sequence encoder reads it once.

    Source: arXiv 2303.06275, section 3.4; Zhang et al. 2023 (arXiv 2301.12068).
    """

    class Settings(DiffusionSettings):
        jitter: float = Field(0.3, ge=0)
        """Standard deviation of the jitter that makes the second view, in angstrom."""

    settings: Settings

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """Two views; targets as of :func:`noised_views`."""
        batch = self.settings.crop(batch, draws)
        jitter = normal(batch, draws, len(BACKBONE_ATOMS), 3) * self.settings.jitter
        noise = Noise.drawn(batch, self.settings, draws)
        moves = [normal(batch, draws, 3) for _ in range(2)]
        return self.noised(batch, build_graph, jitter, noise, moves)

    def noised(
        self,
        batch: ProteinBatch,
        build_graph: GraphBuilder,
        jitter: Tensor,
        noise: Noise,
        moves: Sequence[Tensor],
    ) -> tuple[View, ...]:
        """Views for given noise: ``jitter`` [N, 4, 3] in angstrom, the rest as in :func:`noised_views`."""
        shapes = [batch, batch.replace(backbone=batch.backbone + jitter)]
        return noised_views(shapes, build_graph, self.settings, noise, moves)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Sum of the loss over both views, its two parts, and the accuracy on masked residues."""
        return super().loss(views, encodings[::-1])
