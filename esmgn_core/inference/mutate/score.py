"""Scores of mutations: log odds of the mutant against the wild type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.inference.batching import Progress, equal_batches
from esmgn_core.inference.mutate.scorer import Scorer
from esmgn_core.inference.mutate.variants import Variant, rows_of


@dataclass(frozen=True, slots=True)
class VariantScore:
    """A variant and its scores, in natural logarithms; negative if the wild type is more likely.

    Attributes:
        variant: the substitutions.
        masked_marginal: sum of log p(mutant) - log p(wild type), with one residue masked at a time.
        wild_type_marginal: the same sum without masking.
    """

    variant: Variant
    masked_marginal: float
    wild_type_marginal: float

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        return {
            **variant_columns(self.variant),
            "masked_marginal": round(self.masked_marginal, 5),
            "wild_type_marginal": round(self.wild_type_marginal, 5),
        }


def variant_columns(variant: Variant) -> dict[str, str]:
    """The columns that describe a variant; values of several substitutions are joined by ``+``."""
    parts = {
        "variant": [str(item) for item in variant],
        "chain": [item.residue.chain for item in variant],
        "residue_number": [str(item.residue.number) for item in variant],
        "insertion_code": [item.residue.insertion_code for item in variant],
        "wild_type": [item.residue.letter for item in variant],
        "mutant": [item.mutant for item in variant],
    }
    return {name: "+".join(values) for name, values in parts.items()}


def score_variants(
    scorer: Scorer,
    protein: Protein,
    variants: Sequence[Variant],
    *,
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> list[VariantScore]:
    """Masked-marginal and wild-type-marginal scores of variants.

    Each residue is masked once, for all variants that change it. The score of a variant is the sum over its
    substitutions.

    Source: Meier et al. 2021 (doi 10.1101/2021.07.09.450648), section 3.
    """
    rows = rows_of(variants)
    masked = masked_log_probabilities(scorer, protein, rows, max_residues=max_residues, progress=progress)
    logits = scorer.logits(ProteinBatch.from_proteins([protein])).cpu()
    unmasked = dict(zip(rows, logits[rows].log_softmax(1).tolist(), strict=True))
    return [
        VariantScore(
            variant,
            *(
                sum(gain(table[item.row], item.residue.letter, item.mutant) for item in variant)
                for table in (masked, unmasked)
            ),
        )
        for variant in variants
    ]


def gain(log_probabilities: Sequence[float], wild: str, mutant: str) -> float:
    """Log p(mutant) - log p(wild type) of one residue, from its 20 log probabilities."""
    return log_probabilities[AMINO_ACIDS.index(mutant)] - log_probabilities[AMINO_ACIDS.index(wild)]


def masked_log_probabilities(
    scorer: Scorer,
    protein: Protein,
    rows: Sequence[int],
    *,
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> dict[int, list[float]]:
    """Log probabilities of the 20 amino acids at each row, with one row masked at a time."""
    result: dict[int, list[float]] = {}
    for batch in equal_batches(len(protein), len(rows), max_residues, progress):
        copies = [_masked(protein, rows[index]) for index in batch]
        packed = ProteinBatch.from_proteins(copies)
        masked_rows = packed.ptr[:-1] + torch.tensor([rows[index] for index in batch])
        logits = scorer.logits(packed).cpu()[masked_rows]
        result |= zip((rows[index] for index in batch), logits.log_softmax(1).tolist(), strict=True)
    return result


def _masked(protein: Protein, row: int) -> Protein:
    residue_type = protein.residue_type.clone()
    residue_type[row] = MASKED
    return replace(protein, residue_type=residue_type)
