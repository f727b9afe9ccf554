"""Mutations by a run that was fine-tuned on pairs of a protein and its mutant, such as MSP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein
from esmgn_core.errors import RunError
from esmgn_core.inference.batching import plan
from esmgn_core.inference.mutate.score import described
from esmgn_core.inference.mutate.variants import Variant
from esmgn_core.inference.predict.predictor import Predictor

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PairScored:
    """A variant and the head's score for it beside the wild type.

    Attributes:
        variant: the substitutions.
        label: the name of the head's first output.
        score: its probability, 0-1, not calibrated; or its value, where ``is_number``.
        is_number: True if the head predicts quantities.
    """

    variant: Variant
    label: str
    score: float
    is_number: bool

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        column = "value" if self.is_number else "probability"
        return {**described(self.variant), "label": self.label, column: round(self.score, 5)}


def score_pairs(
    predictor: Predictor,
    protein: Protein,
    variants: Sequence[Variant],
    *,
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> list[PairScored]:
    """The head's score for each variant, beside the wild type's structure.

    The mutant has the coordinates of the wild type: nothing is remodelled.

    Raises:
        RunError: the run predicts one of several classes, which gives no score for a variant.
    """
    if predictor.output == "classes":
        raise RunError(
            f"{predictor.run.path} predicts the class of a pair, which is not a score of a mutation",
            "a task that scores mutations has output = multilabel or values",
        )
    result = torch.zeros(len(variants))
    done = 0
    for part in plan([2 * len(protein)] * len(variants), max_residues):
        pairs = [each for index in part for each in (protein, mutated(protein, variants[index]))]
        result[part] = predictor.scores(pairs)[:, 0]
        done += len(part)
        if progress:
            progress(done, len(variants))
    label = predictor.labels[0]
    return [
        PairScored(variant, label, float(score), predictor.is_number)
        for variant, score in zip(variants, result, strict=True)
    ]


def mutated(protein: Protein, variant: Variant) -> Protein:
    """The protein with the residues of a variant, its coordinates as they are."""
    residue_type = protein.residue_type.clone()
    for item in variant:
        residue_type[item.row] = AMINO_ACIDS.index(item.mutant)
    return replace(protein, residue_type=residue_type)
