"""Spearman's rank correlation of predicted and measured scores, for each scan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from esmgn_core.batch import Protein
from esmgn_core.errors import RunError, StructureError
from esmgn_core.inference.batching import Progress
from esmgn_core.inference.fasta import protein_of_sequence
from esmgn_core.inference.mutate.assays import Assay, Measurements, read_measurements
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
    """

    name: str
    num_variants: int
    spearman: float
    left_out: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()
    numbering: str = ""

    @property
    def num_left_out(self) -> int:
        """Number of skipped rows."""
        return sum(self.left_out.values())


def correlate(
    scorer: Scorer, assay: Assay, *, max_residues: int, progress: Progress | None = None
) -> Correlation:
    """Correlate masked-marginal scores with the measured scores of a scan.

    The score of a variant is the sum over its substitutions.
    """
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
    scores = [score for _, score in kept]
    value, problem, notes = math.nan, "", protein.notes
    if len(kept) < 2:
        problem = "fewer than two variants to correlate"
    elif len(set(scores)) == 1 or len(set(predicted)) == 1:
        problem = "all measured or all predicted scores are equal"
    else:
        value = spearman(predicted, scores)
    if repeated := len(kept) - len({changes for changes, _ in kept}):
        notes = (*notes, f"rows that repeat a variant, all counted: {repeated}")
    return Correlation(assay.name, len(kept), value, left_out, problem, notes, numbering.described)


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
