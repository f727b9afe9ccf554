"""Spearman's rank correlation of predicted and measured scores, for each scan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from esmgn_core.batch import Protein, ProteinBatch
from esmgn_core.errors import RunError, StructureError
from esmgn_core.inference.batching import Progress, plan_batches
from esmgn_core.inference.fasta import protein_of_sequence
from esmgn_core.inference.mutate.assays import (
    Assay,
    Measurements,
    has_sequences,
    read_measurements,
    read_sequences,
)
from esmgn_core.inference.mutate.notation import Change
from esmgn_core.inference.mutate.numbering import (
    Numbering,
    Site,
    align,
    choose_numbering,
    numberings_of_chains,
    positions,
    residue_numbers,
    to_positions,
)
from esmgn_core.inference.mutate.score import gain, masked_log_probabilities
from esmgn_core.inference.mutate.scorer import Scorer
from esmgn_core.metrics import spearman

NO_COORDINATES = "residue missing or different in the structure"
OTHER_WILD_TYPE = "another wild type"


@dataclass(frozen=True, slots=True)
class Scored:
    """Variants of one scan with measured and predicted scores."""

    variants: Sequence[str]
    measured: Sequence[float]
    predicted: Sequence[float]


@dataclass(frozen=True, slots=True)
class Correlation:
    """The result of one scan.

    Attributes:
        name: name of the scan.
        num_variants: number of variants in the correlation.
        left_out: number of skipped rows by reason.
        spearman: rank correlation of masked-marginal and measured scores; NaN if there is a ``problem``.
        problem: why there is no correlation; empty if there is one.
        notes: notes on the structure, see :class:`esmgn_core.batch.Protein`, and on the table.
        numbering: meaning of the numbers in the table, positions or residue numbers.
        scored: the scores behind the correlation; ``None`` if there is a ``problem`` before scoring.
    """

    name: str
    num_variants: int
    spearman: float
    left_out: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()
    numbering: str = ""
    scored: Scored | None = None

    @property
    def num_left_out(self) -> int:
        """Number of skipped rows."""
        return sum(self.left_out.values())


def correlate(
    scorer: Scorer, assay: Assay, *, max_residues: int, progress: Progress | None = None
) -> Correlation:
    """Correlate predicted scores with the measured scores of a scan.

    The score of a variant is the sum of masked-marginal scores over its substitutions. Whole sequences, with
    insertions and deletions, are scored by :func:`pseudo_likelihoods`.
    """
    if has_sequences(assay):
        return _correlate_sequences(scorer, assay, max_residues, progress)
    left_out: Counter[str] = Counter()
    try:
        measured = read_measurements(assay)
        left_out = measured.left_out.copy()
        protein, numbering = _protein(scorer, assay, measured)
    except (RunError, StructureError) as error:
        return Correlation(assay.name, 0, math.nan, left_out, error.message)
    kept: list[tuple[tuple[Change, ...], float]] = []
    for changes, score in zip(measured.variants, measured.scores, strict=True):
        if reason := _reason_to_skip(changes, numbering):
            left_out[reason] += 1
        else:
            kept.append((changes, score))
    rows = sorted({numbering.rows[_site(change)] for changes, _ in kept for change in changes})
    table = masked_log_probabilities(scorer, protein, rows, max_residues=max_residues, progress=progress)
    predicted = [
        sum(gain(table[numbering.rows[_site(change)]], change.wild, change.mutant) for change in changes)
        for changes, _ in kept
    ]
    texts = [":".join(map(str, changes)) for changes, _ in kept]
    scored = Scored(texts, [score for _, score in kept], predicted)
    value, problem = rank_correlation(scored)
    notes = protein.notes
    if repeated := len(kept) - len({changes for changes, _ in kept}):
        notes = (*notes, f"rows that repeat a variant, all counted: {repeated}")
    return Correlation(assay.name, len(kept), value, left_out, problem, notes, numbering.described, scored)


def rank_correlation(scored: Scored) -> tuple[float, str]:
    """Spearman's correlation, or NaN and why there is none."""
    if len(scored.variants) < 2:
        return math.nan, "fewer than two variants to correlate"
    if len({*scored.measured}) == 1 or len({*scored.predicted}) == 1:
        return math.nan, "all measured or all predicted scores are equal"
    return spearman(scored.predicted, scored.measured), ""


