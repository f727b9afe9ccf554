"""Noise on residue types and coordinates, and the targets of a denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import ProteinBatch
from esmgn_core.draws import Draws, uniform_index
from esmgn_core.graph import ResidueGraph, View
from esmgn_core.protocols import GraphBuilder
from esmgn_pretext.edges import draw_from_each, pair_keys, share_of
from esmgn_pretext.settings import CroppedTaskSettings

GLYCINE = AMINO_ACIDS.index("G")
_COINCIDENT = 1e-10


class DiffusionSettings(CroppedTaskSettings):
    """Settings of a task that adds noise of a random level to sequence and structure."""

    crop_length: int = Field(150, ge=0)
    """Length of the random window of each protein that a step uses; 0 for whole proteins."""
    head_layers: int = Field(3, ge=1)
    """Linear layers of each prediction head; hidden layers are as wide as the encoder's output."""
    num_noise_levels: int = Field(100, ge=1)
    """Number of noise levels. Each protein gets a random level."""
    sigma_begin: float = Field(1e-3, gt=0, lt=1)
    """Variance added per level at the first levels, in square angstrom."""
    sigma_end: float = Field(0.1, gt=0, lt=1)
    """Variance added per level at the last levels, in square angstrom."""
    min_mask_rate: float = Field(0.15, gt=0, le=1)
    """Limit of the mask rate towards level 0. The rate grows linearly to ``max_mask_rate``."""
    max_mask_rate: float = Field(1.0, gt=0, le=1)
    """Share of residues drawn at the last level, with replacement. A rate of 1 masks about 63 % of them."""
    structure_weight: float = Field(0.5, ge=0, le=1)
    """Weight w of the structure part of the loss. The sequence part has weight 1 - w."""
    masked_as: Literal["G", "mask"] = "G"
    """Input of the encoder for a masked residue: glycine, as in the original, or a mask. With ``reference``
    the sequence encoder reads glycine, and the one-hot of parallel and cross fusion is zero."""

    def sigma(self) -> Tensor:
        r"""Standard deviation of the noise at each level, float32 [num_noise_levels], in angstrom.

        .. math::
            \beta_t = \sigma_b + (\sigma_e - \sigma_b)\,\mathrm{sigmoid}(u_t), \quad
            \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \quad
            \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}

        with u from -6 to 6 in equal steps.
        """
        # Single precision, as in the original: 1 - kept loses digits at the first levels, and scores show it.
        ramp = torch.linspace(-6, 6, self.num_noise_levels).sigmoid()
        beta = self.sigma_begin + (self.sigma_end - self.sigma_begin) * ramp
        kept = (1 - beta).cumprod(0)
        return ((1 - kept) / kept).sqrt()

    def num_masked(self, level: Tensor, lengths: Tensor) -> Tensor:
        """Residues drawn in proteins of ``lengths`` at ``level``, both int64 [B]."""
        share = (level + 1).double() / self.num_noise_levels
        rate = self.min_mask_rate + (self.max_mask_rate - self.min_mask_rate) * share
        return share_of(lengths, rate)


class Noise(NamedTuple):
    """Random levels and masks of one batch.

    Attributes:
        level: int64 [B], noise level of each protein.
        residue: int64 [M], rows of the residues to mask.
    """

    level: Tensor
    residue: Tensor

    @classmethod
    def drawn(cls, batch: ProteinBatch, settings: DiffusionSettings, draws: Draws) -> Noise:
        """Draw a level for each protein and the residues it masks."""
        lengths = batch.lengths.cpu()
        ones = torch.ones_like(lengths)
        level = uniform_index(draws, ones, ones * settings.num_noise_levels)
        residue = draw_from_each(draws, batch.ptr, settings.num_masked(level, lengths))
        return cls(level.to(batch.ptr.device), residue)


def normal(batch: ProteinBatch, draws: Draws, *shape: int) -> Tensor:
    """Draw standard normal numbers, float32 [N, *shape], on the batch's device."""
    per_residue = torch.Size(shape).numel()
    numbers = draws.normal(batch.lengths.cpu() * per_residue)
    return numbers.view(-1, *shape).float().to(batch.ptr.device)


