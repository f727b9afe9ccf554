"""Noise on residue types and coordinates, and what a denoiser is asked for."""

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
    """Each step sees a random window of this many residues of each protein; 0 for whole proteins."""
    head_layers: int = Field(3, ge=1)
    """Linear layers of each prediction head; hidden layers are as wide as the encoder's output."""
    num_noise_levels: int = Field(100, ge=1)
    """Noise levels; each protein gets one of them at random."""
    sigma_begin: float = Field(1e-3, gt=0, lt=1)
    """Variance that the first levels add."""
    sigma_end: float = Field(0.1, gt=0, lt=1)
    """Variance that the last levels add."""
    min_mask_rate: float = Field(0.15, gt=0, le=1)
    """Share of residues drawn below the first level; the last one draws ``max_mask_rate``."""
    max_mask_rate: float = Field(1.0, gt=0, le=1)
    """Share of residues drawn at the last level, with replacement: 1 masks about 63 % of them."""
    structure_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the structure part of the loss; the sequence part has what is left to 1."""
    masked_as: Literal["G", "mask"] = "G"
    """What the encoder reads in place of a masked residue: glycine, as in the original, or a mask. With
    ``reference`` the sequence encoder reads glycine, and the one-hot of parallel and cross fusion is zero."""

    def sigma(self) -> Tensor:
        r"""Standard deviation of the noise at each level, float32 [num_noise_levels], in angstrom.

        .. math::
            \beta_t = \sigma_b + (\sigma_e - \sigma_b)\,\mathrm{sigmoid}(u_t), \quad
            \bar\alpha_t = \prod_{s \le t} (1 - \beta_s), \quad
            \sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}

        with u from -6 to 6 in equal steps.
        """
        # Single precision, as in the original: 1 - kept of the first levels loses digits that scores show.
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
    """Draws for one batch.

    Attributes:
        level: int64 [B], noise level of each protein.
        residue: int64 [M], rows of the residues to mask.
    """

    level: Tensor
    residue: Tensor

    @classmethod
    def drawn(cls, batch: ProteinBatch, settings: DiffusionSettings, draws: Draws) -> Noise:
        """A level for each protein, and the residues it masks."""
        lengths = batch.lengths.cpu()
        ones = torch.ones_like(lengths)
        level = uniform_index(draws, ones, ones * settings.num_noise_levels)
        residue = draw_from_each(draws, batch.ptr, settings.num_masked(level, lengths))
        return cls(level.to(batch.ptr.device), residue)


def normal(batch: ProteinBatch, draws: Draws, *shape: int) -> Tensor:
    """Standard normal numbers, float32 [N, *shape], on the batch's device."""
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
    """Views with shared masks and a noise of their own on the coordinates.

    Args:
        shapes: copies of one batch of N residues, with the coordinates edges are drawn on.
        build_graph: draws them.
        settings: of the task.
        noise: levels and masked residues.
        moves: float32 [N, 3] for each view, standard normal.

    Returns:
        Views that share the tensor of residue types; targets are those of :func:`noised_view`,
        ``residue`` int64 [M], and ``residue_type`` int64 [M], the types before masking; where residues of
        low pLDDT count less, ``certainty`` [N] too, what each residue counts for.
    """
    first = shapes[0]
    code = GLYCINE if settings.masked_as == "G" else MASKED
    hidden = first.residue_type.index_fill(0, noise.residue, code)
    # The original writes glycine where ESM-2 reads it, and zeros where structure encoders do.
    zeroed = None
    if settings.reference and settings.masked_as == "G":
        zeroed = torch.zeros_like(hidden, dtype=torch.bool).index_fill(0, noise.residue, value=True)
    sigma = settings.sigma().to(noise.level.device)[noise.level][first.protein_index]
    asked = {"residue": noise.residue, "residue_type": first.residue_type[noise.residue]}
    if (certainty := settings.plddt.residue_weight(first)) is not None:
        asked["certainty"] = certainty
    views = []
    for shape, move in zip(shapes, moves, strict=True):
        shown = shape.replace(residue_type=hidden, hidden=zeroed)
        view = noised_view(shown, settings.residue_graph(shown, build_graph), sigma, move)
        views.append(replace(view, targets={**view.targets, **asked}))
    return tuple(views)


def noised_view(batch: ProteinBatch, graph: ResidueGraph, sigma: Tensor, noise: Tensor) -> View:
    r"""The view whose residues are moved, with the scores of its edges as targets.

    Every edge has a score :math:`s_e = (d_e - \tilde d_e) / \sigma`, the change of its length back to the
    true one. Scores become vectors of the residues, with unit vectors u from target to source:

    .. math::
        V_i(s) = \operatorname{mean}_{e:\,\mathrm{source} = i} s_e u_e
                 - \operatorname{mean}_{e:\,\mathrm{target} = i} s_e u_e

    Score and u of all edges between two residues agree but for the sign of u, so that V is a sum over
    unordered pairs with a weight for either end. Self-loops have u = 0, but count in the means.

    Args:
        batch: N residues where the edges were drawn; the whole backbone of a residue moves with it.
        graph: its edges.
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
