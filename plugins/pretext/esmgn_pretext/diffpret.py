"""DiffPreT: the noise of a protein is told from its own encoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from esmgn_core.batch import Encoding, ProteinBatch, TaskOutput
from esmgn_core.draws import Draws
from esmgn_core.graph import View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.denoiser import Denoiser
from esmgn_pretext.diffusion import DiffusionSettings, Noise, noised_views, normal


class DiffPreT(nn.Module):
    """Denoising of sequence and structure of one view from its own representations.

    The loss is twice that of the view, so that it compares with the sum over two views of SiamDiff.

    Source: Zhang et al. 2023 (arXiv 2301.12068), section 3.
    """

    predicts_residues = True

    class Settings(DiffusionSettings):
        """As of SiamDiff, without its second view."""

    def __init__(self, settings: Settings, *, encoder_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.max_residues = settings.crop_length or None
        self.denoiser = Denoiser(settings, encoder_dim)

    def shows_whole(self, lengths: Tensor) -> Tensor:
        """No protein's sequence is left as it is, bool [B]."""
        return torch.zeros_like(lengths, dtype=torch.bool)

    def views(self, batch: ProteinBatch, build_graph: GraphBuilder, draws: Draws) -> tuple[View, ...]:
        """One view; targets as of :func:`noised_views`."""
        batch = self.settings.crop(batch, draws)
        noise = Noise.drawn(batch, self.settings, draws)
        return noised_views([batch], build_graph, self.settings, noise, [normal(batch, draws, 3)])

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Twice the loss of the view, its parts, and the accuracy on masked residues."""
        output: TaskOutput = self.denoiser(views, [encoding.residue for encoding in encodings])
        return output
