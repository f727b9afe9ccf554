"""Variants of a protein as people write them, and the residues they speak of."""

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
    """A mutation that cannot be read, or that does not fit the structure."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """Another amino acid at one residue.

    Attributes:
        row: of the residue in its protein.
        residue: as the file names it.
        mutant: one-letter code of the new amino acid.
        copy: number among the residues that share chain, number and insertion code, from 1; 0 if there is
            one only.
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
    """The residues of a protein by chain, number and insertion code.

    Every variant of a protein has a name of its own. Where a chain has several residues of one number and
    insertion code, ``@2`` behind the mutation is the second of them.
    """

    def __init__(self, protein: Protein) -> None:
        self.protein = protein
        self.residues = list(residues_of(protein))
        self._rows: dict[Place, list[int]] = defaultdict(list)
        for row, residue in enumerate(self.residues):
            self._rows[residue[:3]].append(row)

    def all_substitutions(self, chain: str | None = None) -> list[Variant]:
        """Every amino acid at every residue (of one chain) but the one that is there.

        Raises:
            MutationError: there is no such chain, or it has none of the 20 amino acids.
        """
        if chain is not None and chain not in self.protein.chains:
            raise MutationError(f"{self.protein.name} has {no_chain(chain, self.protein.chains)} (--chain)")
        found: list[Variant] = [
            (self._exchanged(row, mutant),)
            for row, residue in enumerate(self.residues)
            if residue.letter in AMINO_ACIDS and chain in (None, residue.chain)
            for mutant in AMINO_ACIDS
            if mutant != residue.letter
        ]
        if not found:
            raise MutationError(f"{self.protein.name} has no residue of the 20 amino acids to exchange")
        return found

    def variant(self, text: str) -> Variant:
        """The variant a text names: ``A12G``, ``B:A12G``, ``A12BG`` (insertion code B), ``A12G+L15V``.

        ``A12G:L15V`` is ``A12G+L15V``, and ``p.Ala12Gly`` is ``A12G``.

        Raises:
            MutationError: it is of another form, names no residue or several, or another residue is there.
        """
        substitutions = tuple(self._substitution(*part, text) for part in self._parts(text))
        twice = [row for row, count in Counter(item.row for item in substitutions).items() if count > 1]
        if twice:
            raise MutationError(f"{text} changes {self.residues[twice[0]]} twice")
        return substitutions

    def _parts(self, text: str) -> Iterator[tuple[str | None, str]]:
        """Chain, ``None`` if it is not named, and mutation of each part of a text."""
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
            MutationError: it is a chain of the protein, and a mutation that fits.
        """
        read = _read(word)
        if read is None or word not in self.protein.chains:
            return read is not None
        rows = self._found(self.protein.chains, read[0])
        if read[0].wild not in {self.residues[row].letter for row in rows}:
            return False
        raise MutationError(
            f"{text}: {word} is a chain of {self.protein.name}, and a mutation of it",
            f"two mutations together: {text.replace(':', '+')}",
            "for a mutation of that chain, rename the chain in the file",
        )

    def _substitution(self, chain: str | None, text: str, variant: str) -> Substitution:
        read = _read(text)
        if read is None:
            raise MutationError(
                f"cannot read the mutation '{text}'" + (f" of '{variant}'" if text != variant else ""),
                "expected wild type, residue number and mutant in capitals, such as A12G",
                "with a chain: B:A12G; with insertion code B: A12BG; several at once: A12G+L15V",
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
        return self._exchanged(row, change.mutant)

    def _exchanged(self, row: int, mutant: str) -> Substitution:
        same = self._rows[self.residues[row][:3]]
        return Substitution(row, self.residues[row], mutant, same.index(row) + 1 if len(same) > 1 else 0)

    def _row(self, chain: str | None, change: Change, copy: int, name: str) -> int:
        """The only residue that fits chain, number, insertion code and copy.

        Raises:
            MutationError: there is none, or there are several: the choices are listed.
        """
        protein, place = self.protein, f"{change.number}{change.insertion_code}"
        if chain is not None and chain not in protein.chains:
            copies = self._found(copies_of(chain, protein.chains), change)
            raise MutationError(
                f"{name}: {protein.name} has {no_chain(chain, protein.chains)}",
                *self._choices(copies, change),
            )
        chains = protein.chains if chain is None else (chain,)
        rows = self._found(chains, change)
        if copy:
            rows = [row for row in rows if self._exchanged(row, change.mutant).copy == copy]
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

    def _found(self, chains: Sequence[str], change: Change) -> list[int]:
        places = [(chain, change.number, change.insertion_code) for chain in dict.fromkeys(chains)]
        return [row for place in places for row in self._rows.get(place, ())]

    def _near(self, number: int, chains: Sequence[str]) -> list[str]:
        """Lines that say which residues there are."""
        near = [f"there is: {residue}" for residue in self.residues if residue.number == number]
        numbers = [residue.number for residue in self.residues if residue.chain in chains]
        if numbers:
            near[3:] = [f"residue numbers go from {min(numbers)} to {max(numbers)}; gaps have no coordinates"]
        return near

    def _choices(self, rows: Sequence[int], change: Change) -> list[str]:
        """A line of what to type instead, with the residues that are there."""
        items = [self._exchanged(row, change.mutant) for row in rows]
        names = [str(item) if item.residue.chain else f":{item}" for item in items]
        return [f"name one: {', '.join(names)}"] * bool(names)

    def _where_it_fits(self, change: Change, chain: str) -> list[str]:
        """A hint where all numbers may be shifted: the nearest residue of the wanted type in the chain."""
        rows = [
            row
            for row, item in enumerate(self.residues)
            if item.letter == change.wild and item.chain == chain and abs(item.number - change.number) <= 30
        ]
        if not rows:
            return []
        closest = min(rows, key=lambda row: abs(self.residues[row].number - change.number))
        hint = "numbers are those of the file, not positions in the sequence"
        return [f"the nearest {change.wild} is {self.residues[closest]}; {hint}"]


def _place(residue: Residue) -> str:
    chain = f"chain {residue.chain} " if residue.chain else ""
    return f"{chain}residue {residue.number}{residue.insertion_code}"


def _read(text: str) -> tuple[Change, int] | None:
    """A mutation and the number of the copy behind ``@``, 0 without; ``None`` if it cannot be read."""
    text, at, copy = text.partition("@")
    change = read_change(text)
    if change is None or (at and not re.fullmatch("[0-9]+", copy)):
        return None
    return change, int(copy or 0)


def parse_list(addresses: Addresses, text: str) -> list[Variant]:
    """The variants in a text, separated by commas.

    Raises:
        MutationError: there is none, or one does not fit.
    """
    found = [addresses.variant(part.strip()) for part in text.split(",") if part.strip()]
    if not found:
        raise MutationError("the list of mutations is empty", "expected a mutation such as A12G")
    return found


def rows_of(variants: Sequence[Variant]) -> list[int]:
    """Rows of all residues that some variant changes, each once, in order."""
    return sorted({item.row for variant in variants for item in variant})
