"""Heads that predict the noise of noised views, and the base class of denoising tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from esmgn_core.alphabet import AMINO_ACIDS, UNKNOWN
from esmgn_core.batch import Encoding, TaskOutput
from esmgn_core.graph import View
from esmgn_pretext.diffusion import GLYCINE, DiffusionSettings
from esmgn_pretext.heads import MLP, PairScore
from esmgn_pretext.task import MaskedTask


class Denoiser(nn.Module):
    r"""Heads that predict the noise of a view from residue representations, and their loss.

    .. math::
        \ell = \frac{2}{|\mathrm{views}|} \sum_\mathrm{views} \gamma\,
        \tfrac12 \lVert V(\hat s) - V(s) \rVert^2 + (1 - \gamma)\,\tfrac12\,\mathrm{CE}

    Both parts are averaged within each protein, over its residues or over those drawn for masking, then over
    proteins. A protein without predictions in a part has 0 there.
    """

    def __init__(self, settings: DiffusionSettings, encoder_dim: int) -> None:
        super().__init__()
        self.settings = settings
        self.pair_score = PairScore(encoder_dim, settings.head_layers)
        self.residue_type = MLP(encoder_dim, encoder_dim, len(AMINO_ACIDS), settings.head_layers)

    def forward(self, views: Sequence[View], residues: Sequence[Tensor]) -> TaskOutput:
        """Loss of the views. View number i is denoised from ``residues[i]``, float [N, D]."""
        targets, rows = _join_targets(views), torch.cat(list(residues))
        structure = self._structure(rows, targets)
        sequence, accuracy = self._sequence(rows, targets)
        share = self.settings.structure_weight
        return TaskOutput(
            loss=share * structure + (1 - share) * sequence,
            num_samples=len(views[0].batch),
            metrics={
                "structure_loss": structure.detach(),
                "sequence_loss": sequence.detach(),
                "accuracy": accuracy,
            },
        )

    def _structure(self, rows: Tensor, targets: _Targets) -> Tensor:
        predicted = self.pair_score(rows, targets.pair, targets.distance)
        pull = (predicted - targets.score).unsqueeze(1) * targets.direction
        low, high = targets.weight.unsqueeze(2) * pull
        vector = pull.new_zeros(len(rows), 3)
        vector = vector.index_add(0, targets.pair[0], low).index_add(0, targets.pair[1], -high)
        return targets.mean(vector.square().sum(dim=1), torch.arange(len(rows), device=rows.device))

    def _sequence(self, rows: Tensor, targets: _Targets) -> tuple[Tensor, Tensor]:
        target = targets.residue_type
        if self.settings.reference:
            target = target.masked_fill(target == UNKNOWN, GLYCINE)
        known = target < UNKNOWN
        residue, target = targets.residue[known], target[known]
        scores = self.residue_type(rows.index_select(0, residue))
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        losses = functional.cross_entropy(scores, target, reduction="none")
        correct = (scores.argmax(dim=1) == target).to(losses.dtype)
        return targets.mean(losses, residue), targets.mean(correct, residue)


class DenoisingTask(MaskedTask):
    """A task that adds noise to sequence and structure and predicts it from encodings of the views."""

    settings: DiffusionSettings

    def __init__(self, settings: DiffusionSettings, *, encoder_dim: int) -> None:
        super().__init__(settings)
        self.denoiser = Denoiser(settings, encoder_dim)

    def loss(self, views: Sequence[View], encodings: Sequence[Encoding]) -> TaskOutput:
        """Loss of each view from the encoding of the same index, its two parts, and the accuracy."""
        output: TaskOutput = self.denoiser(views, [encoding.residue for encoding in encodings])
        return output


@dataclass(frozen=True, slots=True)
class _Targets:
    """Targets of all views, joined. Rows and proteins of each view are numbered after the one before it.

    Attributes:
        pair: int64 [2, P], rows of pairs of residues with an edge.
        distance, score: float32 [P], see :func:`~esmgn_pretext.diffusion.noised_view`.
        weight: float32 [2, P], weights of both ends of a pair.
        direction: float32 [P, 3].
        residue, residue_type: int64 [M], rows of the masked residues, and their types before masking.
        protein: int64 [N], protein of each row.
        num_proteins: number of proteins in all views.
        certainty: float32 [N], weight of each residue; ``None`` if all are 1.
    """

    pair: Tensor
    distance: Tensor
    score: Tensor
    weight: Tensor
    direction: Tensor
    residue: Tensor
    residue_type: Tensor
    protein: Tensor
    num_proteins: int
    certainty: Tensor | None = None

    def mean(self, values: Tensor, residue: Tensor) -> Tensor:
        """Mean over proteins of the weighted mean within each; 0 for a protein without values.

        Args:
            values: float [S].
            residue: int64 [S], the row of each value, whose certainty is its weight.
        """
        weight = torch.ones_like(values) if self.certainty is None else self.certainty[residue]
        empty = values.new_zeros(self.num_proteins)
        protein = self.protein[residue]
        total, count = (empty.index_add(0, protein, column) for column in (values * weight, weight))
        return (total / count.masked_fill(count == 0, 1)).mean()


def _join_targets(views: Sequence[View]) -> _Targets:
    sizes = [(view.batch.num_residues, len(view.batch)) for view in views]
    num_rows, num_proteins = (list(accumulate(column, initial=0)) for column in zip(*sizes, strict=True))
    parts = [
        {
            **view.targets,
            "pair": view.targets["pair"] + num_rows[number],
            "residue": view.targets["residue"] + num_rows[number],
            "protein": view.batch.protein_index + num_proteins[number],
        }
        for number, view in enumerate(views)
    ]
    along = {"pair": 1, "weight": 1}
    targets = {name: torch.cat([part[name] for part in parts], dim=along.get(name, 0)) for name in parts[0]}
    return _Targets(**targets, num_proteins=num_proteins[-1])
