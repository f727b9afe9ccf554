"""How well scores of mutations rank measured ones: Spearman's correlation for each scan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from esmgn_core.batch import Protein
from esmgn_core.errors import RunError, StructureError
from esmgn_core.inference.fasta import protein_of_sequence
from esmgn_core.inference.mutate.assays import Assay, Measurements, read_measurements
from esmgn_core.inference.mutate.notation import Change
from esmgn_core.inference.mutate.numbering import (
    Numbering,
    Site,
    align,
    choose,
    numberings_of_chains,
    positions,
    residue_numbers,
    through,
)
from esmgn_core.inference.mutate.score import gain, masked_log_probabilities
from esmgn_core.inference.mutate.scorer import Scorer
from esmgn_core.metrics import spearman

Progress = Callable[[int, int], None]

NO_COORDINATES = "at a residue that the structure lacks or has exchanged"
OTHER_WILD_TYPE = "another wild type"


@dataclass(frozen=True, slots=True)
class Correlation:
    """The result of one scan.

    Attributes:
        name: of the scan.
        num_variants: variants that were scored and measured.
        left_out: number of rows that were not, by reason.
        spearman: rank correlation of masked-marginal with measured scores; NaN where ``problem`` says why.
        problem: why the scan could not be used; empty if it was.
        notes: of the structure, see :class:`esmgn_core.batch.Protein`.
        numbering: what the numbers in the table are: positions, or residue numbers.
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
        """Rows that were not scored, whatever the reason."""
        return sum(self.left_out.values())


def correlate(
    scorer: Scorer, assay: Assay, *, max_residues: int, progress: Progress | None = None
) -> Correlation:
    """Score the variants of a scan by masked marginals, added up over substitutions, and correlate."""
    left_out: Counter[str] = Counter()
    try:
        measured = read_measurements(assay)
        left_out = measured.left_out.copy()
        protein, numbering = _protein(scorer, assay, measured)
    except (RunError, StructureError) as error:
        return Correlation(assay.name, 0, math.nan, left_out, error.message)
    chosen: list[tuple[tuple[Change, ...], float]] = []
    for changes, score in zip(measured.variants, measured.scores, strict=True):
        if reason := _reason(changes, numbering):
            left_out[reason] += 1
        else:
            chosen.append((changes, score))
    rows = sorted({numbering.rows[_site(change)] for changes, _ in chosen for change in changes})
    number = {row: index for index, row in enumerate(rows)}
    table = masked_log_probabilities(
        scorer, protein, rows, max_residues=max_residues, progress=progress
    ).tolist()
    predicted = [
        sum(
            gain(table[number[numbering.rows[_site(change)]]], change.wild, change.mutant)
            for change in changes
        )
        for changes, _ in chosen
    ]
    scores = [score for _, score in chosen]
    value, problem, notes = math.nan, "", protein.notes
    if len(chosen) < 2:
        problem = "fewer than two variants to correlate"
    elif len(set(scores)) == 1 or len(set(predicted)) == 1:
        problem = "all measured scores, or all predicted ones, are equal"
    else:
        value = spearman(predicted, scores)
    if repeated := len(chosen) - len({changes for changes, _ in chosen}):
        notes = (*notes, f"rows that repeat a variant, each of which counts: {repeated}")
    return Correlation(assay.name, len(chosen), value, left_out, problem, notes, numbering.described)


def _reason(changes: tuple[Change, ...], numbering: Numbering) -> str:
    """Why a variant cannot be scored; empty if it can."""
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
    """The protein to score on, and how the table numbers its residues.

    Raises:
        RunError: there is no structure for a model that needs one, or the table has other residues.
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
            return protein, choose(numberings, wild_types)
        except RunError:
            if structure is None:
                raise
        read = scorer.read(structure)
        alignment = align(sequence, read, firsts)
        numberings.append(through(residue_numbers(read, alignment.chain), alignment))
        return protein, choose(numberings, wild_types)
    if structure is None:
        if scorer.head is not None:
            raise RunError("no structure beside the table, and this model needs one")
        raise RunError("neither a structure nor a sequence of the wild type beside the table")
    protein = scorer.read(structure)
    if sequence is None:
        return protein, choose(numberings_of_chains(protein, firsts), wild_types)
    alignment = align(sequence, protein, firsts)
    numberings = [positions(sequence, first, alignment.rows) for first in firsts]
    numberings.append(residue_numbers(protein, alignment.chain))
    return protein, choose(numberings, wild_types)