def pseudo_likelihoods(
    scorer: Scorer, sequences: Sequence[str], *, max_residues: int, progress: Progress | None = None
) -> list[float]:
    """Sum over residues of log p(residue | whole sequence), from one pass without masks.

    Source: Brandes et al. 2023 (doi 10.1038/s41588-023-01465-0), for insertions and deletions.
    """
    values = [0.0] * len(sequences)
    done = 0
    for batch in plan_batches([len(sequence) for sequence in sequences], max_residues):
        proteins = [protein_of_sequence(str(index), sequences[index]) for index in batch]
        packed = ProteinBatch.from_proteins(proteins)
        logs = scorer.logits(packed).cpu().log_softmax(1)
        own = logs.gather(1, packed.residue_type.unsqueeze(1)).squeeze(1).double()
        for index, part in zip(batch, torch.split(own, packed.lengths.tolist()), strict=True):
            values[index] = float(part.sum())
        done += len(batch)
        if progress:
            progress(done, len(sequences))
    return values


def _correlate_sequences(
    scorer: Scorer, assay: Assay, max_residues: int, progress: Progress | None
) -> Correlation:
    if scorer.head is not None:
        problem = "insertions and deletions need a language model, and this model reads structures"
        return Correlation(assay.name, 0, math.nan, {}, problem)
    found, left_out = read_sequences(assay)
    sequences = [sequence for sequence, _ in found]
    predicted = pseudo_likelihoods(scorer, sequences, max_residues=max_residues, progress=progress)
    scored = Scored(sequences, [score for _, score in found], predicted)
    value, problem = rank_correlation(scored)
    return Correlation(assay.name, len(found), value, left_out, problem, (), "whole sequences", scored)


def _reason_to_skip(changes: tuple[Change, ...], numbering: Numbering) -> str:
    """The reason to skip a variant; empty if it can be scored."""
    for change in changes:
        letter = numbering.letters.get(_site(change))
        if letter != change.wild and (letter is not None or numbering.complete):
            return OTHER_WILD_TYPE
        if _site(change) not in numbering.rows:
            return NO_COORDINATES
    return ""


def _site(change: Change) -> Site:
    return change.number, change.insertion_code


def _protein(scorer: Scorer, assay: Assay, measured: Measurements) -> tuple[Protein, Numbering]:
    """The protein to score, and the numbering of its residues in the table.

    Raises:
        RunError: the model needs a structure and there is none, or the wild types do not match.
    """
    if not measured.variants:
        hint = f": '{measured.unread}', expected a variant such as A12G" if measured.unread else ""
        raise RunError(f"the table has no variant to score{hint}")
    wild_types = {(_site(change), change.wild) for changes in measured.variants for change in changes}
    firsts = tuple(dict.fromkeys((measured.first, 1, 0)))
    sequence, structure = assay.sequence, assay.structure
    if sequence is not None and scorer.head is None:
        protein = protein_of_sequence(assay.name, sequence)
        rows = {place: place for place in range(len(sequence))}
        numberings = [positions(sequence, first, rows) for first in firsts]
        try:
            return protein, choose_numbering(numberings, wild_types)
        except RunError:
            if structure is None:
                raise
        read = scorer.read(structure)
        alignment = align(sequence, read, firsts)
        numberings.append(to_positions(residue_numbers(read, alignment.chain), alignment))
        return protein, choose_numbering(numberings, wild_types)
    if structure is None:
        if scorer.head is not None:
            raise RunError("no structure file beside the table, but this model needs one")
        raise RunError("neither a structure nor a sequence (FASTA) of the wild type beside the table")
    protein = scorer.read(structure)
    if sequence is None:
        return protein, choose_numbering(numberings_of_chains(protein, firsts), wild_types)
    alignment = align(sequence, protein, firsts)
    numberings = [positions(sequence, first, alignment.rows) for first in firsts]
    numberings.append(residue_numbers(protein, alignment.chain))
    return protein, choose_numbering(numberings, wild_types)
