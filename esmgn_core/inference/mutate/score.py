"""Scores of mutations: how much less, or more, a model expects the mutant than the wild type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from esmgn_core.alphabet import AMINO_ACIDS, MASKED
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.inference.batching import plan
from esmgn_core.inference.mutate.scorer import Scorer
from esmgn_core.inference.mutate.variants import Variant, rows_of

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """A variant and its scores, in natural logarithms; below 0 the wild type is expected more.

    Attributes:
        variant: the substitutions.
        masked_marginal: log p(mutant) - log p(wild type), each residue masked on its own; summed.
        wild_type_marginal: the same with nothing masked.
    """

    variant: Variant
    masked_marginal: float
    wild_type_marginal: float

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        return {
            **described(self.variant),
            "masked_marginal": round(self.masked_marginal, 5),
            "wild_type_marginal": round(self.wild_type_marginal, 5),
        }


def described(variant: Variant) -> dict[str, str]:
    """Columns that say what a variant is; what differs between its substitutions is joined by ``+``."""
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
) -> list[Scored]:
    """Masked-marginal and wild-type-marginal scores of variants of a protein.

    Every changed residue is masked once, whatever number of variants change it, and scores of a
    variant are added up. Source: Meier et al. 2021 (doi 10.1101/2021.07.09.450648), section 3.
    """
    rows = rows_of(variants)
    number = {row: index for index, row in enumerate(rows)}
    masked = masked_log_probabilities(scorer, protein, rows, max_residues=max_residues, progress=progress)
    unmasked = scorer.logits(ProteinBatch.from_proteins([protein])).cpu()[rows].log_softmax(1)
    tables = masked.tolist(), unmasked.tolist()
    return [
        Scored(
            variant,
            *(
                sum(gain(table[number[item.row]], item.residue.letter, item.mutant) for item in variant)
                for table in tables
            ),
        )
        for variant in variants
    ]


def gain(log_probabilities: Sequence[float], wild: str, mutant: str) -> float:
    """Log p(mutant) - log p(wild type) at one residue, from its 20 log probabilities."""
    return log_probabilities[AMINO_ACIDS.index(mutant)] - log_probabilities[AMINO_ACIDS.index(wild)]


def masked_log_probabilities(
    scorer: Scorer,
    protein: Protein,
    rows: Sequence[int],
    *,
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> Tensor:
    """Log probabilities float32 [R, 20] of the amino acids at ``rows``, each masked on its own."""
    result = torch.zeros(len(rows), len(AMINO_ACIDS))
    done = 0
    for batch in plan([len(protein)] * len(rows), max_residues):
        copies = [_masked(protein, rows[index]) for index in batch]
        packed = ProteinBatch.from_proteins(copies)
        asked = packed.ptr[:-1] + torch.tensor([rows[index] for index in batch])
        result[batch] = scorer.logits(packed).cpu()[asked].log_softmax(1)
        done += len(batch)
        if progress:
            progress(done, len(rows))
    return result


def _masked(protein: Protein, row: int) -> Protein:
    residue_type = protein.residue_type.clone()
    residue_type[row] = MASKED
    return replace(protein, residue_type=residue_type)
