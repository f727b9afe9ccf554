"""Score variants with the head of a model that can score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esmgn_core.errors import without_exits
from esmgn_core.host.registry import discover
from esmgn_core.inference.batching import Progress
from esmgn_core.inference.model import ModelName
from esmgn_core.inference.mutate.paired import score_pairs
from esmgn_core.inference.mutate.score import score_variants
from esmgn_core.inference.mutate.scorer import load_scorer
from esmgn_core.inference.mutate.variants import Variant
from esmgn_core.inference.predict.predictor import Predictor
from esmgn_core.inference.task import group_size
from esmgn_core.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class Scan:
    """Scores of variants.

    Attributes:
        scored_by: description of the head.
        random_parts: parts of the model with random weights.
        values: each variant with its main score.
        rows: a row of the table for each variant, with scores in the last columns.
        label: name of the main score.
        neutral: main score at which mutant and wild type are equal.
    """

    scored_by: str
    random_parts: tuple[str, ...]
    values: list[tuple[Variant, float]]
    rows: list[dict[str, Any]]
    label: str
    neutral: float


@without_exits()
def scan_variants(
    name: ModelName,
    file: Path,
    variants: Sequence[Variant],
    *,
    device: str = "auto",
    max_residues: int = 4096,
    progress: Progress | None = None,
) -> Scan:
    """Score variants with the head of a run on pairs, or else by masked marginals.

    Args:
        name: the model.
        file: a structure file.
        variants: variants of its protein.
        device: device of the model.
        max_residues: maximum number of residues in a forward pass.
        progress: called with the number of finished steps and their total.

    Raises:
        EsmgnError: the model does not exist or has no suitable head, or the file cannot be read.
    """
    if name.folder is not None and group_size(RunFolder(Path(name.folder)), discover()) == 2:
        predictor = Predictor(Path(name.folder), device=device)
        protein = predictor.model.read(file)
        pairs = score_pairs(predictor, protein, variants, max_residues=max_residues, progress=progress)
        calibrated = "" if predictor.is_number else " (not calibrated)"
        return Scan(
            scored_by=f"head of {name.folder} on pairs of wild type and mutant{calibrated}",
            random_parts=predictor.model.random_parts,
            values=[(item.variant, item.score) for item in pairs],
            rows=[item.row() for item in pairs],
            label=predictor.labels[0] if predictor.is_number else f"probability of {predictor.labels[0]}",
            neutral=0.0 if predictor.is_number else 0.5,
        )
    scorer = load_scorer(name, device=device)
    protein = scorer.read(file)
    scored = score_variants(scorer, protein, variants, max_residues=max_residues, progress=progress)
    return Scan(
        scored_by=scorer.described,
        random_parts=scorer.random_parts,
        values=[(item.variant, item.masked_marginal) for item in scored],
        rows=[item.row() for item in scored],
        label="log p(mutant) - log p(wild type), masked",
        neutral=0.0,
    )
