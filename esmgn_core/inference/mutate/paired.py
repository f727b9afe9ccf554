"""Scores of mutations by a run on pairs of a protein and its mutant, such as MSP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein
from esmgn_core.errors import RunError
from esmgn_core.inference.batching import Progress, equal_batches
from esmgn_core.inference.mutate.score import variant_columns
from esmgn_core.inference.mutate.variants import Variant
from esmgn_core.inference.predict.predictor import Predictor


@dataclass(frozen=True, slots=True)
class PairScored:
    """A variant and its score by the head of a run on pairs.

    Attributes:
        variant: the substitutions.
        label: name of the first output of the head.
        score: its probability, 0-1, not calibrated; its value if ``is_number``.
        is_number: True if the head predicts quantities.
    """

    variant: Variant
    label: str
    score: float
    is_number: bool

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        column = "value" if self.is_number else "probability"
        return {**variant_columns(self.variant), "label": self.label, column: round(self.score, 5)}


def score_pairs(
    predictor: Predictor,
    protein: Protein,
    variants: Sequence[Variant],
    *,
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> list[PairScored]:
    """Score each variant, paired with the wild type.

    The mutant has the coordinates of the wild type; no structure is modelled.

    Raises:
        RunError: the run predicts one of several classes, which is not a score.
    """
    if predictor.output == "classes":
        raise RunError(
            f"{predictor.run.path} predicts the class of a pair, which is not a score of a mutation",
            "use a run whose task has output = multilabel or values",
        )
    result = torch.zeros(len(variants))
    for batch in equal_batches(2 * len(protein), len(variants), max_residues, progress):
        pairs = [member for index in batch for member in (protein, mutated(protein, variants[index]))]
        result[batch] = predictor.scores(pairs)[:, 0]
    label = predictor.labels[0]
    return [
        PairScored(variant, label, float(score), predictor.is_number)
        for variant, score in zip(variants, result, strict=True)
    ]


def mutated(protein: Protein, variant: Variant) -> Protein:
    """The protein with the substitutions of a variant and unchanged coordinates."""
    residue_type = protein.residue_type.clone()
    for item in variant:
        residue_type[item.row] = AMINO_ACIDS.index(item.mutant)
    return replace(protein, residue_type=residue_type)