def noised_views(
    shapes: Sequence[ProteinBatch],
    build_graph: GraphBuilder,
    settings: DiffusionSettings,
    noise: Noise,
    moves: Sequence[Tensor],
) -> tuple[View, ...]:
    """Views with the same masked residues and different noise on the coordinates.

    Args:
        shapes: copies of one batch of N residues, with the coordinates on which edges are built.
        build_graph: builds the edges.
        settings: settings of the task.
        noise: levels and masked residues.
        moves: float32 [N, 3] for each view, standard normal.

    Returns:
        Views that share the tensor of residue types; targets are those of :func:`noised_view`,
        ``residue`` int64 [M], and ``residue_type`` int64 [M], the types before masking. If residues of low
        pLDDT count less, ``certainty`` float32 [N] holds the weight of each residue.
    """
    first = shapes[0]
    code = GLYCINE if settings.masked_as == "G" else MASKED
    hidden = first.residue_type.index_fill(0, noise.residue, code)
    # In the original, ESM-2 reads glycine and structure encoders read zeros.
    zeroed = None
    if settings.reference and settings.masked_as == "G":
        zeroed = torch.zeros_like(hidden, dtype=torch.bool).index_fill(0, noise.residue, value=True)
    sigma = settings.sigma().to(noise.level.device)[noise.level][first.protein_index]
    shared = {"residue": noise.residue, "residue_type": first.residue_type[noise.residue]}
    if (certainty := settings.plddt.residue_weight(first)) is not None:
        shared["certainty"] = certainty
    views = []
    for shape, move in zip(shapes, moves, strict=True):
        shown = shape.replace(residue_type=hidden, hidden=zeroed)
        view = noised_view(shown, settings.residue_graph(shown, build_graph), sigma, move)
        views.append(replace(view, targets={**view.targets, **shared}))
    return tuple(views)


def noised_view(batch: ProteinBatch, graph: ResidueGraph, sigma: Tensor, noise: Tensor) -> View:
    r"""The view with noise on the coordinates, and the scores of its edges as targets.

    Every edge has a score :math:`s_e = (d_e - \tilde d_e) / \sigma`, the change of its noised length that
    restores the true one. Scores define vectors of the residues, with unit vectors u from target to source:

    .. math::
        V_i(s) = \operatorname{mean}_{e:\,\mathrm{source} = i} s_e u_e
                 - \operatorname{mean}_{e:\,\mathrm{target} = i} s_e u_e

    All edges between two residues have the same score, and the same u except for its sign. V is therefore a
    sum over unordered pairs with a weight for each end. Self-loops have u = 0, but count in the means.

    Args:
        batch: N residues before the noise. The backbone of a residue moves as a whole.
        graph: the edges, built before the noise.
        sigma: float32 [N], standard deviation of the noise of each residue's protein, in angstrom.
        noise: float32 [N, 3], standard normal.

    Returns:
        A view with targets ``pair`` int64 [2, P], and for every pair ``distance``, ``score``,
        ``weight`` [2, P] of its ends and ``direction`` [P, 3], all float32.
    """
    source, target = graph.edge_index
    moved = batch.replace(backbone=batch.backbone + (sigma.unsqueeze(1) * noise).unsqueeze(1))
    apart = source != target
    keys, number = torch.unique(pair_keys(graph.edge_index[:, apart]), return_inverse=True)
    low, high = pair = torch.stack([keys & (2**32 - 1), keys >> 32])
    before, after = (ca[low] - ca[high] for ca in (batch.ca.float(), moved.ca.float()))
    distance = after.norm(dim=1)
    num_out, num_in = (ends.bincount(minlength=batch.num_residues) for ends in (source, target))
    shares = torch.stack([1 / num_out[source], 1 / num_in[target]])[:, apart]
    shares = torch.where((source < target)[apart], shares, shares.flip(0))
    targets = {
        "pair": pair,
        "distance": distance,
        "score": (before.norm(dim=1) - distance) / sigma[low],
        "weight": distance.new_zeros(2, len(distance)).index_add(1, number, shares),
        "direction": after / (distance + _COINCIDENT).unsqueeze(1),
    }
    return View(moved, graph, targets)
