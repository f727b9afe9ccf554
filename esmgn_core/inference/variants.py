"""Variants of a protein as people write them, and the residues they speak of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein
from esmgn_core.errors import EsmgnError
from esmgn_core.inference.embedding import Residue, residues_of

_MUTATION = re.compile(
    r"(?:(?P<chain>[^:+,\s]+):)?(?P<wild>[A-Z])(?P<number>-?\d+)(?P<code>[A-Z]?)(?P<mutant>[A-Z])"
)


class MutationError(EsmgnError):
    """A mutation that cannot be read, or that does not fit the structure."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """Another amino acid at one residue.

    Attributes:
        row: of the residue in its protein.
        residue: as the file names it.
        mutant: one-letter code of the new amino acid.
    """

    row: int
    residue: Residue
    mutant: str

    def __str__(self) -> str:
        return f"{self.residue}{self.mutant}"


Variant = tuple[Substitution, ...]
"""Substitutions that occur together."""


class Addresses:
    """The residues of a protein by chain, number and insertion code."""

    def __init__(self, protein: Protein) -> None:
        self.protein = protein
        self.residues = list(residues_of(protein))
        self._rows = {residue[:3]: row for row, residue in enumerate(self.residues)}

    def all_substitutions(self, chain: str | None = None) -> list[Variant]:
        """Every amino acid at every residue (of one chain) but the one that is there.

        Raises:
            MutationError: there is no such chain.
        """
        if chain is not None and chain not in self.protein.chains:
            known = ", ".join(name or "(blank)" for name in self.protein.chains)
            raise MutationError(
                f"{self.protein.name} has no chain '{chain}' (--chain)", f"its chains: {known}"
            )
        return [
            (Substitution(row, residue, mutant),)
            for row, residue in enumerate(self.residues)
            if residue.letter in AMINO_ACIDS and chain in (None, residue.chain)
            for mutant in AMINO_ACIDS
            if mutant != residue.letter
        ]

    def variant(self, text: str) -> Variant:
        """The variant a text names: ``A12G``, ``B:A12G``, ``A12BG`` (insertion code B), ``A12G+L15V``.

        Raises:
            MutationError: it is of another form, or another residue is there.
        """
        substitutions = tuple(self._substitution(part, text) for part in text.split("+"))
        twice = [row for row, count in Counter(item.row for item in substitutions).items() if count > 1]
        if twice:
            raise MutationError(f"{text} changes {self.residues[twice[0]]} twice")
        return substitutions

    def _substitution(self, text: str, variant: str) -> Substitution:
        match = _MUTATION.fullmatch(text.strip())
        if not match or match["wild"] not in AMINO_ACIDS or match["mutant"] not in AMINO_ACIDS:
            raise MutationError(
                f"cannot read the mutation '{text}'" + (f" of '{variant}'" if text != variant else ""),
                "expected wild type, residue number and mutant, such as A12G",
                "with a chain: B:A12G; with insertion code B: A12BG; several at once: A12G+L15V",
            )
        row = self._row(match["chain"], int(match["number"]), match["code"], text)
        residue = self.residues[row]
        if residue.letter != match["wild"]:
            raise MutationError(
                f"{text}: {_place(residue)} of {self.protein.name} is {residue.letter}, not {match['wild']}",
                *self._where_it_fits(match["wild"], int(match["number"])),
            )
        return Substitution(row, residue, match["mutant"])

    def _row(self, chain: str | None, number: int, code: str, text: str) -> int:
        chains = self.protein.chains if chain is None else (chain,)
        rows = [self._rows[place] for name in chains if (place := (name, number, code)) in self._rows]
        if chain is not None and chain not in self.protein.chains:
            known = ", ".join(name or "(blank)" for name in self.protein.chains)
            raise MutationError(f"{text}: {self.protein.name} has no chain {chain}", f"its chains: {known}")
        if not rows:
            near = [str(residue) for residue in self.residues if residue.number == number]
            numbers = [residue.number for residue in self.residues if residue.chain in chains]
            raise MutationError(
                f"{text}: {self.protein.name} has no residue {number}{code}"
                + (f" in chain {chain}" if chain else ""),
                *(f"there is: {name}" for name in near[:3]),
                f"residue numbers go from {min(numbers)} to {max(numbers)}; gaps have no coordinates",
            )
        if len(rows) > 1:
            found = ", ".join(f"{self.residues[row].chain}:{text}" for row in rows)
            raise MutationError(f"{text}: residue {number}{code} is in several chains", f"name one: {found}")
        return rows[0]

    def _where_it_fits(self, wild: str, number: int) -> list[str]:
        """A hint where all numbers may be shifted: the nearest residue of the wanted type."""
        near = [item for item in self.residues if item.letter == wild and abs(item.number - number) <= 30]
        if not near:
            return []
        closest = min(near, key=lambda item: abs(item.number - number))
        return [
            f"the nearest {wild} is {closest}; numbers are those of the file, not positions in the sequence"
        ]


def _place(residue: Residue) -> str:
    chain = f"chain {residue.chain} " if residue.chain else ""
    return f"{chain}residue {residue.number}{residue.insertion_code}"


def parse_list(addresses: Addresses, text: str) -> list[Variant]:
    """The variants in a text, separated by commas."""
    return [addresses.variant(part) for part in text.split(",") if part.strip()]


def rows_of(variants: Sequence[Variant]) -> list[int]:
    """Rows of all residues that some variant changes, each once, in order."""
    return sorted({item.row for variant in variants for item in variant})
