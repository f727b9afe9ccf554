"""How well scores of mutations rank measured ones: Spearman's correlation for each scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein
from esmgn_core.errors import RunError, StructureError
from esmgn_core.inference.assays import Assay, Change, Measurements, read_measurements
from esmgn_core.inference.heads import Scorer
from esmgn_core.inference.inputs import protein_of_sequence
from esmgn_core.inference.mutations import masked_log_probabilities
from esmgn_core.metrics import spearman

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Correlation:
    """The result of one scan.

    Attributes:
        name: of the scan.
        num_variants: variants that were scored and measured.
        num_left_out: variants without a score, of a stop codon, or at residues the structure lacks.
        spearman: rank correlation of masked-marginal with measured scores; NaN where ``problem`` says why.
        problem: why the scan could not be used; empty if it was.
        notes: of the structure, see :class:`esmgn_core.batch.Protein`.
    """

    name: str
    num_variants: int
    num_left_out: int
    spearman: float
    problem: str = ""
    notes: tuple[str, ...] = ()


def correlate(
    scorer: Scorer, assay: Assay, *, max_residues: int, progress: Progress | None = None
) -> Correlation:
    """Score the variants of a scan by masked marginals, added up over substitutions, and correlate."""
    try:
        measured = read_measurements(assay)
        protein, rows = _protein(scorer, assay, measured)
    except (RunError, StructureError) as error:
        return Correlation(assay.name, 0, 0, float("nan"), error.message)
    wanted = sorted({rows[p] for changes in measured.variants for _, p, _ in changes if p in rows})
    number = {row: index for index, row in enumerate(wanted)}
    table = masked_log_probabilities(
        scorer, protein, wanted, max_residues=max_residues, progress=progress
    ).tolist()
    predicted, true, left_out = [], [], measured.num_left_out
    for changes, score in zip(measured.variants, measured.scores, strict=True):
        if any(position not in rows for _, position, _ in changes):
            left_out += 1
            continue
        predicted.append(
            sum(_gain(table[number[rows[place]]], wild, mutant) for wild, place, mutant in changes)
        )
        true.append(score)
    if len(true) < 2:
        return Correlation(
            assay.name, len(true), left_out, float("nan"), "fewer than two variants to correlate"
        )
    return Correlation(assay.name, len(true), left_out, spearman(predicted, true), notes=protein.notes)


def _gain(row: list[float], wild: str, mutant: str) -> float:
    return row[AMINO_ACIDS.index(mutant)] - row[AMINO_ACIDS.index(wild)]


def _protein(scorer: Scorer, assay: Assay, measured: Measurements) -> tuple[Protein, dict[int, int]]:
    """The protein to score on, and the row of each position that has one.

    Raises:
        RunError: there is no structure for a model that needs one, or its residues are others.
    """
    if assay.structure is None or (scorer.head is None and assay.sequence is not None):
        if scorer.head is not None:
            raise RunError("no structure beside the table, and this model needs one")
        if assay.sequence is None:
            raise RunError("neither a structure nor a sequence of the wild type beside the table")
        protein = protein_of_sequence(assay.name, assay.sequence)
    else:
        protein = scorer.read(assay.structure)
    rows = dict(_aligned(assay.sequence, protein))
    wrong = [
        change
        for changes in measured.variants
        for change in changes
        if not _fits(change, rows, protein.sequence)
    ]
    if wrong:
        wild, position, mutant = wrong[0]
        there = protein.sequence[rows[position]]
        raise RunError(
            f"{wild}{position + 1}{mutant}: the structure has {there} there; {len(wrong)} do not fit"
        )
    return protein, rows


def _fits(change: Change, rows: dict[int, int], sequence: str) -> bool:
    wild, position, _ = change
    return position not in rows or sequence[rows[position]] == wild


def _aligned(sequence: str | None, protein: Protein) -> Iterator[tuple[int, int]]:
    """Position in the wild-type sequence and row of the structure, for residues that both have."""
    if sequence is None:  # positions are residue numbers then, as they are in the table, from 1
        for row, number in enumerate(protein.residue_index.tolist()):
            yield number - 1, row
        return
    found = protein.sequence
    for block in SequenceMatcher(None, sequence, found, autojunk=False).get_matching_blocks():
        for offset in range(block.size):
            yield block.a + offset, block.b + offset
