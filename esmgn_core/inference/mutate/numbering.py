"""Find the numbering of residues that a table of variants uses.

Tables have positions in the wild-type sequence, from 1 or 0, or residue numbers of a structure. A numbering
is used if at least 90 % of the wild types in the table agree with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import gemmi
import torch

from esmgn_core.batch import CA, Protein
from esmgn_core.errors import RunError
from esmgn_core.inference.embedding import residues_of

_LEAST = 0.9
_LEAST_ALIGNED = 0.5
_LONGEST_STEP = 4.5
"""Maximum distance in angstrom of consecutive CA atoms: usually 3.8, or 2.9 before a cis proline."""

Site = tuple[int, str]
"""Number and insertion code of a residue."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """A way to number the residues of a protein.

    Attributes:
        described: description for messages.
        letters: one-letter code of each residue by its number.
        rows: row in the protein of each residue with coordinates.
        complete: True if ``letters`` has all residues; False if residues without coordinates are missing.
    """

    described: str
    letters: Mapping[Site, str]
    rows: Mapping[Site, int]
    complete: bool

    def agreement(self, wild_types: Iterable[tuple[Site, str]]) -> tuple[int, int]:
        """Number of wild types that agree with this numbering, and number that do not."""
        pairs = [(self.letters.get(site), wild) for site, wild in wild_types]
        right = sum(letter == wild for letter, wild in pairs)
        unknown = 0 if self.complete else sum(letter is None for letter, _ in pairs)
        return right, len(pairs) - unknown - right


@dataclass(frozen=True, slots=True)
class Alignment:
    """Alignment of a chain of a structure to a sequence.

    Attributes:
        chain: index of the chain.
        rows: row in the protein of each aligned position in the sequence, from 0; identical residues only.
        num_uncertain: number of residues that fit several positions.
    """

    chain: int
    rows: Mapping[int, int]
    num_uncertain: int = 0


def positions(sequence: str, first: int, rows: Mapping[int, int], *, described: str = "") -> Numbering:
    """Positions in a sequence, counted from ``first``."""
    letters = {(first + place, ""): letter for place, letter in enumerate(sequence)}
    row_of = {(first + place, ""): row for place, row in rows.items()}
    described = described or f"positions from {first} in the sequence"
    return Numbering(described, letters, row_of, complete=True)


def residue_numbers(protein: Protein, chain: int) -> Numbering:
    """The residue numbers of a chain, without repeated numbers."""
    residues = list(residues_of(protein))
    rows = _rows(protein, chain)
    sites = [(residues[row].number, residues[row].insertion_code) for row in rows]
    count = Counter(sites)
    row_of = {site: row for site, row in zip(sites, rows, strict=True) if count[site] == 1}
    letters = {site: residues[row].letter for site, row in row_of.items()}
    return Numbering(f"residue numbers{_of_chain(protein, chain)}", letters, row_of, complete=False)


def numberings_of_chains(protein: Protein, firsts: Sequence[int]) -> Iterator[Numbering]:
    """The numberings to try without a sequence: residue numbers and positions of each chain."""
    chains = [chain for chain in range(len(protein.chains)) if _rows(protein, chain)]
    yield from (residue_numbers(protein, chain) for chain in chains)
    for first in firsts:
        for chain in chains:
            rows = _rows(protein, chain)
            sequence = "".join(protein.sequence[row] for row in rows)
            described = f"positions from {first} in the structure{_of_chain(protein, chain)}"
            yield positions(sequence, first, dict(enumerate(rows)), described=described)


def choose_numbering(numberings: Iterable[Numbering], wild_types: Set[tuple[Site, str]]) -> Numbering:
    """Choose the numbering with the best agreement; of equals the first.

    Raises:
        RunError: no numbering agrees with 90 % of the wild types, or different chains agree equally.
    """
    tried = [(item, *item.agreement(wild_types)) for item in numberings]
    fitting = [row for row in tried if row[1] and row[1] >= _LEAST * (row[1] + row[2])]
    if not fitting:
        counts = [f"{right} of {right + wrong} agree with {item.described}" for item, right, wrong in tried]
        raise RunError(f"the wild types in the table do not match: {', '.join(counts)}")
    best = max(right - wrong for _, right, wrong in fitting)
    chosen, *others = [item for item, right, wrong in fitting if right - wrong == best]
    rivals = [
        item
        for item in others
        if item.complete == chosen.complete and not _is_copy(item.letters, chosen.letters)
    ]
    if rivals:
        raise RunError(
            f"the wild types match {' and '.join(item.described for item in (chosen, *rivals))} equally: put "
            "the sequence of the wild type beside the table (FASTA)"
        )
    return chosen


def _is_copy(first: Mapping[Site, str], second: Mapping[Site, str]) -> bool:
    """True for copies of a chain. They may lack coordinates of different residues."""
    common = first.keys() & second.keys()
    return bool(common) and all(first[site] == second[site] for site in common)


def align(sequence: str, protein: Protein, firsts: Sequence[int]) -> Alignment:
    """Align the chain of a structure that has most residues of a sequence.

    If the residue numbers are positions in the sequence, they are used. Otherwise the sequences are aligned,
    with gaps at chain breaks. Residues that fit several positions equally, as in repeats, are not aligned.

    Raises:
        RunError: less than half of the residues of every chain match, or most positions are ambiguous.
    """
    alignments = [
        _by_number(sequence, protein, chain, firsts) or _by_sequence(sequence, protein, chain)
        for chain in range(len(protein.chains))
        if _rows(protein, chain)
    ]
    best = max(alignments, key=lambda item: len(item.rows) + item.num_uncertain)
    length = len(_rows(protein, best.chain))
    num_aligned = len(best.rows) + best.num_uncertain
    where = _of_chain(protein, best.chain)
    if num_aligned < _LEAST_ALIGNED * length:
        raise RunError(f"only {num_aligned} of {length} residues of the structure{where} match the sequence")
    if len(best.rows) < best.num_uncertain:
        raise RunError(
            f"{best.num_uncertain} of {length} residues of the structure{where} match the sequence "
            "at several places (repeats): number them by their positions in the sequence"
        )
    return best


def to_positions(numbering: Numbering, alignment: Alignment) -> Numbering:
    """Translate the rows of a numbering to positions, from 0, in the aligned sequence."""
    places = {row: place for place, row in alignment.rows.items()}
    rows = {site: places[row] for site, row in numbering.rows.items() if row in places}
    return replace(numbering, rows=rows)


def _by_number(sequence: str, protein: Protein, chain: int, firsts: Sequence[int]) -> Alignment | None:
    numbers = residue_numbers(protein, chain)
    for first in firsts:
        places = {number - first: row for (number, code), row in numbers.rows.items() if not code}
        rows = {
            place: row
            for place, row in places.items()
            if 0 <= place < len(sequence) and sequence[place] == protein.sequence[row]
        }
        if len(rows) >= _LEAST * len(_rows(protein, chain)):
            return Alignment(chain, rows)
    return None


def _by_sequence(sequence: str, protein: Protein, chain: int) -> Alignment:
    """Align the sequences; keep residues on which two optimal alignments agree."""
    rows = _rows(protein, chain)
    observed = "".join(protein.sequence[row] for row in rows)
    costs = _costs_of_gaps(protein, rows)
    forward = _aligned(sequence, observed, costs)
    # gemmi returns one of several optimal alignments. Reversed sequences give the one from the other end.
    backward = {
        len(sequence) - 1 - place: len(observed) - 1 - row
        for place, row in _aligned(sequence[::-1], observed[::-1], costs[::-1]).items()
    }
    certain = {place: rows[row] for place, row in forward.items() if backward.get(place) == row}
    return Alignment(chain, certain, len(forward) - len(certain))


def _costs_of_gaps(protein: Protein, rows: Sequence[int]) -> list[int]:
    """The cost to open a gap before each residue and after the last; 0 at chain breaks."""
    scoring = gemmi.AlignmentScoring()
    place = protein.backbone[rows, CA]
    steps = torch.linalg.vector_norm(place[1:] - place[:-1], dim=1)
    inner = [scoring.good_gapo if step > _LONGEST_STEP else scoring.bad_gapo for step in steps.tolist()]
    return [scoring.good_gapo, *inner, scoring.good_gapo]


def _aligned(sequence: str, observed: str, costs: Sequence[int]) -> dict[int, int]:
    """Map positions of equal letters from ``sequence`` to ``observed`` by global alignment."""
    scoring = gemmi.AlignmentScoring()
    aligned = gemmi.align_string_sequences(list(sequence), list(observed), list(costs), scoring)
    pairs: dict[int, int] = {}
    place = row = 0
    letters = sequence.replace("-", "?")  # add_gaps writes gaps as -
    for in_sequence, in_chain in zip(
        aligned.add_gaps(letters, 1), aligned.add_gaps(observed, 2), strict=True
    ):
        if in_sequence == in_chain:
            pairs[place] = row
        place += in_sequence != "-"
        row += in_chain != "-"
    return pairs


def _rows(protein: Protein, chain: int) -> list[int]:
    rows: list[int] = (protein.chain_index == chain).nonzero().flatten().tolist()
    return rows


def _of_chain(protein: Protein, chain: int) -> str:
    return f" of chain {protein.chains[chain]}" if len(protein.chains) > 1 else ""
