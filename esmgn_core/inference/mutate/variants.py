"""Mutations given by users, such as ``A:K2A``, and the residues they refer to."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from esmgn_core.alphabet import AMINO_ACIDS
from esmgn_core.batch import Protein
from esmgn_core.errors import EsmgnError
from esmgn_core.inference.embedding import Residue, residues_of
from esmgn_core.inference.mutate.notation import Change, read_change
from esmgn_core.io.chains import copies_of, no_chain

Place = tuple[str, int, str]
"""Chain, residue number and insertion code."""


class MutationError(EsmgnError):
    """A mutation that cannot be read or does not match the structure."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """The replacement of one residue.

    Attributes:
        row: row of the residue in its protein.
        residue: the residue, with its name in the file.
        mutant: one-letter code of the mutant.
        copy: number, from 1, among residues with the same chain, number and insertion code; 0 if the residue
            is unique.
    """

    row: int
    residue: Residue
    mutant: str
    copy: int = 0

    def __str__(self) -> str:
        return f"{self.residue}{self.mutant}" + (f"@{self.copy}" if self.copy else "")


Variant = tuple[Substitution, ...]
"""Substitutions that occur together."""


class Addresses:
    """Lookup of the residues of a protein by chain, number and insertion code.

    Every variant has a unique name. If a chain has several residues with one number and insertion code, the
    suffix ``@2`` selects the second.
    """

    def __init__(self, protein: Protein) -> None:
        self.protein = protein
        self.residues = list(residues_of(protein))
        self._rows: dict[Place, list[int]] = defaultdict(list)
        for row, residue in enumerate(self.residues):
            self._rows[residue[:3]].append(row)

    def all_substitutions(self, chain: str | None = None) -> list[Variant]:
        """All single substitutions of the protein or of one chain.

        Raises:
            MutationError: the chain does not exist or has none of the 20 amino acids.
        """
        if chain is not None and chain not in self.protein.chains:
            raise MutationError(f"{self.protein.name} has {no_chain(chain, self.protein.chains)} (--chain)")
        variants: list[Variant] = [
            (self._substitute(row, mutant),)
            for row, residue in enumerate(self.residues)
            if residue.letter in AMINO_ACIDS and chain in (None, residue.chain)
            for mutant in AMINO_ACIDS
            if mutant != residue.letter
        ]
        if not variants:
            raise MutationError(f"{self.protein.name} has none of the 20 amino acids")
        return variants

    def variant(self, text: str) -> Variant:
        """Parse a variant: ``A12G``, ``B:A12G``, ``A12BG`` (insertion code B), ``A12G+L15V``.

        ``A12G:L15V`` is read as ``A12G+L15V``, and ``p.Ala12Gly`` as ``A12G``.

        Raises:
            MutationError: the text is invalid, matches no residue or several, or has another wild type.
        """
        substitutions = tuple(self._substitution(*part, text) for part in self._parts(text))
        twice = [row for row, count in Counter(item.row for item in substitutions).items() if count > 1]
        if twice:
            raise MutationError(f"{text} changes {self.residues[twice[0]]} twice")
        return substitutions

    def _parts(self, text: str) -> Iterator[tuple[str | None, str]]:
        """Chain (``None`` if not given) and mutation of each part of a text."""
        for piece in text.split("+"):
            chain: str | None = None
            *before, last = (word.strip() for word in piece.split(":"))
            for word in before:
                if chain is not None:
                    yield chain, word
                    chain = None
                elif self._is_mutation(word, text):
                    yield None, word
                else:
                    chain = word
            yield chain, last

    def _is_mutation(self, word: str, text: str) -> bool:
        """True if a word before a colon is a mutation, False if it is a chain.

        Raises:
            MutationError: it is both a chain of the protein and a matching mutation.
        """
        read = _read(word)
        if read is None or word not in self.protein.chains:
            return read is not None
        rows = self._matching_rows(self.protein.chains, read[0])
        if read[0].wild not in {self.residues[row].letter for row in rows}:
            return False
        raise MutationError(
            f"{text}: {word} is both a chain of {self.protein.name} and a mutation of it",
            f"for two mutations, write: {text.replace(':', '+')}",
            "for a mutation of that chain, rename the chain in the file",
        )

    def _substitution(self, chain: str | None, text: str, variant: str) -> Substitution:
        read = _read(text)
        if read is None:
            raise MutationError(
                f"cannot read the mutation '{text}'" + (f" in '{variant}'" if text != variant else ""),
                "expected wild type, residue number and mutant, such as A12G",
                "with chain: B:A12G; with insertion code B: A12BG; several together: A12G+L15V",
            )
        change, copy = read
        name = text if chain is None else f"{chain}:{text}"
        row = self._row(chain, change, copy, name)
        residue = self.residues[row]
        if residue.letter != change.wild:
            raise MutationError(
                f"{name}: {_place(residue)} of {self.protein.name} is {residue.letter}, not {change.wild}",
                *self._where_it_fits(change, residue.chain),
            )
        return self._substitute(row, change.mutant)

    def _substitute(self, row: int, mutant: str) -> Substitution:
        same = self._rows[self.residues[row][:3]]
        return Substitution(row, self.residues[row], mutant, same.index(row) + 1 if len(same) > 1 else 0)

    def _row(self, chain: str | None, change: Change, copy: int, name: str) -> int:
        """The row of the residue with this chain, number, insertion code and copy.

        Raises:
            MutationError: there is none, or there are several; the message lists them.
        """
        protein, place = self.protein, f"{change.number}{change.insertion_code}"
        if chain is not None and chain not in protein.chains:
            copies = self._matching_rows(copies_of(chain, protein.chains), change)
            raise MutationError(
                f"{name}: {protein.name} has {no_chain(chain, protein.chains)}",
                *self._choices(copies, change),
            )
        chains = protein.chains if chain is None else (chain,)
        rows = self._matching_rows(chains, change)
        if copy:
            rows = [row for row in rows if self._substitute(row, change.mutant).copy == copy]
        if not rows:
            raise MutationError(
                f"{name}: {protein.name} has no residue {place}"
                + (f"@{copy}" if copy else "")
                + (f" in chain {chain}" if chain else ""),
                *self._near(change.number, chains),
            )
        if len(rows) > 1:
            several = len({self.residues[row].chain for row in rows}) > 1
            where = "is in several chains" if several else f"occurs {len(rows)} times"
            raise MutationError(f"{name}: residue {place} {where}", *self._choices(rows, change))
        return rows[0]

    def _matching_rows(self, chains: Sequence[str], change: Change) -> list[int]:
        places = [(chain, change.number, change.insertion_code) for chain in dict.fromkeys(chains)]
        return [row for place in places for row in self._rows.get(place, ())]

    def _near(self, number: int, chains: Sequence[str]) -> list[str]:
        """Hints: residues with this number, and the range of numbers."""
        near = [f"exists: {residue}" for residue in self.residues if residue.number == number]
        numbers = [residue.number for residue in self.residues if residue.chain in chains]
        if numbers:  # the range replaces all but three residues
            near[3:] = [
                f"residue numbers are {min(numbers)} to {max(numbers)}; gaps are residues without coordinates"
            ]
        return near

    def _choices(self, rows: Sequence[int], change: Change) -> list[str]:
        """A hint with the names of all matching residues."""
        items = [self._substitute(row, change.mutant) for row in rows]
        names = [str(item) if item.residue.chain else f":{item}" for item in items]
        return [f"choose one: {', '.join(names)}"] * bool(names)

    def _where_it_fits(self, change: Change, chain: str) -> list[str]:
        """A hint for shifted numbers: the nearest residue of this type in the chain."""
        rows = [
            row
            for row, item in enumerate(self.residues)
            if item.letter == change.wild and item.chain == chain and abs(item.number - change.number) <= 30
        ]
        if not rows:
            return []
        closest = min(rows, key=lambda row: abs(self.residues[row].number - change.number))
        hint = "use the residue numbers of the file, not positions in the sequence"
        return [f"the nearest {change.wild} is {self.residues[closest]}; {hint}"]


def _place(residue: Residue) -> str:
    chain = f"chain {residue.chain} " if residue.chain else ""
    return f"{chain}residue {residue.number}{residue.insertion_code}"


def _read(text: str) -> tuple[Change, int] | None:
    """A mutation and its copy number after ``@``, or 0; ``None`` if it cannot be read."""
    text, at, copy = text.partition("@")
    change = read_change(text)
    if change is None or (at and not re.fullmatch("[0-9]+", copy)):
        return None
    return change, int(copy or 0)


def parse_list(addresses: Addresses, text: str) -> list[Variant]:
    """Parse variants that are separated by commas.

    Raises:
        MutationError: there is none, or one is invalid.
    """
    variants = [addresses.variant(part.strip()) for part in text.split(",") if part.strip()]
    if not variants:
        raise MutationError("the list of mutations is empty", "expected a mutation such as A12G")
    return variants


def rows_of(variants: Sequence[Variant]) -> list[int]:
    """Sorted rows of all residues that the variants change."""
    return sorted({item.row for variant in variants for item in variant})
