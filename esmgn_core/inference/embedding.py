"""Embeddings of proteins, with the residue of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from esmgn_core.batch import Encoding, Protein
from esmgn_core.printable import counted


class Residue(NamedTuple):
    """A residue, with its name in the structure file.

    Attributes:
        chain: chain identifier.
        number: residue number.
        insertion_code: one letter, or empty.
        letter: one-letter code; X for a residue without a standard parent.
    """

    chain: str
    number: int
    insertion_code: str
    letter: str

    def __str__(self) -> str:
        chain = f"{self.chain}:" if self.chain else ""
        return f"{chain}{self.letter}{self.number}{self.insertion_code}"


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The embedding of one protein of ``n`` residues.

    Attributes:
        protein_read: the protein that was embedded, with coordinates and pLDDT.
        protein: float32 [D].
        residue: float32 [n, D]; row ``i`` belongs to ``residues()[i]``.
    """

    protein_read: Protein
    protein: Tensor
    residue: Tensor

    @property
    def name(self) -> str:
        """Name of the protein."""
        return self.protein_read.name

    def __len__(self) -> int:
        return len(self.protein_read)

    def __repr__(self) -> str:
        return f"Embedding({self.name!r}, {counted(len(self), 'residue')}, width {self.protein.shape[0]})"

    def residues(self) -> list[Residue]:
        """The residue of each row."""
        return list(residues_of(self.protein_read))


def residues_of(protein: Protein) -> Iterator[Residue]:
    """The residues of a protein in the order of its rows."""
    codes = [""] * len(protein)
    if protein.insertion_code is not None:
        codes = [chr(code).strip() for code in protein.insertion_code.tolist()]
    chains = [protein.chains[index] for index in protein.chain_index.tolist()]
    numbers = protein.residue_index.tolist()
    return map(Residue, chains, numbers, codes, protein.sequence)


def embeddings_of(proteins: Sequence[Protein], encoding: Encoding) -> list[Embedding]:
    """Split the encoding of packed proteins into one embedding for each."""
    rows = torch.split(encoding.residue, [len(protein) for protein in proteins])
    return [
        Embedding(protein, encoding.protein[number], residue)
        for number, (protein, residue) in enumerate(zip(proteins, rows, strict=True))
    ]
