"""Mutations by a run that was fine-tuned on pairs of a protein and its mutant, such as MSP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.engine.run_folder import RunFolder
from esmgn_core.inference.batching import plan
from esmgn_core.inference.mutations import described
from esmgn_core.inference.predictor import PAIRED, Predictor
from esmgn_core.inference.variants import Variant

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PairScored:
    """A variant and what the head says of it beside the wild type.

    Attributes:
        variant: the substitutions.
        label: what the head was trained to tell.
        probability: that it holds, 0-1; not calibrated.
    """

    variant: Variant
    label: str
    probability: float

    def row(self) -> dict[str, Any]:
        """A row of the table."""
        return {**described(self.variant), "label": self.label, "probability": round(self.probability, 5)}


def is_paired_run(folder: Path) -> bool:
    """Whether a folder is of a run that compares proteins with their mutants."""
    run = RunFolder(folder)
    return run.labels.is_file() and run.recorded_labels()[0] == PAIRED


def score_pairs(
    predictor: Predictor,
    protein: Protein,
    variants: Sequence[Variant],
    *,
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> list[PairScored]:
    """The head's probability for each variant, beside the wild type's structure.

    The mutant has the coordinates of the wild type: nothing is remodelled.
    """
    result = torch.zeros(len(variants))
    done = 0
    for part in plan([2 * len(protein)] * len(variants), max_residues):
        pairs = [each for index in part for each in (protein, mutated(protein, variants[index]))]
        batch = ProteinBatch.from_proteins(pairs)
        encoding = predictor.model.encode(batch)
        with torch.inference_mode():
            logits = predictor.task.predict(encoding, batch.to(predictor.model.device))
        result[part] = logits[:, 0].float().sigmoid().cpu()
        done += len(part)
        if progress:
            progress(done, len(variants))
    label = predictor.labels[0]
    return [PairScored(variant, label, float(p)) for variant, p in zip(variants, result, strict=True)]


def mutated(protein: Protein, variant: Variant) -> Protein:
    """The protein with the residues of a variant, its coordinates as they are."""
    residue_type = protein.residue_type.clone()
    for item in variant:
        residue_type[item.row] = AMINO_ACIDS.index(item.mutant)
    return replace(protein, residue_type=residue_type)
