"""DiffPreT: predict the noise of a protein from its own encoding."""

from __future__ import annotations

from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.denoiser import DenoisingTask
from esmgn_pretext.diffusion import DiffusionSettings, Noise, noised_views, normal


class DiffPreT(DenoisingTask):
    """Denoising of sequence and structure of one view from its own representations.

    The loss is twice that of the view, which makes it comparable with SiamDiff's sum over two views.

    Source: Zhang et al. 2023 (arXiv 2301.12068), section 3.
    """

    class Settings(DiffusionSettings):
        """Settings of SiamDiff without the second view."""

    settings: Settings

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view; targets as of :func:`noised_views`."""
        batch = self.settings.crop(batch, draws)
        noise = Noise.drawn(batch, self.settings, draws)
        return noised_views([batch], build_graph, self.settings, noise, [normal(batch, draws, 3)])
